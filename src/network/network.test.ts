// The whole room on a machine of its own (a network namespace): what a sandbox reaches, what it does not, and that nothing is left.

import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { after, before, describe, test, type TestContext } from "node:test";
import { systemClock } from "#model/clock.ts";
import type { Fact } from "#model/fact.ts";
import type { Link, Network } from "./door.ts";
import { createNetwork, type NetworkOptions } from "./network.ts";
import {
  cannotRun,
  execute,
  insideMachine,
  inWorld,
  machineState,
  PlainAllocator,
  PlainSpawner,
  probe,
  probing,
  startWorld,
  stopChild,
  world,
} from "./testing/machine.ts";

const why = cannotRun();
if (why !== null) void test("the network of sandboxes", { skip: why }, () => {});
else if (insideMachine()) void describe("the network of sandboxes", suite);

interface Started {
  readonly network: Network;
  readonly spawner: PlainSpawner;
  readonly facts: Fact[];
}

function make(options: Partial<NetworkOptions> = {}): Started & { readonly folder: string } {
  const folder = mkdtempSync(join(tmpdir(), "ebb-network-"));
  const spawner = new PlainSpawner();
  const facts: Fact[] = [];
  const network = createNetwork({
    spawner,
    allocator: new PlainAllocator(folder),
    clock: systemClock,
    tell: (fact) => facts.push(fact),
    resolvers: () => [world.public],
    searchDomains: () => [],
    projectAt: () => null,
    spare: { internet: 2, none: 1 },
    ...options,
  });
  return { network, spawner, facts, folder };
}

async function started(context: TestContext, options: Partial<NetworkOptions> = {}): Promise<Started> {
  const { folder, ...made } = make(options);
  context.after(async () => {
    await made.network.stop();
    rmSync(folder, { recursive: true, force: true });
    assert.deepEqual(made.facts, [], "no defect was told");
  });
  await made.network.start();
  return made;
}

/** Waits for a condition that becomes true by itself; fails after 5 s. */
async function eventually(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; i < 250; i++) {
    if (await condition()) return;
    await pause(20);
  }
  assert.fail(`never became true: ${what}`);
}

function listen(host: string, port: number): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.on("error", () => {}).end("host"));
    server.once("error", reject);
    server.listen(port, host, () => resolve(server));
  });
}

const close = (server: Server): Promise<void> => new Promise((resolve) => server.close(() => resolve()));
const refused = new Set(["EHOSTUNREACH", "ECONNREFUSED", "ENETUNREACH", "timeout"]);

function assertClosed(result: { readonly result: string } | undefined, what: string): void {
  assert.ok(result && refused.has(result.result), `${what} must be closed, found: ${result?.result}`);
}

function suite(): void {
  let others: ChildProcess;
  before(async () => {
    others = await startWorld();
  });
  after(() => stopChild(others));

  void describe("on one network", () => {
    let shared: Started;
    let folder: string;
    before(async () => {
      ({ folder, ...shared } = make());
      await shared.network.start();
    });
    after(async () => {
      await shared.network.stop();
      rmSync(folder, { recursive: true, force: true });
      assert.deepEqual(shared.facts, [], "no defect was told");
    });

    void test("egress internet reaches public addresses, behind the machine's own address", async () => {
      const { network } = shared;
      const link = await network.take("internet");
      const [tcp, udp] = await probe(link.namespacePath, [
        { do: "tcp", host: world.public, port: 443 },
        { do: "udp", host: world.public, port: 9999 },
      ]);
      assert.equal(tcp?.result, `tcp ${world.machine}`);
      assert.equal(udp?.result, `udp ${world.machine}`);
    });

    void test("egress none reaches nothing, and is told so at once", async () => {
      const { network } = shared;
      const link = await network.take("none");
      const [tcp, udp] = await probe(link.namespacePath, [
        { do: "tcp", host: world.public, port: 443 },
        { do: "udp", host: world.public, port: 9999 },
      ]);
      assert.equal(tcp?.result, "EHOSTUNREACH");
      assert.ok(tcp.ms < 500, `it took ${tcp.ms} ms`);
      assert.equal(udp?.result, "timeout");
    });

    void test("private, link-local and metadata addresses are closed, and mail to the world", async () => {
      const { network } = shared;
      const link = await network.take("internet");
      const hosts = [world.private, world.metadata, "100.100.100.200", "172.16.0.9", "192.168.1.1", "198.18.0.1"];
      const results = await probe(link.namespacePath, [
        ...hosts.map((host) => ({ do: "tcp", host, port: 80 }) as const),
        { do: "tcp", host: world.public, port: 25 },
        { do: "udp", host: world.private, port: 9999, ms: 300 },
      ]);
      for (const [at, host] of hosts.entries()) if (host !== network.gateway) assertClosed(results[at], host);
      assertClosed(results.at(-2), "port 25");
      assertClosed(results.at(-1), "UDP to a private address");
      for (const result of results) assert.ok(result.ms < 1_000, "refused or dropped within a second");
    });

    void test("of the host only the resolver and ebb.internal answer, at none of its addresses anything else", async (context) => {
      const { network } = shared;
      const servers = await Promise.all([
        listen("0.0.0.0", 7001),
        listen("127.0.0.1", 7002),
        listen(network.gateway, network.internalPort),
      ]);
      context.after(() => Promise.all(servers.map(close)));
      const link = await network.take("internet");
      const [internal, ...closed] = await probe(link.namespacePath, [
        { do: "tcp", host: network.gateway, port: 80 },
        { do: "tcp", host: network.gateway, port: 7001 },
        { do: "tcp", host: world.machine, port: 7001 },
        { do: "tcp", host: world.machine, port: 80 },
        { do: "tcp", host: "127.0.0.1", port: 7002 },
        { do: "tcp", host: network.gateway.replace(/1$/, "2"), port: 7001 },
        { do: "tcp", host: "0.0.0.0", port: 7001 },
      ]);
      assert.equal(internal?.result, "host");
      for (const [at, result] of closed.entries()) assertClosed(result, `closed step ${at}`);
    });

    void test("siblings do not reach each other, nor does the world reach them; the daemon does", async () => {
      const { network } = shared;
      const [one, two] = await Promise.all([network.take("internet"), network.take("internet")]);
      const sink = probing(two.namespacePath, { do: "receive", port: 9000, ms: 900 });
      await sink.listening;
      const [sibling] = await probe(one.namespacePath, [{ do: "udp", host: two.address, port: 9000, ms: 100 }]);
      assertClosed(sibling, "a sibling");
      await probe(inWorld()[0]!.slice("--net=".length), [{ do: "udp", host: two.address, port: 9000, ms: 100 }]);
      assert.equal(await sink.result, "nothing");
      const own = probing(two.namespacePath, { do: "receive", port: 9000, ms: 3_000 });
      await own.listening;
      await probe("/proc/self/ns/net", [{ do: "udp", host: two.address, port: 9000, ms: 50 }]);
      assert.equal(await own.result, "hello");
    });

    void test("there is no IPv6 inside", async () => {
      const { network } = shared;
      const link = await network.take("internet");
      const [result] = await probe(link.namespacePath, [{ do: "ipv6" }]);
      assert.match(result?.result ?? "", /^(EADDRNOTAVAIL|EAFNOSUPPORT)$/);
    });

    void test("a forged source address gets no packet out", async () => {
      const { network } = shared;
      const [one, two] = await Promise.all([network.take("internet"), network.take("none")]);
      // only root of the machine can do this at all: a sandbox has no capability in its namespace
      for (const forged of [one.address, "20.0.0.77"])
        await execute("nsenter", [`--net=${two.namespacePath}`, "ip", "addr", "add", `${forged}/32`, "dev", "lo"]);
      const results = await probe(two.namespacePath, [
        { do: "tcp", host: world.public, port: 443, from: one.address },
        { do: "tcp", host: world.public, port: 443, from: "20.0.0.77" },
        { do: "tcp", host: network.gateway, port: 80, from: one.address },
      ]);
      for (const [at, result] of results.entries()) assert.equal(result.result, "timeout", `step ${at}`);
    });

    void test("a link that is given back is cut off at once, and its late packets reach nobody after it", async () => {
      const { network } = shared;
      const first = await network.take("internet");
      const holds = probing(first.namespacePath, { do: "receive", port: 5555, ms: 4_000 });
      await holds.listening;
      network.giveBack(first);
      await eventually("the link is removed", () => !existsSync(first.namespacePath));
      const [result] = await probe("/proc/self/ns/net", [{ do: "udp", host: first.address, port: 5555, ms: 50 }]);
      assertClosed(result, "an address that was given back");
      network.giveBack(first);
      const again = await network.take("internet");
      assert.notEqual(again.address, first.address);
      assert.equal((await holds.result).length > 0, true);
    });

    void test("names are resolved for egress internet, and for none only ebb's own", async () => {
      const { network } = shared;
      const [open, shut] = await Promise.all([network.take("internet"), network.take("none")]);
      const ask = (name: string, type = "A") => ({ do: "dns", server: network.gateway, name, type }) as const;
      const names = ["www.example.com", "rebind.example.com", "alias.example.com", "big.example.com"];
      const told = await probe(open.namespacePath, [
        ...names.map((name) => ask(name)),
        ask("www.example.com", "AAAA"),
        ask("nowhere.example.com"),
        ask("other.ebb.internal"),
      ]);
      assert.deepEqual(
        told.map((one) => one.result),
        [
          '["20.0.0.10"]',
          '["20.0.0.10"]',
          "ENODATA",
          JSON.stringify(Array.from({ length: 60 }, (_, i) => `20.1.0.${i + 1}`)),
          "ENODATA",
          "ENOTFOUND",
          JSON.stringify([network.gateway]),
        ],
      );
      const refusals = await probe(shut.namespacePath, [ask("www.example.com"), ask("ebb.internal")]);
      assert.equal(refusals[0]?.result, "ENOTFOUND");
      assert.ok(refusals[0].ms < 200, `it took ${refusals[0].ms} ms`);
      assert.equal(refusals[1]?.result, JSON.stringify([network.gateway]));
    });

    void test("garbage and floods do not hurt the resolver", async () => {
      const { network, facts } = shared;
      const [bad, good] = await Promise.all([network.take("internet"), network.take("internet")]);
      const hexes = ["", "00", "ff".repeat(1_400), `${"00".repeat(4)}ffff${"00".repeat(6)}`, "c00c".repeat(100)];
      await probe(
        bad.namespacePath,
        hexes.map((hex) => ({ do: "udp", host: network.gateway, port: 53, hex, count: 500, ms: 20 }) as const),
      );
      const [answer] = await probe(good.namespacePath, [
        { do: "dns", server: network.gateway, name: "www.example.com", type: "A" },
      ]);
      assert.equal(answer?.result, '["20.0.0.10"]');
      assert.deepEqual(facts, []);
    });
  });

  void test("a private network that the operator permits is open, and the rest stays closed", async (context) => {
    const { network } = await started(context, { permitsOf: () => ["10.0.0.0/24"] });
    const link = await network.take("internet");
    await network.admit(link, { project: "default", workload: "a", egress: "internet" });
    const [permitted, other] = await probe(link.namespacePath, [
      { do: "tcp", host: world.private, port: 80 },
      { do: "tcp", host: "192.168.1.1", port: 80 },
    ]);
    assert.equal(permitted?.result, `tcp ${world.machine}`);
    assertClosed(other, "a network that was not permitted");
  });

  void test("ebb.internal is served although another program holds port 80 on all addresses", async (context) => {
    const web = await listen("0.0.0.0", 80);
    context.after(() => close(web));
    const { network } = await started(context);
    assert.notEqual(network.internalPort, 80);
    const internal = createServer((socket) => socket.end("ebb"));
    await new Promise<void>((resolve) => internal.listen(network.internalPort, network.gateway, () => resolve()));
    context.after(() => close(internal));
    const link = await network.take("none");
    const [result] = await probe(link.namespacePath, [{ do: "tcp", host: network.gateway, port: 80 }]);
    assert.equal(result?.result, "ebb");
  });

  void test("many takes at once all get a link of their own, and spare ones never wait", async (context) => {
    const { network } = await started(context);
    await eventually("two spare links", async () => (await openLinks()) === 2);
    await pause(0);
    const begun = process.hrtime.bigint();
    const spare = await Promise.all([network.take("internet"), network.take("internet")]);
    const tookMs = Number(process.hrtime.bigint() - begun) / 1e6;
    assert.ok(tookMs < 20, `two spare links took ${tookMs} ms`);
    const more = await Promise.all(Array.from({ length: 10 }, () => network.take("internet")));
    const links: Link[] = [...spare, ...more];
    assert.equal(new Set(links.map((link) => link.address)).size, 12);
    assert.equal(new Set(links.map((link) => link.namespacePath)).size, 12);
    const [last] = await probe(links.at(-1)!.namespacePath, [{ do: "tcp", host: world.public, port: 443 }]);
    assert.equal(last?.result, `tcp ${world.machine}`);
  });

  void test("links that cannot be made are an error for who waits, and are made later", async (context) => {
    const { network, spawner, facts } = await started(context, { spare: { internet: 0, none: 0 } });
    spawner.failing = '"eth0"';
    await assert.rejects(network.take("internet"), /Links for sandboxes cannot be made: made to fail/);
    spawner.failing = null;
    const link = await network.take("internet");
    assert.ok(existsSync(link.namespacePath));
    facts.length = 0;
  });

  void test("stop leaves nothing: links, addresses, routes, rules, switches, mounts", async () => {
    const before = await machineState();
    const { network, facts, folder } = make();
    await network.start();
    await Promise.all([network.take("internet"), network.take("none")]);
    assert.notEqual(await machineState(), before);
    await network.stop();
    assert.equal(await machineState(), before);
    assert.deepEqual(facts, []);
    rmSync(folder, { recursive: true });
  });

  void test("what the ledger was told removes everything after a death, at any time, and twice", async () => {
    const before = await machineState();
    for (const links of [0, 3]) {
      const { network, spawner, folder } = make();
      await network.start();
      for (let i = 0; i < links; i++) await network.take("internet");
      await spawner.undo();
      await spawner.undo();
      await network.stop().catch(() => {});
      await eventually("everything is gone", async () => (await machineState()) === before);
      rmSync(folder, { recursive: true, force: true });
    }
  });

  void test("a start that fails half-way leaves nothing", async () => {
    const before = await machineState();
    const { network, spawner, folder } = make();
    for (const failing of ['"pair"', "nsenter", "nft -f", "forwarding"]) {
      spawner.failing = failing;
      await assert.rejects(network.start(), /made to fail/, failing);
      spawner.failing = null;
      await eventually(`all is gone after ${failing}`, async () => (await machineState()) === before);
    }
    rmSync(folder, { recursive: true, force: true });
  });

  void test("two daemons on one machine work side by side, and one that stops takes nothing from the other", async (context) => {
    const one = await started(context);
    const other = make();
    await other.network.start();
    assert.notEqual(one.network.gateway, other.network.gateway);
    const [mine, theirs] = await Promise.all([one.network.take("internet"), other.network.take("internet")]);
    const [crossed] = await probe(mine.namespacePath, [{ do: "tcp", host: other.network.gateway, port: 80 }]);
    assertClosed(crossed, "the other daemon's gateway");
    const [direct] = await probe(mine.namespacePath, [{ do: "tcp", host: theirs.address, port: 80 }]);
    assertClosed(direct, "the other daemon's sandbox");
    await other.network.stop();
    const [still] = await probe(mine.namespacePath, [{ do: "tcp", host: world.public, port: 443 }]);
    assert.equal(still?.result, `tcp ${world.machine}`);
    rmSync(other.folder, { recursive: true });
  });

  void test("the machine routes nothing for its neighbours because ebb runs", async (context) => {
    await started(context);
    // a second network behind the machine, and a neighbour that tries to get there through it
    const setUp = `ip link add lan0 type veth peer name lan1; ip addr add 192.168.77.1/24 dev lan0; ip link set lan0 up
      ip netns add ebb-test-lan; ip link set lan1 netns ebb-test-lan
      nsenter --net=/run/netns/ebb-test-lan sh -c 'ip link set lo up; ip addr add 192.168.77.2/24 dev lan1; ip link set lan1 up; ip route add default via 192.168.77.1'`;
    context.after(() => execute("sh", ["-c", "ip netns del ebb-test-lan; ip link del lan0"]));
    assert.equal((await execute("sh", ["-ec", setUp])).code, 0);
    await execute("nsenter", [...inWorld(), "ip", "route", "add", "192.168.77.0/24", "via", world.machine]);
    const inside = probing("/run/netns/ebb-test-lan", { do: "receive", port: 9000, ms: 600 });
    await inside.listening;
    await probe(inWorld()[0]!.slice("--net=".length), [{ do: "udp", host: "192.168.77.2", port: 9000, ms: 100 }]);
    assert.equal(await inside.result, "nothing");
    // the same without the guard does arrive: it is the guard that holds it back
    const tables = (await execute("nft", ["list", "tables"])).stdout.match(/ebb[0-9a-f]{8}/g) ?? [];
    assert.equal(tables.length, 1);
    await execute("nft", ["flush", "set", "inet", tables[0], "guarded"]);
    const open = probing("/run/netns/ebb-test-lan", { do: "receive", port: 9000, ms: 3_000 });
    await open.listening;
    await probe(inWorld()[0]!.slice("--net=".length), [{ do: "udp", host: "192.168.77.2", port: 9000, ms: 50 }]);
    assert.equal(await open.result, "hello");
  });

  void test("what comes late for an earlier sandbox does not reach the next one at its address", async (context) => {
    const { network } = await started(context, { spare: { internet: 0, none: 0 }, addresses: 1 });
    const hears = async (cut: boolean): Promise<string> => {
      const link = await network.take("internet");
      const [first] = await probe(link.namespacePath, [{ do: "udp", host: world.public, port: 9999, localPort: 5555 }]);
      assert.equal(first?.result, `udp ${world.machine}`);
      if (cut) {
        network.giveBack(link);
        await eventually("the link is removed", () => !existsSync(link.namespacePath));
      }
      const next = cut ? await network.take("internet") : link;
      assert.equal(next.address, link.address);
      const listening = probing(next.namespacePath, { do: "receive", port: 5555, ms: cut ? 500 : 3_000 });
      await listening.listening;
      others.stdin!.write("now");
      const heard = await listening.result;
      network.giveBack(next);
      await eventually("the link is removed", () => !existsSync(next.namespacePath));
      return heard;
    };
    assert.equal(await hears(false), "late", "the same sandbox hears it");
    assert.equal(await hears(true), "nothing");
  });
}

/** Links that may go out, spare ones included: what stands in the set `wide` of the only daemon there is. */
async function openLinks(): Promise<number> {
  const rules: { nftables: { set?: { name: string; elem?: unknown[] } }[] } = JSON.parse(
    (await execute("nft", ["-j", "list", "sets"])).stdout,
  );
  return rules.nftables.find((item) => item.set?.name === "wide")?.set?.elem?.length ?? 0;
}
