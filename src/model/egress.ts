// What a workload may reach outside: entries of an allow-list, an operator's permits, and what of the one the other lets through.

import { domainToASCII } from "node:url";
import {
  contains,
  formatCidr,
  isReachable,
  neverPermitted,
  notPublic,
  overlaps,
  parseAddress,
  parseCidr,
  type Cidr,
} from "./address.ts";
import type { Egress } from "./workload.ts";

export interface Port {
  readonly protocol: "tcp" | "udp";
  readonly number: number;
}

export type Target =
  | { readonly kind: "name"; readonly name: string }
  /** All names below it, and not itself. */
  | { readonly kind: "below"; readonly name: string }
  | { readonly kind: "network"; readonly cidr: Cidr };

/** One line of an allow-list. */
export interface Entry {
  /** In the one way of writing it. */
  readonly text: string;
  readonly target: Target;
  readonly port: Port;
}

/** A network that is not public and that the operator opens to a project. */
export interface Permit {
  readonly text: string;
  readonly cidr: Cidr;
  /** null: every port and protocol. */
  readonly port: Port | null;
}

/** What is open by address alone, whoever asked for which name. */
export interface Grant {
  readonly cidr: Cidr;
  readonly port: Port | null;
}

export type Read<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly why: string };

export const entryForm = "HOST:PORT, such as db.example.com:5432 or 10.1.0.0/16:6379";
export const permitForm = "a network and perhaps a port, such as 10.1.0.0/16:5432";

/** Names that never leave the machine: RFC 6761, 6762 (local), 7686 (onion), 9476 (alt). */
export const neverAsked: ReadonlySet<string> = new Set(["local", "onion", "invalid", "test", "alt"]);
/** Private networks' own zones: RFC 6762 (appendix G), and ICANN's resolution that `internal` is never delegated. */
export const privateZones: ReadonlySet<string> = new Set([
  "internal",
  "intranet",
  "private",
  "corp",
  "home",
  "lan",
  "localdomain",
]);
/** The name by which a sandbox finds ebb, and below it the workloads of its project. */
export const ownName = "ebb.internal";

const mailPort = 25;
const textMax = 300;

function wrong(why: string): { readonly ok: false; readonly why: string } {
  return { ok: false, why };
}

/** `why` goes on a sentence that says what was expected. */
export function readEntry(text: string): Read<Entry> {
  if (text === "" || text.length > textMax) return wrong(text === "" ? "it is empty" : "it is too long");
  if (text.includes("://")) return wrong("it is a URL; write its host and its port alone");
  const split = splitPort(text);
  if (!split.ok) return split;
  const { host, port } = split.value;
  if (port === null) return wrong("it names no port");
  const target = readTarget(host, port);
  if (!target.ok) return target;
  return { ok: true, value: { text: targetText(target.value) + portText(port), target: target.value, port } };
}

export function readPermit(text: string): Read<Permit> {
  const split = splitPort(text);
  if (!split.ok) return split;
  const { host, port } = split.value;
  const cidr = readNetwork(host);
  if (!cidr.ok) return cidr;
  if (isPublic(cidr.value)) return wrong("it is public, and open without a permit");
  return { ok: true, value: { text: networkText(cidr.value) + (port ? portText(port) : ""), cidr: cidr.value, port } };
}

function splitPort(text: string): Read<{ readonly host: string; readonly port: Port | null }> {
  if (text.includes("[") || (text.match(/:/g)?.length ?? 0) > 1)
    return wrong("it looks like IPv6, which sandboxes do not have; write a name, or an IPv4 address");
  const at = text.indexOf(":");
  if (at < 0) return { ok: true, value: { host: text, port: null } };
  const host = text.slice(0, at);
  const [digits = "", protocol = "tcp", more] = text.slice(at + 1).split("/");
  if (/^\d+-\d+$/.test(digits)) return wrong("a range of ports is not possible; write an entry for each port");
  if (!/^\d{1,5}$/.test(digits) || String(Number(digits)) !== digits || Number(digits) < 1 || Number(digits) > 65_535)
    return wrong("a port is a whole number from 1 to 65535");
  if (more !== undefined || (protocol !== "tcp" && protocol !== "udp"))
    return wrong("behind a port stands nothing, or /udp");
  if (Number(digits) === mailPort && protocol === "tcp")
    return wrong("port 25 (mail between servers) is closed for all; hand mail in at port 587 or 465");
  return { ok: true, value: { host, port: { protocol, number: Number(digits) } } };
}

function readTarget(host: string, port: Port): Read<Target> {
  if (/^[\d./]+$/.test(host)) {
    const cidr = readNetwork(host);
    return cidr.ok ? { ok: true, value: { kind: "network", cidr: cidr.value } } : cidr;
  }
  if (host === "*") return wrong("for every public address write egress: internet");
  const below = host.startsWith("*.");
  const name = (below ? host.slice(2) : host).toLowerCase();
  const why = refuseName(name, below ? "*." : "", port);
  if (why !== null) return wrong(why);
  if (below && !name.includes("."))
    return wrong("a wildcard stands below a domain of two labels or more: *.example.com");
  return { ok: true, value: { kind: below ? "below" : "name", name } };
}

/** Null: it can be a host's name, and one that is answered. */
function refuseName(name: string, before: string, port: Port): string | null {
  if (name === "") return "it names no host";
  if (name.includes("*")) return "* stands in front only, for the names below a domain: *.example.com";
  if (name.includes("/")) return "a network is written in numbers: 10.1.0.0/16";
  if (name.includes("_")) return "a host's name has no underscore";
  if (name.endsWith(".")) return "leave out the dot at its end";
  if (/[^\0-\x7f]/.test(name)) {
    const ascii = domainToASCII(name);
    return ascii === "" ? "it is no name" : `write it as the network does: ${before}${ascii}${portText(port)}`;
  }
  const labels = name.split(".");
  if (name.length > 253 || !labels.every((label) => /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(label)))
    return "it is no host's name: labels of letters, digits and hyphens, joined by dots";
  const top = labels.at(-1)!;
  if (/^\d+$/.test(top)) return "it is neither a name nor an IPv4 address";
  if (top === "localhost") return "localhost is the sandbox itself";
  if (name === ownName || name.endsWith(`.${ownName}`)) return "ebb is always reached by http://ebb.internal";
  if (neverAsked.has(top)) return `.${top} names are never resolved`;
  if (labels.length === 1 && before === "") return "a name without a dot would be one of the machine's own network";
  return null;
}

function readNetwork(text: string): Read<Cidr> {
  const cidr = parseCidr(text);
  if (cidr === null) return wrong(refuseNetwork(text));
  if (cidr.prefix === 0) return wrong("for every public address write egress: internet");
  const never = neverPermitted.find((one) => overlaps(one, cidr));
  if (never)
    return wrong(`${networkText(never)} is in it (loopback, link-local, metadata, multicast), which nothing opens`);
  return { ok: true, value: cidr };
}

function refuseNetwork(text: string): string {
  const [address = "", prefix] = text.split("/");
  const value = parseAddress(address);
  if (value === null || text.split("/").length > 2) return "it is no IPv4 address or network";
  if (prefix === undefined || !/^\d{1,2}$/.test(prefix) || String(Number(prefix)) !== prefix || Number(prefix) > 32)
    return "a network ends in / and a number from 0 to 32";
  const base = Number(prefix) === 0 ? 0 : (value & (0xffff_ffff << (32 - Number(prefix)))) >>> 0;
  return `it is an address within a network; the network is ${formatCidr({ base, prefix: Number(prefix) })}`;
}

function targetText(target: Target): string {
  if (target.kind === "network") return networkText(target.cidr);
  return target.kind === "below" ? `*.${target.name}` : target.name;
}

function networkText(cidr: Cidr): string {
  const text = formatCidr(cidr);
  return cidr.prefix === 32 ? text.slice(0, -3) : text;
}

function portText({ protocol, number }: Port): string {
  return `:${number}${protocol === "udp" ? "/udp" : ""}`;
}

/** Nothing in it needs a permit. */
export function isPublic(cidr: Cidr): boolean {
  return !notPublic.some((one) => overlaps(one, cidr));
}

function holds(outer: Cidr, inner: Cidr): boolean {
  return outer.prefix <= inner.prefix && contains(outer, inner.base);
}

function samePort(a: Port, b: Port): boolean {
  return a.number === b.number && a.protocol === b.protocol;
}

/** Does it hold at this port? */
export function covers(permit: Permit, port: Port): boolean {
  return permit.port === null || samePort(permit.port, port);
}

/** Entries and permits were read before they were stored: what cannot be read opens nothing. */
export function entriesOf(egress: Egress): "none" | "internet" | readonly Entry[] {
  return typeof egress === "string" ? egress : egress.flatMap((text) => valueOf(readEntry(text)));
}

export function permitsOf(texts: readonly string[]): readonly Permit[] {
  return texts.flatMap((text) => valueOf(readPermit(text)));
}

function valueOf<T>(read: Read<T>): readonly T[] {
  return read.ok ? [read.value] : [];
}

/** Why the operator's permits leave an entry without effect, and what is to be asked for; null: they do not. */
export function refuseEntry(entry: Entry, project: string, permits: readonly Permit[]): string | null {
  const { target, port } = entry;
  const ask = (wish: string): string =>
    `ask the operator for: ebb projects set ${project} --egress-permit ${[...permits.map(({ text }) => text), wish].join(",")}`;
  if (target.kind === "network") {
    if (isPublic(target.cidr)) return null;
    if (permits.some((permit) => holds(permit.cidr, target.cidr) && covers(permit, port))) return null;
    return `${networkText(target.cidr)} is not public, and not permitted to project "${project}"; ${ask(entry.text)}`;
  }
  // Elsewhere a name may have a public address, and tomorrow another one.
  if (!privateZones.has(target.name.slice(target.name.lastIndexOf(".") + 1))) return null;
  if (permits.some((permit) => covers(permit, port))) return null;
  return `${target.name} is a name of a private network, and none is permitted to project "${project}" at that port; ${ask(`NETWORK${portText(port)}`)}`;
}

/** What is open from the start, beside the public addresses of `internet`; no grant lies within another. */
export function grantsOf(egress: Egress | readonly Entry[], permits: readonly Permit[]): readonly Grant[] {
  if (egress === "none") return [];
  if (egress === "internet") return withoutRepeats(permits);
  const entries = egress.flatMap((entry) => (typeof entry === "string" ? valueOf(readEntry(entry)) : [entry]));
  return withoutRepeats(
    entries.flatMap(({ target, port }) => {
      if (target.kind !== "network") return [];
      if (isPublic(target.cidr)) return [{ cidr: target.cidr, port }];
      return permits
        .filter((permit) => covers(permit, port) && overlaps(permit.cidr, target.cidr))
        .map(({ cidr }) => ({ cidr: holds(cidr, target.cidr) ? target.cidr : cidr, port }));
    }),
  );
}

function withoutRepeats(grants: readonly Grant[]): readonly Grant[] {
  const kept: Grant[] = [];
  // The wide ones first: what lies within one that is kept adds nothing.
  for (const { cidr, port } of grants.toSorted((a, b) => a.cidr.prefix - b.cidr.prefix)) {
    const known = kept.some(
      (one) => holds(one.cidr, cidr) && (one.port === null ? port === null : port !== null && samePort(one.port, port)),
    );
    if (!known) kept.push({ cidr, port });
  }
  return kept;
}

export function isNamed(entries: readonly Entry[], name: string): boolean {
  return entries.some(({ target }) => matches(target, name));
}

/** The ports that an allow-list opens at an address which its resolver answered for this name. */
export function portsAt(
  entries: readonly Entry[],
  permits: readonly Permit[],
  name: string,
  address: number,
): readonly Port[] {
  const ports = entries
    .filter(({ target }) => matches(target, name))
    .map(({ port }) => port)
    .filter((port) => {
      const permitted = permits.filter((permit) => covers(permit, port)).map(({ cidr }) => cidr);
      return isReachable(address, permitted) && !neverPermitted.some((never) => contains(never, address));
    });
  return ports.filter((port, at) => ports.findIndex((one) => samePort(one, port)) === at);
}

function matches(target: Target, name: string): boolean {
  if (target.kind === "name") return target.name === name;
  return target.kind === "below" && name.endsWith(`.${target.name}`);
}
