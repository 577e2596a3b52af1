// IPv4 addresses and networks as numbers: parsing, containment, and which of them are not the public internet.

/** A network; `base` has its host bits clear. Addresses are unsigned 32-bit integers. */
export interface Cidr {
  readonly base: number;
  readonly prefix: number;
}

/** Strict dotted quad: no leading zeros (octal to some readers), no shorthand. Null: not one. */
export function parseAddress(text: string): number | null {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (!match) return null;
  let value = 0;
  for (const part of match.slice(1)) {
    const octet = Number(part);
    if (octet > 255 || String(octet) !== part) return null;
    value = value * 256 + octet;
  }
  return value;
}

export function formatAddress(address: number): string {
  return `${(address >>> 24) & 255}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}

/** `10.0.0.0/8`, or an address alone (/32). Null: malformed, or host bits are set. */
export function parseCidr(text: string): Cidr | null {
  const slash = text.indexOf("/");
  const base = parseAddress(slash < 0 ? text : text.slice(0, slash));
  const prefixText = slash < 0 ? "32" : text.slice(slash + 1);
  if (base === null || !/^\d{1,2}$/.test(prefixText)) return null;
  const prefix = Number(prefixText);
  if (prefix > 32 || String(prefix) !== prefixText || networkOf(base, prefix) !== base) return null;
  return { base, prefix };
}

export function formatCidr(cidr: Cidr): string {
  return `${formatAddress(cidr.base)}/${cidr.prefix}`;
}

/** `>>> 0` keeps it unsigned; a shift by 32 is a shift by 0 in JavaScript, hence the special case. */
function networkOf(address: number, prefix: number): number {
  return prefix === 0 ? 0 : (address & (0xffff_ffff << (32 - prefix))) >>> 0;
}

export function contains(cidr: Cidr, address: number): boolean {
  return networkOf(address, cidr.prefix) === cidr.base;
}

/** Two networks overlap exactly when the larger holds the smaller's base. */
export function overlaps(a: Cidr, b: Cidr): boolean {
  return a.prefix <= b.prefix ? contains(a, b.base) : contains(b, a.base);
}

function cidrs(...texts: readonly string[]): readonly Cidr[] {
  return texts.map((text) => {
    const cidr = parseCidr(text);
    if (!cidr) throw new TypeError(`not a network: ${text}`);
    return cidr;
  });
}

/**
 * What is not globally reachable (IANA special-purpose address registry, RFC 6890 and its updates), with multicast and
 * the reserved class E: no instance gets there. Cloud metadata (169.254.169.254, 169.254.170.2, Alibaba's
 * 100.100.100.200) lies inside. Azure's wire server is a public address that answers only inside Azure, with credentials.
 */
export const notPublic: readonly Cidr[] = cidrs(
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "168.63.129.16/32",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.0.2.0/24",
  "192.88.99.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
  "224.0.0.0/4",
  "240.0.0.0/4",
);

/** What not even an operator's permit opens: the sandbox itself, the machine, metadata, and what has many receivers. */
export const neverPermitted: readonly Cidr[] = cidrs(
  "0.0.0.0/8",
  "127.0.0.0/8",
  "168.63.129.16/32",
  "169.254.0.0/16",
  "100.100.100.200/32",
  "224.0.0.0/4",
  "240.0.0.0/4",
);

/** May an instance with egress `internet` talk to it? `permitted`: private networks that the operator opened. */
export function isReachable(address: number, permitted: readonly Cidr[]): boolean {
  if (permitted.some((cidr) => contains(cidr, address))) return true;
  return !notPublic.some((cidr) => contains(cidr, address));
}
