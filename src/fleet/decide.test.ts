// The fleet's decisions as tables and properties: memory, quotas, eviction, back-off, surplus, turns.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  admit,
  backoffMs,
  decidePauses,
  endedLikeACrash,
  sandboxMemoryBytes,
  startsAtOnce,
  surplus,
  type IdleInstance,
} from "./decide.ts";
import { Turns } from "./turns.ts";

const MiB = 1024 * 1024;
const GiB = 1024 * MiB;
const taken = (bytes: number, endingBytes = 0, instances = 0, endingInstances = 0) => ({
  bytes,
  endingBytes,
  instances,
  endingInstances,
});
const idle = (id: string, memoryBytes: number, project = "default"): IdleInstance => ({
  id,
  memoryBytes,
  project,
  workload: `${project}/${id}`,
  lastUsed: 0,
});

test("the machine keeps the larger of 512 MiB and 15%", () => {
  assert.equal(sandboxMemoryBytes(2 * GiB), 1.5 * GiB);
  assert.equal(sandboxMemoryBytes(100 * GiB), 85 * GiB);
  assert.equal(sandboxMemoryBytes(256 * MiB), 0);
});

test("a larger machine starts more at a time", () => {
  assert.deepEqual([1, 2, 4, 64].map(startsAtOnce), [6, 6, 12, 192]);
});

test("with room it starts; without it the least recently used idle ones go, no more than needed", () => {
  const machine = (used: number, ending = 0) => ({ taken: taken(used, ending), limitBytes: 1000 });
  const candidates = (): readonly IdleInstance[] => [idle("oldest", 100), idle("old", 100), idle("young", 100)];
  assert.deepEqual(admit(100, machine(900), null, candidates), { kind: "start" });
  assert.deepEqual(admit(100, machine(901), null, candidates), { kind: "wait", evict: ["oldest"] });
  assert.deepEqual(admit(200, machine(1000), null, candidates), { kind: "wait", evict: ["oldest", "old"] });
  assert.deepEqual(admit(200, machine(1000, 100), null, candidates), { kind: "wait", evict: ["oldest"] });
  assert.deepEqual(admit(200, machine(1000, 200), null, candidates), { kind: "wait", evict: [] });
  assert.deepEqual(admit(301, machine(1000), null, candidates), { kind: "refuse", why: "capacity" });
});

test("a project over its quota makes room among its own only", () => {
  const machine = { taken: taken(0), limitBytes: 10 * GiB };
  const candidates = (): readonly IdleInstance[] => [idle("theirs", 100 * MiB, "other"), idle("ours", 100 * MiB, "p")];
  const project = (memoryMb: number | null, instances: number | null) => ({
    name: "p",
    workload: "p/w",
    taken: taken(200 * MiB, 0, 2),
    quotas: { memoryMb, instances, ratePerSecond: null },
  });
  const need = 100 * MiB;
  assert.deepEqual(admit(need, machine, project(300, 3), candidates), { kind: "start" });
  assert.deepEqual(admit(need, machine, project(299, 3), candidates), { kind: "wait", evict: ["ours"] });
  assert.deepEqual(admit(need, machine, project(null, 2), candidates), { kind: "wait", evict: ["ours"] });
  assert.deepEqual(admit(need, machine, project(null, 1), candidates), { kind: "refuse", why: "over_quota" });
  assert.deepEqual(admit(need, machine, project(100, null), candidates), { kind: "refuse", why: "over_quota" });
});

test("whatever is evicted, it is enough, and each is needed", () => {
  const sizes = fc.array(fc.integer({ min: 1, max: 500 }), { maxLength: 20 });
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 1000 }),
      fc.integer({ min: 0, max: 1000 }),
      sizes,
      (need, busy, idleSizes) => {
        const candidates = idleSizes.map((size, i) => idle(String(i), size));
        const used = busy + idleSizes.reduce((sum, size) => sum + size, 0);
        const limitBytes = Math.max(1000, used);
        const verdict = admit(need, { taken: taken(used), limitBytes }, null, () => candidates);
        if (verdict.kind === "start") assert.ok(used + need <= limitBytes);
        else if (verdict.kind === "refuse") assert.ok(busy + need > limitBytes);
        else {
          const freed = verdict.evict.map((id) => idleSizes[Number(id)]!);
          const after = used - freed.reduce((sum, size) => sum + size, 0);
          assert.ok(after + need <= limitBytes);
          assert.ok(after + freed.at(-1)! + need > limitBytes);
        }
      },
    ),
  );
});

test("back-off doubles to its bound and is spread by chance; the platform's own failures are tried again sooner", () => {
  assert.equal(backoffMs(1, "function", 0), 500);
  assert.equal(backoffMs(1, "function", 0.999999), 1000);
  assert.equal(backoffMs(3, "function", 0.999999), 4000);
  assert.equal(backoffMs(1000, "function", 0.999999), 300_000);
  assert.equal(backoffMs(1, "platform", 0), 100);
  assert.equal(backoffMs(1000, "platform", 0.999999), 10_000);
});

test("an instance that dies of a request, or after a while, or because it was told to, is no crash loop", () => {
  assert.equal(endedLikeACrash({ reason: "exited", readyForMs: 50, active: 0 }), true);
  assert.equal(endedLikeACrash({ reason: "memory", readyForMs: 50, active: 0 }), true);
  assert.equal(endedLikeACrash({ reason: "exited", readyForMs: 50, active: 1 }), false);
  assert.equal(endedLikeACrash({ reason: "exited", readyForMs: 10_000, active: 0 }), false);
  assert.equal(endedLikeACrash({ reason: "killed", readyForMs: 50, active: 0 }), false);
});

test("instances are paused when they have been idle for so long, a few at a time, and the next is looked at when it is due", () => {
  const idle = [1, 2, 3, 4, 5, 6].map((id) => ({ id, idleSinceUs: 1_000_000 * id }));
  const decided = (nowUs: number) => {
    const { pause, decideAgainAtUs } = decidePauses(idle, 5_000, nowUs);
    return [pause.map(({ id }) => id), decideAgainAtUs];
  };
  assert.deepEqual(decided(5_999_999), [[], 6_000_000]);
  assert.deepEqual(decided(6_000_000), [[1], 7_000_000]);
  assert.deepEqual(decided(9_000_000), [[1, 2, 3, 4], 10_000_000]);
  assert.deepEqual(decided(20_000_000), [[1, 2, 3, 4], 20_010_000]);
  assert.deepEqual(decidePauses(idle.slice(4), 5_000, 20_000_000), {
    pause: idle.slice(4),
    reason: "idle for 5 s",
    decideAgainAtUs: null,
  });
});

test("a surplus is taken from those that have done least, then from idle ones, then from the least busy, youngest first", () => {
  const live = [
    { id: "paused", stage: "ready", paused: true, active: 0, startUs: 0 },
    { id: "busy", stage: "ready", paused: false, active: 5, startUs: 1 },
    { id: "idle-old", stage: "ready", paused: false, active: 0, startUs: 2 },
    { id: "idle-young", stage: "ready", paused: false, active: 0, startUs: 3 },
    { id: "assigning", stage: "assigning", paused: false, active: 0, startUs: 4 },
    { id: "preparing", stage: "preparing", paused: false, active: 0, startUs: 5 },
  ] as const;
  assert.deepEqual(surplus(live, 6), ["preparing", "assigning", "paused", "idle-young", "idle-old", "busy"]);
  assert.deepEqual(surplus(live, 1), ["preparing"]);
  assert.deepEqual(surplus(live, 0), []);
});

test("turns go around the projects, and around the rows within them; nobody stands in a row twice", () => {
  const turns = new Turns<string>();
  for (const one of ["a1", "a2", "a3", "a1"]) turns.add("a", one);
  turns.add("b", "b1");
  turns.delete("a", "a2");
  assert.equal(turns.size, 3);
  assert.deepEqual([turns.take(), turns.take(), turns.take(), turns.take()], ["a1", "b1", "a3", null]);
  turns.add("b", "b1");
  assert.equal(turns.take(), "b1");
});
