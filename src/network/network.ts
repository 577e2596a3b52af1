// The room's factory: subnet, router, rules, resolver and pools made in order, and undone in reverse.
//
// Every daemon has a router: a network namespace with one veth to the host and one to each sandbox, point to point. There is no
// bridge, so sandboxes share no wire on which to ask, listen or lie; the host sees one device and one table whatever the number
// of sandboxes (udev, NetworkManager and firewalls are not stirred by each start); switches of the kernel are set in a
// namespace of ours instead of the host; and it ends as a whole with one unmount.

import { mkdir, readdir } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { formatCidr } from "#model/address.ts";
import type { Clock } from "#model/clock.ts";
import { EbbError } from "#model/errors.ts";
import type { Tell } from "#model/fact.ts";
import { newErrorId, randomHex } from "#model/ids.ts";
import { linkLimits, resolverLimits } from "#model/limits.ts";
import type { EgressClass } from "#model/workload.ts";
import type { Allocator } from "#spawner/door.ts";
import { errnoOf } from "#lib/errno.ts";
import { Admitted } from "./admitted.ts";
import type { Rules } from "./decide.ts";
import type { Admission, LeftLink, Link, Network, NetworkProblem } from "./door.ts";
import { readAnswered, readStillOpen, replacedTable } from "./inherited.ts";
import { Links, type OwnLink } from "./links.ts";
import { messageOf, routeText, runCommand, runScript, type Effects } from "./machine.ts";
import { elementOf, Openings, type Answered } from "./openings.ts";
import { Pool } from "./pool.ts";
import { gatherProblems } from "./problems.ts";
import { Resolver } from "./resolver.ts";
import { Rested } from "./rested.ts";
import { hostTable, namePrefix, routerTable } from "./rules.ts";
import { removeAll, routerChanges, startForwarding, uplink } from "./setup.ts";
import { layoutOf, refuseSubnet, routesInUse, subnetCount, subnetOf, type Layout } from "./subnet.ts";
import { Uplinks } from "./uplinks.ts";
import { createUpstream } from "./upstream.ts";

export interface NetworkOptions {
  readonly spawner: Effects;
  readonly allocator: Allocator;
  readonly clock: Clock;
  readonly tell: Tell;
  /** The host's resolvers (addresses), read at each question. */
  readonly resolvers: () => readonly string[];
  /** Domains in which the host looks for names. */
  readonly searchDomains: () => readonly string[];
  /** The project whose code runs behind the link with this address; null: none. What its sandboxes want of ebb is its share. */
  readonly projectAt: (address: string) => string | null;
  /** The operator's permits of a project (`10.1.0.0/16:5432`); the same array while they are the same. Left out: none. */
  readonly permitsOf?: (project: string) => readonly string[];
  /** Of what each sandbox sends to the world, and of what it gets. */
  readonly bytesPerSecond?: number;
  /** How long what was answered for a name of a list is open. */
  readonly openSeconds?: { readonly min: number; readonly max: number };
  /** Spare links kept for each kind of egress. */
  readonly spare?: { readonly internet: number; readonly none: number };
  /** Links of an earlier daemon, whose sandboxes live on: its network goes on as this one. */
  readonly left?: readonly LeftLink[];
  /** Sandboxes are there that live on: the network stays when it stops. */
  readonly outlived?: () => boolean;
  /** At most so many links at a time; left out: as many as the subnet has addresses. */
  readonly addresses?: number;
}

export function createNetwork(options: NetworkOptions): Network {
  return new MachineNetwork(options);
}

const noPermits: readonly string[] = [];

/** What exists between start and stop. */
interface Running {
  readonly layout: Layout;
  readonly subnetNumber: number;
  readonly links: Links;
  readonly rested: Rested;
  readonly uplinks: Uplinks;
  readonly resolver: Resolver;
  readonly internalPort: number;
}

class MachineNetwork implements Network {
  readonly #options: NetworkOptions;
  readonly #name: string;
  readonly #left: readonly LeftLink[];
  readonly #directory: string;
  readonly #openings: Openings;
  readonly #admitted: Admitted;
  readonly #pools: Readonly<Record<EgressClass, Pool<OwnLink>>>;
  /** What an earlier daemon's resolver has opened to them. */
  #inheritedAnswers: readonly { readonly link: string; readonly answered: Answered }[] = [];
  #running: Running | null = null;
  #domains: { readonly names: readonly string[]; readonly sinceUs: number } | null = null;

  constructor(options: NetworkOptions) {
    this.#options = options;
    const { spawner, clock, tell, permitsOf = () => noPermits, left = [] } = options;
    this.#left = left;
    this.#name = left[0]?.network ?? namePrefix + randomHex(4);
    this.#openings = new Openings({
      nft: (script) => spawner.nft(script),
      table: this.#name,
      clock,
      openSeconds: options.openSeconds ?? resolverLimits.openSeconds,
    });
    this.#admitted = new Admitted({ openings: this.#openings, permitsOf, tell });
    this.#directory = join(options.allocator.runDir, "network");
    const spare = options.spare ?? { internet: linkLimits.spareMin, none: 1 };
    this.#pools = { internet: this.#poolOf("internet", spare.internet), none: this.#poolOf("none", spare.none) };
  }

  get gateway(): string {
    return this.#need().layout.gateway;
  }

  get internalPort(): number {
    return this.#need().internalPort;
  }

  async start(): Promise<void> {
    if (this.#running) throw new EbbError("conflict", "The network was started already.");
    const { allocator } = this.#options;
    const subnetNumber = this.#left[0]?.subnet ?? (await this.#takeSubnet());
    const layout = layoutOf(subnetOf(subnetNumber));
    let resolver: Resolver | null = null;
    try {
      if (this.#left.length === 0) await this.#makeRouter(layout);
      resolver = this.#resolverAt(layout.gateway);
      const resolverPort = await resolver.start();
      const internalPort = await freePort(layout.gateway, 80);
      await this.#loadRules(layout, resolverPort, internalPort);
      const uplinks = this.#uplinks();
      await uplinks.start();
      const links = await this.#linksOf(layout);
      await links.removeStale();
      const rested = new Rested({
        untouched: ({ namespacePath }) => this.#options.spawner.untouched(namespacePath),
        remove: ({ id }) => links.remove([id]),
        clock: this.#options.clock,
      });
      this.#running = { layout, subnetNumber, links, rested, uplinks, resolver, internalPort };
    } catch (error) {
      await resolver?.stop();
      if (this.#left.length === 0) {
        await this.#removeAll().catch((failure: unknown) => this.#defect("network: undoing a failed start", failure));
        allocator.free("subnets", subnetNumber);
      }
      throw error;
    }
    for (const pool of Object.values(this.#pools)) pool.start();
  }

  async stop(): Promise<void> {
    const running = this.#running;
    if (!running) return;
    this.#running = null;
    running.rested.stop();
    await Promise.all(Object.values(this.#pools).map((pool) => pool.stop()));
    await running.links.stop();
    await running.resolver.stop();
    if (this.#options.outlived?.() === true) return;
    await this.#removeAll();
    await running.uplinks.stop();
    this.#options.allocator.free("subnets", running.subnetNumber);
  }

  async take(egress: EgressClass, as?: string): Promise<Link> {
    const known = as === undefined ? null : this.#running?.rested.take(`${egress} ${as}`);
    return known ?? this.#pools[egress].take();
  }

  async admit(link: Link, admission: Admission): Promise<void> {
    if (!this.#need().links.has(link.id)) throw new EbbError("internal", `The link ${link.id} was given back.`);
    const admitted = this.#admitted.admit(link.address, admission);
    for (const { link: address, answered } of this.#inheritedAnswers)
      if (address === link.address) this.#openings.inherit(address, elementOf(address, answered), answered);
    return admitted;
  }

  leave(link: Link): LeftLink {
    const { links, subnetNumber } = this.#need();
    const own = links.get(link.id);
    if (!own) throw new EbbError("internal", `The link ${link.id} was given back.`);
    return { network: this.#name, subnet: subnetNumber, link: own };
  }

  permitsChanged(): void {
    this.#admitted.permitsChanged().catch((error: unknown) => this.#defect("network: permits", error));
  }

  giveBack(link: Link, as?: string): void {
    if (this.#running === null) return;
    const { links, rested } = this.#running;
    // One that was given back before is another's by its address, perhaps.
    if (!links.isOf(link)) return;
    this.#admitted.leave(link.address);
    if (as === undefined) return links.remove([link.id]);
    const again = links.again(link.id);
    if (again !== null) void rested.offer(again, `${again.egress} ${as}`);
  }

  problems(): Promise<readonly NetworkProblem[]> {
    return gatherProblems({ spawner: this.#options.spawner, resolvers: this.#options.resolvers() });
  }

  #need(): Running {
    if (!this.#running) throw new EbbError("internal", "The network is not running.");
    return this.#running;
  }

  #poolOf(egress: EgressClass, spareMin: number): Pool<OwnLink> {
    return new Pool<OwnLink>({
      make: (count) => this.#need().links.make(egress, count),
      remove: (links) => this.#running?.links.remove(links.map((link) => link.id)),
      clock: this.#options.clock,
      bounds: { spareMin, spareMax: Math.max(spareMin, linkLimits.spareMax) },
      failed: (error) => {
        // a full subnet is not a defect: whoever takes a link is told
        if (!(error instanceof EbbError && error.code === "capacity"))
          this.#defect("network: making links ahead", error);
      },
    });
  }

  /** The first number whose subnet is in nobody's way; those passed over are given back. */
  async #takeSubnet(): Promise<number> {
    const { allocator, spawner, resolvers } = this.#options;
    const routes = routesInUse(await routeText(spawner));
    const passedOver: number[] = [];
    try {
      for (;;) {
        const number = allocator.take("subnets", subnetCount);
        const refusal = refuseSubnet(subnetOf(number), routes, resolvers(), namePrefix);
        if (refusal === null) return number;
        passedOver.push(number);
      }
    } finally {
      for (const number of passedOver) allocator.free("subnets", number);
    }
  }

  async #makeRouter(layout: Layout): Promise<void> {
    const { spawner } = this.#options;
    const argv = ["/bin/sh", "-c", removeAll, "ebb", this.#directory, this.#name];
    await spawner.owe([{ kind: "command", argv }], "ground");
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const { gateway, router: address } = layout;
    const subnet = formatCidr(layout.subnet);
    const namespace = join(this.#directory, "router");
    const changes = routerChanges({ namespace, device: this.#name, gateway, address, subnet });
    await spawner.network(changes).catch((cause: unknown) => {
      throw new EbbError("internal", `${needsRoot}: ${messageOf(cause)}`, { cause });
    });
    const enter = ["nsenter", `--net=${namespace}`, "nft", "-f", "-"];
    await runCommand(spawner, enter, { purpose: needsNft, stdin: routerTable(uplink) });
  }

  async #loadRules(layout: Layout, resolverPort: number, internalPort: number): Promise<void> {
    const { spawner } = this.#options;
    const table = hostTable({
      name: this.#name,
      subnet: layout.subnet,
      gateway: layout.gateway,
      resolverPort,
      internalPort,
      bytesPerSecond: this.#options.bytesPerSecond ?? linkLimits.bytesPerSecond,
      uid: process.getuid?.() ?? 0,
    });
    const stdin = this.#left.length === 0 ? table : await this.#inLeftPlace(table);
    await runCommand(spawner, ["nft", "-f", "-"], { purpose: needsNft, stdin });
    await runScript(spawner, startForwarding, [this.#name], {
      purpose: "Routing from the sandboxes cannot be switched on",
    });
  }

  async #inLeftPlace(table: string): Promise<string> {
    const links = this.#left.map(({ link }) => link);
    const addresses = links.map(({ address }) => address);
    const open = await readStillOpen(this.#options.spawner, this.#name, addresses);
    this.#inheritedAnswers = open.answered.flatMap((element) => readAnswered(element) ?? []);
    return replacedTable(this.#name, table, links, open);
  }

  #resolverAt(address: string): Resolver {
    const { clock, resolvers, projectAt } = this.#options;
    return new Resolver({
      address,
      preferredPort: 53,
      clock,
      rulesOf: (source) => this.#rulesOf(source),
      opened: (source, name, opened) => this.#admitted.opened(source, name, opened),
      withheld: (source, name, reasons) => this.#admitted.withheld(source, name, reasons),
      projectAt,
      ask: createUpstream({ resolvers, clock }),
      defect: (error) => this.#defect("network: resolver", error),
    });
  }

  #rulesOf(source: string): Rules | null {
    const running = this.#running;
    const egress = running?.links.egressOf(source) ?? null;
    if (!running || !egress) return null;
    const own = this.#admitted.rulesOf(source) ?? { egress, permits: [] };
    return { ...own, gateway: running.layout.gateway, hostDomains: this.#hostDomains() };
  }

  /** Read again after a moment and not with every question: it is a file. */
  #hostDomains(): readonly string[] {
    const nowUs = this.#options.clock.monotonicUs();
    if (this.#domains === null || nowUs - this.#domains.sinceUs >= resolverLimits.hostDomainsKeptMs * 1_000)
      this.#domains = { names: this.#options.searchDomains(), sinceUs: nowUs };
    return this.#domains.names;
  }

  #uplinks(): Uplinks {
    const { spawner, clock } = this.#options;
    return new Uplinks({
      spawner,
      clock,
      name: this.#name,
      inherited: this.#left.length > 0,
      failed: (error) => this.#defect("network: uplinks", error),
    });
  }

  async #linksOf(layout: Layout): Promise<Links> {
    const inherits = this.#left.length > 0;
    const pins = inherits ? (await readdir(this.#directory)).filter((name) => name !== "router") : [];
    return new Links({
      left: { links: this.#left.map(({ link }) => link), pins },
      spawner: this.#options.spawner,
      directory: this.#directory,
      table: this.#name,
      layout,
      addresses: Math.min(layout.hosts, this.#options.addresses ?? layout.hosts),
      closing: (address) => this.#openings.forget(address),
      failed: (error) => this.#defect("network: removing links", error),
    });
  }

  async #removeAll(): Promise<void> {
    await runScript(this.#options.spawner, removeAll, [this.#directory, this.#name], {
      purpose: "The network of the sandboxes cannot be removed",
    });
  }

  #defect(where: string, error: unknown): void {
    this.#options.tell({ kind: "defect", errorId: newErrorId(), where, error });
  }
}

const needsRoot =
  "The router of the sandboxes cannot be made (it needs root, and the kernel's network namespaces and veth)";
const needsNft =
  "The firewall of the sandboxes cannot be loaded (it needs root, and nftables with inet, fib, ct, nat and, since Linux 5.6, sets of ranges)";

/** The preferred port of an address, or another one: a web server of the host on all addresses holds port 80 here too. */
async function freePort(host: string, preferred: number): Promise<number> {
  for (const port of [preferred, 0]) {
    const server = createServer();
    try {
      await new Promise<void>((resolve, reject) => {
        server.once("error", reject);
        server.listen({ host, port, exclusive: true }, resolve);
      });
      const bound = server.address();
      if (bound && typeof bound === "object") return bound.port;
    } catch (error) {
      if (errnoOf(error) !== "EADDRINUSE") throw error;
    } finally {
      if (server.listening) await new Promise<void>((resolve) => server.close(() => resolve()));
    }
  }
  throw new EbbError("internal", `No port is free on ${host}.`);
}
