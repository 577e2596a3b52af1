// The daemon's own subnet: where it may lie on this machine, and who has which address in it.

import { contains, formatAddress, formatCidr, overlaps, parseAddress, parseCidr, type Cidr } from "#model/address.ts";

/** 4,094 addresses: more sandboxes than a machine holds, and small enough that 1,000 daemons would fit. */
export const subnetPrefix = 20;
const subnetSize = 2 ** (32 - subnetPrefix);
/** Network, gateway, router; the first sandbox comes after them. */
const firstHost = 3;

/**
 * Where subnets are looked for, in order. 198.18.0.0/15 is set aside for benchmarks (RFC 2544) and so on nobody's network;
 * 100.64.0.0/10 comes second because Tailscale and cloud networks live there, 10.192.0.0/10 last because companies do.
 */
const ranges: readonly Cidr[] = ["198.18.0.0/15", "100.64.0.0/10", "10.192.0.0/10"].map((text) => parseCidr(text)!);
const sharedRange = ranges[1]!;

/** How many subnets there are to be taken machine-wide. */
export const subnetCount = ranges.reduce((sum, range) => sum + sizeOf(range), 0);

function sizeOf(range: Cidr): number {
  return 2 ** (subnetPrefix - range.prefix);
}

/** The subnet that a number taken machine-wide stands for. */
export function subnetOf(number: number): Cidr {
  let rest = number;
  for (const range of ranges) {
    if (rest < sizeOf(range)) return { base: range.base + rest * subnetSize, prefix: subnetPrefix };
    rest -= sizeOf(range);
  }
  throw new RangeError(`there is no subnet ${number}`);
}

export interface Layout {
  readonly subnet: Cidr;
  /** ebb's address: on the host's end. */
  readonly gateway: string;
  /** The router's end of the same link. */
  readonly router: string;
  /** Addresses for sandboxes: `host(0)` to `host(hosts - 1)`. */
  readonly hosts: number;
  host(index: number): string;
}

export function layoutOf(subnet: Cidr): Layout {
  const size = 2 ** (32 - subnet.prefix);
  const hosts = size - firstHost - 1; // the last one is the broadcast address
  return {
    subnet,
    gateway: formatAddress(subnet.base + 1),
    router: formatAddress(subnet.base + 2),
    hosts,
    host: (index) => {
      if (index < 0 || index >= hosts) throw new RangeError(`there is no address ${index}`);
      return formatAddress(subnet.base + firstHost + index);
    },
  };
}

export interface RouteInUse {
  readonly network: Cidr;
  /** null: none is named (unreachable, blackhole). */
  readonly device: string | null;
}

/** Networks this machine has a route to or an address in, from `ip -4 route show table all`; default routes do not count. */
export function routesInUse(text: string): readonly RouteInUse[] {
  const found: RouteInUse[] = [];
  for (const line of text.split("\n")) {
    const words = line.trim().split(/\s+/);
    // "10.0.0.0/8 via …", or a type first: "local 10.0.0.1 dev …", "unreachable 10.0.0.0/8"
    const network = parseCidr(words[0] ?? "") ?? parseCidr(words[1] ?? "");
    if (network && network.prefix > 0) found.push({ network, device: deviceOf(words) });
  }
  return found;
}

/** Devices that a default route leaves by, VPNs with two halves of the world included; the way to the internet. */
export function uplinksOf(text: string, ownPrefix: string): readonly string[] {
  const found = new Set<string>();
  for (const line of text.split("\n")) {
    const words = line.trim().split(/\s+/);
    const device = deviceOf(words);
    const wide = words[0] === "default" || words[0] === "0.0.0.0/1" || words[0] === "128.0.0.0/1";
    if (wide && device !== null && !device.startsWith(ownPrefix)) found.add(device);
    const hop = /^nexthop\s.*\bdev (\S+)/.exec(line.trim());
    if (hop?.[1]) found.add(hop[1]);
  }
  return [...found];
}

function deviceOf(words: readonly string[]): string | null {
  const at = words.indexOf("dev");
  return at < 0 ? null : (words[at + 1] ?? null);
}

/**
 * Why a subnet cannot be used; null when it can. A machine that is in any part of 100.64.0.0/10 (Tailscale, carriers, clouds)
 * has firewall rules and routes about all of it, so that range is then left alone as a whole; other ebb daemons do not count.
 */
export function refuseSubnet(
  subnet: Cidr,
  routes: readonly RouteInUse[],
  resolvers: readonly string[],
  ownPrefix: string,
): string | null {
  const inShared = overlaps(subnet, sharedRange);
  for (const { network, device } of routes) {
    if (overlaps(network, subnet)) return `the machine has a route to ${formatCidr(network)}`;
    if (inShared && overlaps(network, sharedRange) && !device?.startsWith(ownPrefix))
      return `the machine is in ${formatCidr(network)}`;
  }
  for (const resolver of resolvers) {
    const address = parseAddress(resolver);
    if (address !== null && contains(subnet, address)) return `the resolver ${resolver} is in it`;
    if (address !== null && inShared && contains(sharedRange, address)) return `the resolver ${resolver} is near it`;
  }
  return null;
}

/** First in, first out: an address rests as long as there are others, so that late packets find nobody. */
export class Addresses {
  readonly #free: number[] = [];
  #fresh = 0;
  readonly #count: number;

  readonly #taken: ReadonlySet<number>;

  /** `taken`: by links that were there before. */
  constructor(count: number, taken: readonly number[] = []) {
    this.#count = count;
    this.#taken = new Set(taken);
  }

  /** Null: all are taken. */
  take(): number | null {
    while (this.#fresh < this.#count) {
      const index = this.#fresh++;
      if (!this.#taken.has(index)) return index;
    }
    return this.#free.shift() ?? null;
  }

  giveBack(index: number): void {
    this.#free.push(index);
  }
}
