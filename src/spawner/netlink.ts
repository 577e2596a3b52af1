// What the kernel is told of devices, addresses, routes and neighbours: rtnetlink(7), <linux/rtnetlink.h>, <linux/if_link.h>, <linux/veth.h>.
// Numbers are in the machine's own order: both architectures that ebb runs on are little-endian.

import type { NetworkThing } from "./door.ts";

const messages = { newLink: 16, newAddress: 20, newRoute: 24, newNeighbour: 28, error: 2 } as const;
const request = 1;
const acknowledge = 4;
const replace = 0x100;
const exclusive = 0x200;
const create = 0x400;
const ipv4 = 2;
const linkUp = 1;
const wholeAddress = 32;
const mainTable = 254;
const byAdministrator = 4;
const unicast = 1;
const scopes = { universe: 0, link: 253 } as const;
/** The gateway needs no route of its own. */
const onLink = 4;
const permanent = 0x80;
const nestedInfo = { kind: 1, data: 2, peer: 1 } as const;
const linkAttributes = { address: 1, name: 3, info: 18, namespace: 28 } as const;
const addressAttributes = { address: 1, local: 2 } as const;
const routeAttributes = { to: 1, device: 4, gateway: 5, source: 7 } as const;
const neighbourAttributes = { address: 1, hardware: 2 } as const;
const headerBytes = 16;

/** What netlink does; the switches of a namespace are files. */
export type LinkThing = Exclude<NetworkThing, { readonly kind: "switch" }>;

/** `index`: of the thing's device (a pair has none yet). `namespace`: the descriptor of the pair's other end's. */
export function encode(thing: LinkThing, place: { readonly index: number; readonly namespace: number }): Buffer {
  const { index } = place;
  switch (thing.kind) {
    case "pair": {
      const { peer } = thing;
      const other = [device(0, 0), ...named(peer), attribute(linkAttributes.namespace, uint32(place.namespace))];
      const kind = attribute(nestedInfo.kind, text("veth"));
      const data = attribute(nestedInfo.data, attribute(nestedInfo.peer, ...other));
      const info = attribute(linkAttributes.info, kind, data);
      return message(messages.newLink, create | exclusive, device(0, 0), ...named(thing), info);
    }
    case "up":
      return message(messages.newLink, 0, device(index, linkUp));
    case "address": {
      const head = Buffer.from([ipv4, wholeAddress, 0, scopes.universe, ...uint32(index)]);
      const address = bytes(thing.address);
      const both = [attribute(addressAttributes.local, address), attribute(addressAttributes.address, address)];
      return message(messages.newAddress, create | exclusive, head, ...both);
    }
    case "route": {
      const [to, prefix] = thing.to === null ? [null, 0] : networkOf(thing.to);
      const scope = thing.via === undefined ? scopes.link : scopes.universe;
      const head = Buffer.from([ipv4, prefix, 0, 0, mainTable, byAdministrator, scope, unicast]);
      const attributes = [attribute(routeAttributes.device, uint32(index))];
      if (to !== null) attributes.push(attribute(routeAttributes.to, bytes(to)));
      if (thing.via !== undefined) attributes.push(attribute(routeAttributes.gateway, bytes(thing.via)));
      if (thing.source !== undefined) attributes.push(attribute(routeAttributes.source, bytes(thing.source)));
      const flags = uint32(thing.via === undefined ? 0 : onLink);
      return message(messages.newRoute, create | replace, head, flags, ...attributes);
    }
    default: {
      const head = Buffer.from([ipv4, 0, 0, 0, ...uint32(index), permanent, 0, 0, 0]);
      const address = attribute(neighbourAttributes.address, bytes(thing.address));
      const hardware = attribute(neighbourAttributes.hardware, hardwareBytes(thing.hardware));
      return message(messages.newNeighbour, create | replace, head, address, hardware);
    }
  }
}

/** The error number of an answer, 0 for success; null: it is no answer to a request. */
export function errorIn(answer: Buffer): number | null {
  if (answer.length < headerBytes + 4 || answer.readUInt16LE(4) !== messages.error) return null;
  return Math.abs(answer.readInt32LE(headerBytes));
}

function message(type: number, flags: number, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  const head = Buffer.alloc(headerBytes);
  head.writeUInt32LE(headerBytes + body.length);
  head.writeUInt16LE(type, 4);
  head.writeUInt16LE(request | acknowledge | flags, 6);
  return Buffer.concat([head, body]);
}

/** Padded to four bytes; its length does not count that. */
function attribute(type: number, ...parts: readonly Buffer[]): Buffer {
  const value = Buffer.concat(parts);
  const whole = Buffer.alloc((4 + value.length + 3) & ~3);
  whole.writeUInt16LE(4 + value.length);
  whole.writeUInt16LE(type, 2);
  value.copy(whole, 4);
  return whole;
}

/** struct ifinfomsg; `flags` are what is to be set of it. */
function device(index: number, flags: number): Buffer {
  return Buffer.concat([uint32(0), uint32(index), uint32(flags), uint32(flags)]);
}

function named(one: { readonly device: string; readonly hardware: string }): Buffer[] {
  return [
    attribute(linkAttributes.name, text(one.device)),
    attribute(linkAttributes.address, hardwareBytes(one.hardware)),
  ];
}

function text(value: string): Buffer {
  return Buffer.from(`${value}\0`);
}

/** An address, or `10.0.0.0/8`. */
function networkOf(words: string): [string, number] {
  const [address = "", prefix = `${wholeAddress}`] = words.split("/");
  return [address, Number(prefix)];
}

function uint32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32LE(value);
  return buffer;
}

function bytes(address: string): Buffer {
  return Buffer.from(address.split(".").map(Number));
}

function hardwareBytes(address: string): Buffer {
  return Buffer.from(address.replaceAll(":", ""), "hex");
}
