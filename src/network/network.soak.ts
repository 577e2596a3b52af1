// Links taken and given back at random for long, while others talk: none is handed out twice, and at the end nothing is left.

import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import * as fc from "fast-check";
import { systemClock } from "#model/clock.ts";
import type { Fact } from "#model/fact.ts";
import type { Link } from "./door.ts";
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

const rounds = 200;
const why = cannotRun();
if (why !== null) void test("links under churn", { skip: why }, () => {});
else if (insideMachine())
  void test("a thousand links come and go: each belongs to one sandbox, and nothing is left", async (context) => {
    const others = await startWorld();
    context.after(() => stopChild(others));
    const before = await machineState();
    const folder = mkdtempSync(join(tmpdir(), "ebb-network-"));
    const facts: Fact[] = [];
    let permits: readonly string[] = [];
    const network = createNetwork({
      spawner: new PlainSpawner(),
      allocator: new PlainAllocator(folder),
      clock: systemClock,
      tell: (fact) => facts.push(fact),
      resolvers: () => [world.public],
      searchDomains: () => [],
      projectAt: () => null,
      permitsOf: () => permits,
      openSeconds: { min: 600, max: 3_600 },
    });
    context.after(() => network.stop());
    await network.start();
    const held = new Map<string, Link>();
    const lists = [["www.example.com:443"], ["10.0.0.0/16:80", "20.0.0.10:443"], ["*.example.com:80", "db.internal:7"]];
    const [plan] = fc.sample(fc.array(fc.integer({ min: -12, max: 12 }), { minLength: rounds, maxLength: rounds }), 1);
    for (const [round, change] of plan!.entries()) {
      permits = [[], ["10.0.0.0/24"], ["10.0.0.5:80", "10.0.0.0/8:7"]][round % 3]!;
      network.permitsChanged();
      const links = await Promise.all(
        Array.from({ length: Math.max(0, change) }, async (_, i) => {
          const link = await network.take(i % 3 === 0 ? "internet" : "none");
          const egress = i % 3 === 0 ? "internet" : lists[(round + i) % lists.length]!;
          await network.admit(link, { project: "a", workload: "b", egress });
          return link;
        }),
      );
      for (const link of links) {
        assert.ok(!held.has(link.address), `${link.address} was handed out twice`);
        held.set(link.address, link);
      }
      for (const link of [...held.values()].slice(0, Math.max(0, -change))) {
        held.delete(link.address);
        network.giveBack(link);
      }
      const [some] = links;
      if (round % 10 !== 0 || !some) continue;
      const [own] = await probe(some.namespacePath, [{ do: "dns", server: network.gateway, name: "ebb.internal" }]);
      assert.equal(own?.result, JSON.stringify([network.gateway]));
      await probe(
        links.at(-1)!.namespacePath,
        ["www.example.com", "db.internal", "big.example.com"].map((name): Step => ({
          do: "dns",
          server: network.gateway,
          name,
        })),
      );
    }
    for (const link of held.values()) network.giveBack(link);
    for (const link of held.values()) while (existsSync(link.namespacePath)) await pause(50);
    const sets = (await execute("nft", ["list", "sets"])).stdout.split("set ");
    const open = sets.filter((text) => /^(granted|granted_all|answered) /.test(text));
    assert.equal(open.length, 3);
    for (const text of open) assert.doesNotMatch(text, /elements/);
    await network.stop();
    assert.equal(await machineState(), before);
    assert.deepEqual(
      facts.filter((fact) => fact.kind !== "egress_withheld"),
      [],
    );
    rmSync(folder, { recursive: true });
  });
