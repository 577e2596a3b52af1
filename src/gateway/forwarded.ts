// What is known of the outer side: from a trusted proxy's X-Forwarded-*, otherwise from the connection itself. Pure but for the list.

import { BlockList, isIP } from "node:net";

/** Peers whose X-Forwarded-* count. */
export class TrustedProxies {
  readonly #list = new BlockList();
  readonly #any: boolean;

  /** Addresses and CIDRs; throws RangeError naming what is neither. */
  constructor(ranges: readonly string[]) {
    this.#any = ranges.length > 0;
    for (const range of ranges) {
      const [address = "", bits, ...more] = range.split("/");
      const version = isIP(address);
      const prefix = bits === undefined ? (version === 4 ? 32 : 128) : /^\d{1,3}$/.test(bits) ? Number(bits) : 999;
      if (version === 0 || more.length > 0 || prefix > (version === 4 ? 32 : 128))
        throw new RangeError(`"${range}" is neither an address nor a range such as 10.0.0.0/8`);
      this.#list.addSubnet(address, prefix, version === 4 ? "ipv4" : "ipv6");
    }
  }

  has(address: string): boolean {
    if (!this.#any) return false;
    const plain = plainAddress(address);
    const version = isIP(plain);
    return version !== 0 && this.#list.check(plain, version === 4 ? "ipv4" : "ipv6");
  }
}

/** An IPv4 address that came in over an IPv6 socket is the IPv4 address. */
export function plainAddress(address: string): string {
  return address.startsWith("::ffff:") && address.includes(".") ? address.slice(7) : address;
}

export interface Outer {
  readonly scheme: "http" | "https";
  /** Host with its port, as the client sent it. */
  readonly host: string;
  /** Of the client, and the proxies between: what x-forwarded-for says to the function. */
  readonly forwardedFor: string;
}

/** What a request carried; each joined with ", " where it was repeated, null where it was absent. */
export interface ForwardedHeaders {
  readonly for: string | null;
  readonly proto: string | null;
  readonly host: string | null;
}

/** Of a list nobody can tell which entry is the outermost honest one: it does not count. */
export function outerOf(
  headers: ForwardedHeaders,
  host: string,
  peer: string,
  encrypted: boolean,
  trusted: boolean,
): Outer {
  const own: Outer = { scheme: encrypted ? "https" : "http", host, forwardedFor: peer };
  if (!trusted) return own;
  const proto = headers.proto?.toLowerCase();
  return {
    scheme: proto === "http" || proto === "https" ? proto : own.scheme,
    host: headers.host !== null && !headers.host.includes(",") ? headers.host : host,
    forwardedFor: headers.for === null ? peer : `${headers.for}, ${peer}`,
  };
}
