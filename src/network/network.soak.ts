// Links taken and given back at random for long, while others talk: none is handed out twice, and at the end nothing is left.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import * as fc from "fast-check";
import { systemClock } from "#model/clock.ts";
import type { Link } from "./door.ts";
import { createNetwork } from "./network.ts";
import {
  cannotRun,
  insideMachine,
  machineState,
  PlainAllocator,
  PlainSpawner,
  probe,
  startWorld,
  stopChild,
  world,
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
    const facts: unknown[] = [];
    const network = createNetwork({
      spawner: new PlainSpawner(),
      allocator: new PlainAllocator(folder),
      clock: systemClock,
      tell: (fact) => facts.push(fact),
      resolvers: () => [world.public],
      searchDomains: () => [],
      projectAt: () => null,
    });
    context.after(() => network.stop());
    await network.start();
    const held = new Map<string, Link>();
    const [plan] = fc.sample(fc.array(fc.integer({ min: -12, max: 12 }), { minLength: rounds, maxLength: rounds }), 1);
    for (const [round, change] of plan!.entries()) {
      const links = await Promise.all(
        Array.from({ length: Math.max(0, change) }, (_, i) => network.take(i % 3 === 0 ? "none" : "internet")),
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
    }
    await network.stop();
    assert.equal(await machineState(), before);
    assert.deepEqual(facts, []);
    rmSync(folder, { recursive: true });
  });
