// Allow-lists and permits on a machine of its own (a network namespace): what opens, to whom, for how long, and that all of it goes.

import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { setImmediate as nextTurn, setTimeout as pause } from "node:timers/promises";
import { systemClock } from "#model/clock.ts";
import type { Fact } from "#model/fact.ts";
import type { Egress } from "#model/workload.ts";
import type { Link, Network } from "./door.ts";
import { createNetwork } from "./network.ts";
import {
  cannotRun,
  execute,
  insideMachine,
  machineState,
  PlainAllocator,
  PlainSpawner,
  probe,
  startWorld,
  stopChild,
  world,
  type Step,
} from "./testing/machine.ts";

const why = cannotRun();
if (why !== null) void test("allow-lists", { skip: why }, () => {});
else if (insideMachine()) void describe("allow-lists", suite);

const noRoute = "EHOSTUNREACH";
const other = "20.0.0.11";

function suite(): void {
  let others: ChildProcess;
  let network: Network;
  let untouched: string;
  let permits: readonly string[] = [];
  const facts: Fact[] = [];
  const folder = mkdtempSync(join(tmpdir(), "ebb-network-"));

  before(async () => {
    others = await startWorld();
    untouched = await machineState();
    network = createNetwork({
      spawner: new PlainSpawner(),
      allocator: new PlainAllocator(folder),
      clock: systemClock,
      tell: (fact) => facts.push(fact),
      resolvers: () => [world.public],
      searchDomains: () => [],
      projectAt: () => null,
      permitsOf: (project) => (project === "photos" ? permits : noPermits),
      spare: { internet: 1, none: 3 },
      openSeconds: { min: 1, max: 3_600 },
    });
    await network.start();
  });
  const noPermits: readonly string[] = [];
  beforeEach(() => {
    permits = [];
    facts.length = 0;
  });
  after(async () => {
    await network.stop();
    const left = await machineState();
    await stopChild(others);
    rmSync(folder, { recursive: true, force: true });
    assert.equal(left, untouched, "nothing is left");
  });

  async function linkWith(egress: Egress): Promise<Link> {
    const link = await network.take(typeof egress === "string" ? egress : "none");
    await network.admit(link, { project: "photos", workload: "thumbnail", egress });
    return link;
  }

  async function results(link: Link, ...steps: readonly Step[]): Promise<readonly string[]> {
    const server = network.gateway;
    const found = await probe(
      link.namespacePath,
      steps.map((step) => Object.assign({ server, type: "A" }, step)),
    );
    return found.map((one) => one.result);
  }

  const named = (name: string, port = 443): Step => ({ do: "named", name, port });
  // The kernel says so many times a second at most that there is no way: the second SYN, after a second, hears it then.
  const tcp = (host: string, port = 443): Step => ({ do: "tcp", host, port, ms: 2_500 });
  const reached = `tcp ${world.machine}`;

  void test("a link is the next one's of the same word only where no packet has gone through it or its loopback", async () => {
    const again = async (link: Link, word = "job"): Promise<Link> => {
      network.giveBack(link, "job");
      await nextTurn();
      return network.take("internet", word);
    };
    const first = await network.take("internet", "job");
    const second = await again(first);
    assert.equal(second.namespacePath, first.namespacePath);
    // Whoever had it says so once more: it is not his.
    network.giveBack(first);
    network.giveBack(first, "job");
    const [there] = await probe(second.namespacePath, [{ do: "tcp", host: world.public, port: 443 }]);
    assert.equal(there?.result, `tcp ${world.machine}`);
    const third = await again(second);
    assert.notEqual(third.namespacePath, first.namespacePath, "something went out");
    await probe(third.namespacePath, [{ do: "tcp", host: "127.0.0.1", port: 9 }]);
    const fourth = await again(third);
    assert.notEqual(fourth.namespacePath, third.namespacePath, "something went through its loopback");
    await network.admit(fourth, { project: "p", workload: "w", egress: [`${world.public}/32:443`] });
    const fifth = await again(fourth);
    assert.notEqual(fifth.namespacePath, fourth.namespacePath, "something was open to it");
    assert.notEqual((await again(fifth, "another job")).namespacePath, fifth.namespacePath);
  });

  void test("a name is reached at its port, once it was resolved; no other port, name or address is", async () => {
    const link = await linkWith(["www.example.com:443"]);
    assert.deepEqual(await results(link, tcp(world.public)), [noRoute], "nobody has asked for the name yet");
    assert.deepEqual(
      await results(link, named("www.example.com"), named("short.example.com"), tcp(other), named("ebb.internal", 81)),
      [reached, "ENOTFOUND", noRoute, noRoute],
    );
    assert.deepEqual(await results(link, tcp(world.public, 80), tcp(world.public, 8080)), [noRoute, noRoute]);
    assert.deepEqual(await results(link, { do: "udp", host: world.public, port: 443, ms: 200 }), ["timeout"]);
    assert.deepEqual(await results(link, tcp(world.public)), [reached], "it stays open");
    assert.deepEqual(facts, [
      {
        kind: "egress_withheld",
        project: "photos",
        workload: "thumbnail",
        name: "short.example.com",
        reasons: ["it is not in the egress list"],
      },
    ]);
  });

  void test("a wildcard stands for the names below it, and not for itself", async () => {
    const link = await linkWith(["*.example.com:443", "*.internal.example:443"]);
    assert.deepEqual(await results(link, named("www.example.com"), named("example.com"), named("wwwexample.com")), [
      reached,
      "ENOTFOUND",
      "ENOTFOUND",
    ]);
  });

  void test("networks and addresses are open at their port from the start, by TCP or by UDP as it says", async () => {
    const link = await linkWith(["20.0.0.10:443", "20.0.0.0/24:9999/udp"]);
    assert.deepEqual(
      await results(
        link,
        tcp(world.public),
        tcp(other),
        tcp(world.public, 80),
        { do: "udp", host: world.public, port: 9999 },
        { do: "tcp", host: world.public, port: 9999 },
      ),
      [reached, noRoute, noRoute, `udp ${world.machine}`, noRoute],
    );
  });

  void test("two instances of different lists share no opening, nor does the next one at an address", async () => {
    const [one, two] = await Promise.all([linkWith(["www.example.com:443"]), linkWith(["short.example.com:443"])]);
    assert.deepEqual(await results(one, named("www.example.com")), [reached]);
    assert.deepEqual(await results(two, named("short.example.com")), [reached]);
    assert.deepEqual(await results(one, tcp(other)), [noRoute]);
    assert.deepEqual(await results(two, tcp(world.public)), [noRoute]);
    const before = await elements();
    assert.ok(before.some((text) => text.includes(two.address)));
    network.giveBack(two);
    const late = { project: "photos", workload: "thumbnail", egress: ["20.0.0.10:443"] };
    await assert.rejects(network.admit(two, late), /was given back/);
    while (existsSync(two.namespacePath)) await pause(20);
    assert.deepEqual(
      (await elements()).filter((text) => text.includes(two.address)),
      [],
    );
  });

  void test("what a name opened closes at the end of its time to live, and connections that stand go on", async () => {
    const link = await linkWith(["short.example.com:7"]);
    assert.deepEqual(await results(link, { do: "stand", name: "short.example.com", port: 7, ms: 10_000 }), [
      `${noRoute}, still there`,
    ]);
  });

  void test("a listed name that leads to loopback, metadata or a private address is not opened, and its log says so", async () => {
    permits = ["192.168.1.0/24"];
    const names = ["rebind.example.com", "loop.example.com", "meta.example.com", "alias.example.com"];
    const link = await linkWith([...names.map((name) => `${name}:80`), ...names.map((name) => `${name}:443`)]);
    assert.deepEqual(
      await results(link, ...names.map((name): Step => ({ do: "dns", name }))),
      ['["20.0.0.10"]', "ENODATA", "ENODATA", '["192.168.1.1"]'],
      "what is told is what may be reached",
    );
    assert.deepEqual(
      await results(link, tcp(world.private, 80), tcp(world.metadata, 80), tcp("127.0.0.1", 80), tcp(world.public, 80)),
      [noRoute, noRoute, "ECONNREFUSED", reached],
    );
    const told = facts.map((fact) =>
      fact.kind === "egress_withheld" ? `${fact.name}: ${fact.reasons.join(", ")}` : fact.kind,
    );
    assert.deepEqual(
      new Set(told),
      new Set([
        "loop.example.com: 127.0.0.1 is not reachable",
        "meta.example.com: 169.254.169.254 is not reachable",
        "rebind.example.com: 10.0.0.5 is not reachable, 127.0.0.1 is not reachable, 169.254.169.254 is not reachable",
      ]),
    );
    assert.equal(told.length, 3);
    await results(link, { do: "dns", name: "loop.example.com" });
    assert.equal(facts.length, 3, "once for each name");
  });

  void test("a permit opens private addresses at its port, to lists that name them and to egress internet", async () => {
    permits = ["10.0.0.0/24:80"];
    const [byName, byNetwork, wide, none] = await Promise.all([
      linkWith(["db.internal:80", "db.internal:443"]),
      linkWith(["10.0.0.0/8:80", "10.0.0.0/8:443"]),
      linkWith("internet"),
      linkWith("none"),
    ]);
    const both = [tcp(world.private, 80), tcp(world.private, 443)];
    assert.deepEqual(await results(byName, named("db.internal", 80)), [reached]);
    for (const link of [byName, byNetwork, wide]) assert.deepEqual(await results(link, ...both), [reached, noRoute]);
    assert.deepEqual(await results(none, ...both), [noRoute, noRoute]);
    assert.deepEqual(await results(wide, tcp(world.public), tcp("192.168.1.1", 80)), [reached, noRoute]);
  });

  void test("a change of the permit holds for the next connection of instances that run, and of their projects alone", async () => {
    const [listed, wide, stranger] = await Promise.all([
      linkWith(["db.internal:80", "10.0.0.5:443"]),
      linkWith("internet"),
      network.take("none"),
    ]);
    await network.admit(stranger, { project: "other", workload: "a", egress: ["10.0.0.5:80"] });
    const all = async (...steps: readonly Step[]): Promise<readonly (readonly string[])[]> =>
      Promise.all([listed, wide, stranger].map((link) => results(link, ...steps)));
    assert.deepEqual(await results(listed, named("db.internal", 80)), ["ENOTFOUND"]);
    permits = ["10.0.0.0/24"];
    network.permitsChanged();
    assert.deepEqual(await results(listed, named("db.internal", 80)), [reached]);
    assert.deepEqual(await all(tcp(world.private, 80), tcp(world.private)), [
      [reached, reached],
      [reached, reached],
      [noRoute, noRoute],
    ]);
    permits = ["10.0.0.0/24:443"];
    network.permitsChanged();
    await settled();
    assert.deepEqual(await all(tcp(world.private, 80), tcp(world.private)), [
      [noRoute, reached],
      [noRoute, reached],
      [noRoute, noRoute],
    ]);
    permits = [];
    network.permitsChanged();
    await settled();
    assert.deepEqual(
      (await all(tcp(world.private, 80), tcp(world.private))).flat(),
      Array.from({ length: 6 }, () => noRoute),
    );
  });

  /** All that was asked of the firewall so far is done: what is asked now comes after it. */
  async function settled(): Promise<void> {
    const link = await linkWith(["20.0.0.10:1"]);
    network.giveBack(link);
  }

  /** Of the sets that say what is open to whom; the others count, and forget by themselves. */
  async function elements(): Promise<readonly string[]> {
    const all = (await execute("nft", ["list", "sets"])).stdout.split("set ");
    return all
      .filter((text) => /^(live|wide|granted|granted_all|answered) /.test(text))
      .flatMap((text) => text.split(/[\n,]/));
  }
}
