// The firewall as text: one nft table of the daemon's own on the host, one inside its router namespace, and what a link adds.

import { formatCidr, neverPermitted, notPublic, type Cidr } from "#model/address.ts";
import { linkLimits, resolverLimits } from "#model/limits.ts";
import type { EgressClass } from "#model/workload.ts";

/** Every interface and table that any ebb daemon makes begins so: what the host's own firewall can be told to let through. */
export const namePrefix = "ebb";

/** Of one segment that the kernel has put together, and some. */
const minBurstBytes = 128 * 1024;

export interface TableOptions {
  /** Of the table and of the host's interface towards the router. */
  readonly name: string;
  readonly subnet: Cidr;
  readonly gateway: string;
  /** Where the resolver listens on the gateway address; port 53 is redirected there. */
  readonly resolverPort: number;
  /** Where ebb.internal is served on the gateway address; port 80 is redirected there. */
  readonly internalPort: number;
  /** Of what each sandbox sends to the world, and of what it gets. */
  readonly bytesPerSecond: number;
  /** The only user of the host whose processes may connect into sandboxes. */
  readonly uid: number;
}

/**
 * `live` holds address and mark of each link there is; `wide` those with egress internet. `granted`, `granted_all` and `answered` hold
 * what is open to a single one besides (openings.ts): networks by its list or the operator's permit, the same at every port, and
 * addresses that the resolver answered it for a name of its list, for their time. What `never` holds none of them opens. The mark is new for every link and is put on its connections:
 * both directions of a connection are let through only while the very link that opened it lives, so what an earlier
 * sandbox at the same address left in the connection tracker reaches nobody. A later one that happens to choose the same ports
 * for the same peer takes the entry over, by the checks of a new connection.
 *
 * Other tables of the host see the same packets: `drop` here is final, `accept` is not (see problems.ts).
 */
export function hostTable(options: TableOptions): string {
  const { name, gateway } = options;
  const subnet = formatCidr(options.subnet);
  const blocked = notPublic.map(formatCidr).join(", ");
  const never = neverPermitted.map(formatCidr).join(", ");
  const burst = Math.max(minBurstBytes, Math.min(linkLimits.burstBytes, options.bytesPerSecond));
  const tooFast = `limit rate over ${options.bytesPerSecond} bytes/second burst ${burst} bytes`;
  return `
table inet ${name} {
  map marks { type ipv4_addr : mark; }
  set live { type ipv4_addr . mark; }
  set blocked { type ipv4_addr; flags interval; elements = { ${blocked} } }
  set never { type ipv4_addr; flags interval; elements = { ${never} } }
  set wide { type ipv4_addr; }
  set granted { type ipv4_addr . ipv4_addr . inet_proto . inet_service; flags interval; }
  set granted_all { type ipv4_addr . ipv4_addr; flags interval; }
  set answered { type ipv4_addr . ipv4_addr . inet_proto . inet_service; flags timeout; size ${resolverLimits.openingsInAll}; }
  set sent { type ipv4_addr; flags dynamic; timeout 10s; size 8192; }
  set got { type ipv4_addr; flags dynamic; timeout 10s; size 8192; }
  set guarded { type ifname; }
  set opening { type ipv4_addr; flags dynamic; timeout 10s; size 8192; }
  set open { type ipv4_addr; flags dynamic; size 8192; }
  set asking { type ipv4_addr; flags dynamic; timeout 10s; size 8192; }
  set calling { type ipv4_addr; flags dynamic; timeout 10s; size 8192; }
  set called { type ipv4_addr; flags dynamic; size 8192; }

  chain entering {
    type filter hook prerouting priority -310; policy accept;
    iifname "lo" accept
    iifname "${name}" meta nfproto ipv6 drop
    iifname "${name}" ip saddr != ${subnet} drop
    iifname != "${name}" ip saddr ${subnet} drop
    iifname != "${name}" ip daddr ${subnet} drop
  }
  chain redirecting {
    type nat hook prerouting priority -105; policy accept;
    iifname "${name}" ip daddr ${gateway} udp dport 53 redirect to :${options.resolverPort}
    iifname "${name}" ip daddr ${gateway} tcp dport 53 redirect to :${options.resolverPort}
    iifname "${name}" ip daddr ${gateway} tcp dport 80 redirect to :${options.internalPort}
  }
  chain to_host {
    type filter hook input priority -5; policy accept;
    iifname "${name}" jump from_sandbox
  }
  chain from_sandbox {
    ip daddr ${gateway} udp dport ${options.resolverPort} jump ask
    ct state established accept
    ip daddr ${gateway} tcp dport { ${[...new Set([options.resolverPort, options.internalPort])].join(", ")} } jump call
    limit rate 200/second reject with icmp type admin-prohibited
    drop
  }
  chain ask {
    update @asking { ip saddr limit rate over ${resolverLimits.queriesPerSourcePerSecond}/second burst ${resolverLimits.queriesPerSourceBurst} packets } drop
    limit rate over ${resolverLimits.queriesPerSecond}/second burst ${resolverLimits.queriesPerSecond} packets drop
    accept
  }
  chain call {
    update @calling { ip saddr limit rate over ${linkLimits.internalConnectionsPerSecond}/second burst ${linkLimits.internalConnectionsPerSecond} packets } drop
    add @called { ip saddr ct count over ${linkLimits.internalConnections} } drop
    accept
  }
  chain through {
    type filter hook forward priority -5; policy accept;
    iifname "${name}" jump outbound
    oifname "${name}" jump inbound
    iifname @guarded oifname != "${namePrefix}*" ct state new ct status & dnat != dnat drop
  }
  chain outbound {
    oifname "${name}" drop
    update @sent { ip saddr ${tooFast} } drop
    ip saddr . ct mark @live ct state established,related accept
    ct state != { new, established } jump refuse
    ct direction reply jump refuse
    ip daddr @never jump refuse
    fib daddr type != unicast jump refuse
    tcp dport 25 jump refuse
    jump wished
    ct mark set 0
    ct mark set ip saddr map @marks
    ip saddr . ct mark != @live jump refuse
    update @opening { ip saddr limit rate over ${linkLimits.newConnectionsPerSecond}/second burst ${linkLimits.newConnectionsBurst} packets } drop
    add @open { ip saddr ct count over ${linkLimits.connections} } drop
    accept
  }
  chain wished {
    ip saddr @wide ip daddr != @blocked return
    ip saddr . ip daddr . ip protocol . th dport @answered return
    ip saddr . ip daddr . ip protocol . th dport @granted return
    ip saddr . ip daddr @granted_all return
    jump refuse
  }
  chain inbound {
    update @got { ip daddr ${tooFast} } drop
    ip daddr . ct mark @live ct state established,related accept
    drop
  }
  chain refuse {
    limit rate 200/second reject with icmp type admin-prohibited
    drop
  }
  chain from_host {
    type filter hook output priority -5; policy accept;
    oifname "${name}" jump to_sandbox
  }
  chain to_sandbox {
    meta nfproto ipv6 drop
    ct state established,related accept
    meta skuid ${options.uid} accept
    drop
  }
  chain leaving {
    type nat hook postrouting priority 105; policy accept;
    ip saddr ${subnet} oifname != "${name}" masquerade fully-random
  }
}
`;
}

/**
 * Inside the router namespace, without connection tracking: sandboxes see the host's end and never each other, and each
 * only with the address that is routed to its own link (reverse path by the route: an address cannot be forged).
 */
export function routerTable(uplink: string): string {
  return `
table inet router {
  chain entering {
    type filter hook prerouting priority -300; policy accept;
    meta nfproto ipv6 drop
    fib saddr . iif oif 0 drop
  }
  chain to_router { type filter hook input priority 0; policy drop; }
  chain through {
    type filter hook forward priority 0; policy drop;
    iifname "${uplink}" oifname != "${uplink}" accept
    iifname != "${uplink}" oifname "${uplink}" accept
  }
}
`;
}

export interface LinkRule {
  readonly address: string;
  readonly mark: number;
  readonly egress: EgressClass;
}

/** Lets links out, as far as something is open to them. One transaction. */
export function openText(table: string, links: readonly LinkRule[]): string {
  return change("add", table, links);
}

/** Shuts links: nothing new goes out, and what was open is cut in both directions. */
export function shutText(table: string, links: readonly LinkRule[]): string {
  // what is not there cannot be deleted, and fails all: after an opening that failed half-way nobody knows, so add first
  return `${change("add", table, links)}; ${change("delete", table, links)}`;
}

function change(verb: "add" | "delete", table: string, links: readonly LinkRule[]): string {
  const wide = links.filter((link) => link.egress === "internet").map((link) => link.address);
  return [
    elements(
      verb,
      table,
      "marks",
      links.map((link) => `${link.address} : ${link.mark}`),
    ),
    elements(
      verb,
      table,
      "live",
      links.map((link) => `${link.address} . ${link.mark}`),
    ),
    ...(wide.length > 0 ? [elements(verb, table, "wide", wide)] : []),
  ].join("; ");
}

export function elements(verb: "add" | "delete", table: string, set: string, texts: readonly string[]): string {
  return `${verb} element inet ${table} ${set} { ${texts.join(", ")} }`;
}
