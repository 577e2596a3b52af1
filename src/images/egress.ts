// Where whoever reads registries may go: an image's name, a redirect or a resolver that changes its mind must not lead it into the
// operator's own network. The rule goes by its user, so it holds whatever it is told.

import { lookup } from "node:dns/promises";
import { BlockList, isIP, isIPv4 } from "node:net";
import { EbbError } from "#model/errors.ts";
import type { Spawner } from "#spawner/door.ts";

export interface RegistryEgressOptions {
  readonly spawner: Pick<Spawner, "exec" | "nft" | "owe" | "onReplaced">;
  readonly uid: number;
  /** Of the table: nobody else's on this machine. */
  readonly name: string;
  /** What the operator lets images come from though it is not public: HOST or HOST:PORT. */
  readonly registries: readonly string[];
  /** The host's name servers, as they are now. */
  readonly resolvers: () => readonly string[];
}

/** IANA's special-purpose registry (RFC 6890), multicast, reserved, and Azure's wire server. */
const notPublic = [
  "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
  "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
]; // prettier-ignore
/** Of what is global unicast: documentation, and IPv4 in disguise. */
const notPublic6 = ["2001:db8::/32", "2002::/16", "2001::/32"];
const unicast6 = "2000::/3";

export class RegistryEgress {
  readonly #options: RegistryEgressOptions;
  readonly #closed = new BlockList();
  readonly #unicast = new BlockList();
  #made: Promise<void> = Promise.resolve();
  #over = false;

  constructor(options: RegistryEgressOptions) {
    this.#options = options;
    for (const network of notPublic) this.#closed.addSubnet(...cidr(network), "ipv4");
    for (const network of notPublic6) this.#closed.addSubnet(...cidr(network), "ipv6");
    this.#unicast.addSubnet(...cidr(unicast6), "ipv6");
  }

  async start(): Promise<void> {
    this.#made = this.#make();
    await this.#made;
    // The one that died took its table with it, and what used it.
    this.#options.spawner.onReplaced(() => {
      if (this.#over) return;
      this.#made = this.#make();
      // Said by the next pull.
      this.#made.catch(() => {});
    });
  }

  async stop(): Promise<void> {
    this.#over = true;
    // Where the spawner is gone, so is the table.
    await this.#options.spawner.exec(["nft", "delete", "table", "inet", this.#options.name]).catch(() => {});
  }

  /** May this registry be asked? EbbError with the operator's way to allow it. What is open is opened. */
  async admit(registry: string): Promise<void> {
    const { registries } = this.#options;
    await this.#made;
    // A machine that changes networks has others.
    await this.#openResolvers();
    for (const permitted of registries) await this.#open(permitted);
    if (registries.some((permitted) => covers(permitted, registry))) return;
    const { host } = split(registry);
    const addresses = await addressesOf(host);
    const own = addresses.find((address) => !this.#isPublic(address));
    if (own === undefined) return;
    throw new EbbError(
      "image_refused",
      `${registry} is in a network of the machine's own (${own}); the operator lets images come from there by ebb up --registry ${registry}`,
    );
  }

  #isPublic(address: string): boolean {
    if (isIPv4(address)) return !this.#closed.check(address, "ipv4");
    return this.#unicast.check(address, "ipv6") && !this.#closed.check(address, "ipv6");
  }

  async #open(permitted: string): Promise<void> {
    const { name, spawner } = this.#options;
    const { host, port } = split(permitted);
    for (const address of await addressesOf(host)) {
      const version = isIPv4(address) ? "" : "6";
      // Apart: a host that is permitted whole and one of its ports are no two intervals that overlap, whoever leads there.
      if (port === null) await spawner.nft(`add element inet ${name} hosts${version} { ${address} }`);
      else await spawner.nft(`add element inet ${name} permitted${version} { ${address} . ${port} }`);
    }
  }

  async #openResolvers(): Promise<void> {
    const { spawner, name, resolvers } = this.#options;
    // A link-local one has its interface behind it, which is not the rule's matter.
    const servers = resolvers().map((one) => one.replace(/%.*$/, ""));
    for (const address of servers.filter((one) => isIP(one) !== 0))
      await spawner.nft(`add element inet ${name} resolvers${isIPv4(address) ? "" : "6"} { ${address} }`);
  }

  async #make(): Promise<void> {
    const { spawner, name, uid } = this.#options;
    await spawner.owe([{ kind: "command", argv: ["/bin/sh", "-c", deleteTable, "ebb", name] }]);
    // What a start that failed left is replaced.
    const table = `table inet ${name}
delete table inet ${name}
table inet ${name} {
  set hosts { type ipv4_addr; }
  set hosts6 { type ipv6_addr; }
  set permitted { type ipv4_addr . inet_service; }
  set permitted6 { type ipv6_addr . inet_service; }
  set resolvers { type ipv4_addr; }
  set resolvers6 { type ipv6_addr; }
  chain leaving {
    type filter hook output priority 0; policy accept;
    meta skuid ${uid} jump reading
  }
  chain reading {
    ip daddr @resolvers meta l4proto { tcp, udp } th dport 53 accept
    ip6 daddr @resolvers6 meta l4proto { tcp, udp } th dport 53 accept
    ip daddr @hosts meta l4proto tcp accept
    ip6 daddr @hosts6 meta l4proto tcp accept
    ip daddr . tcp dport @permitted accept
    ip6 daddr . tcp dport @permitted6 accept
    fib daddr type local jump refuse
    ip daddr { ${notPublic.join(", ")} } jump refuse
    ip6 daddr { ${notPublic6.join(", ")} } jump refuse
    ip6 daddr != ${unicast6} jump refuse
    tcp dport 25 jump refuse
  }
  chain refuse {
    meta l4proto tcp reject with tcp reset
    reject with icmpx type admin-prohibited
  }
}
`;
    const { code, stderr } = await spawner.exec(["nft", "-f", "-"], { stdin: table });
    if (code !== 0) throw new EbbError("internal", `the rule for registries cannot be made: ${stderr.slice(0, 500)}`);
  }
}

/** $1 name. Harmless twice. */
const deleteTable = `PATH=/usr/sbin:/usr/bin:/sbin:/bin
nft delete table inet "$1" 2>/dev/null
exit 0
`;

/** A registry of the operator's without a port stands for every port of its host. */
function covers(permitted: string, registry: string): boolean {
  const [own, other] = [split(permitted), split(registry)];
  return own.host === other.host && (own.port === null || own.port === (other.port ?? 443));
}

function split(registry: string): { readonly host: string; readonly port: number | null } {
  const match = /^(.*?)(?::([0-9]{1,5}))?$/.exec(registry)!;
  const host = match[1]!.replace(/^\[(.*)\]$/, "$1").toLowerCase();
  return { host, port: match[2] === undefined ? null : Number(match[2]) };
}

async function addressesOf(host: string): Promise<string[]> {
  try {
    return (await lookup(host, { all: true })).map(({ address }) => address);
  } catch {
    // Said by who then asks for it.
    return [];
  }
}

function cidr(text: string): [string, number] {
  const [address, bits] = text.split("/");
  return [address!, Number(bits)];
}
