// Which instances are held still, and when they go on: the fleet against a driver that keeps books.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Fact } from "#model/fact.ts";
import { pauseLimits } from "#model/limits.ts";
import { noFaults, revisionOf, World, type WorldOptions } from "../../test/simulation/world.ts";

function world(options: Partial<WorldOptions> = {}): World {
  return new World({ seed: 7, faults: noFaults, memoryMb: 8192, pauseAfterMs: 5_000, ...options });
}

function pausesOf(facts: readonly Fact[]): string[] {
  return facts.flatMap((fact) => {
    if (fact.kind === "instance_paused") return [`paused: ${fact.reason}`];
    return fact.kind === "instance_resumed" ? ["resumed"] : [];
  });
}

test("an instance in which nothing has run for a while is paused, goes on for a call, and is paused again", async () => {
  const w = world();
  const revision = revisionOf("hello");
  w.deploy(revision);
  w.crowd.send(revision, 10, null);
  await w.run(4_000);
  assert.deepEqual([w.fleet.workloadState(revision).ready, w.fleet.workloadState(revision).paused], [1, 0]);
  await w.run(2_000);
  assert.deepEqual([w.fleet.workloadState(revision).ready, w.fleet.workloadState(revision).paused], [1, 1]);
  assert.equal(w.fleet.instances(revision)[0]?.state, "paused");

  const call = w.crowd.send(revision, 10, null);
  assert.equal(w.fleet.workloadState(revision).paused, 0, "before it is handed over");
  await w.run(20);
  assert.equal(call.end, "ok");
  assert.equal(w.driver.prepared, 1);
  await w.run(6_000);
  assert.equal(w.fleet.workloadState(revision).paused, 1);
  assert.deepEqual(pausesOf(w.facts), ["paused: idle for 5 s", "resumed", "paused: idle for 5 s"]);
  await w.run(70_000);
  w.checkZero();
});

test("calls that come often enough pause nothing, and one that is busy for long is not paused", async () => {
  const w = world();
  const [often, long] = [revisionOf("often"), revisionOf("long")];
  w.deploy(often);
  w.deploy(long);
  w.crowd.send(long, 29_000, null);
  for (let i = 0; i < 10; i++) {
    w.crowd.send(often, 10, null);
    await w.run(2_900);
  }
  assert.deepEqual(pausesOf(w.facts), []);
});

test("nothing is paused that `min` holds, where the operator wants none, or where the driver cannot", async () => {
  for (const [one, min] of [
    [world(), 1],
    [world({ pauseAfterMs: null }), 0],
    [world({ canPause: false }), 0],
  ] as const) {
    const revision = revisionOf("hello", { min });
    one.deploy(revision);
    one.crowd.send(revision, 10, null);
    await one.run(20_000);
    assert.equal(one.fleet.workloadState(revision).ready, 1);
    assert.equal(one.driver.paused, 0);
  }
});

test("an instance that nobody has called since it was ready is paused too", async () => {
  const w = world();
  const revision = revisionOf("hello");
  w.current.set("default/hello", revision);
  w.fleet.want(revision, 1, ["test"]);
  await w.run(6_000);
  assert.equal(w.fleet.workloadState(revision).paused, 1);
});

test("many that fall idle together are paused a few at a time", async () => {
  const w = world({ memoryMb: 24_576 });
  const revision = revisionOf("hello", { concurrency: 1, max: 20 });
  w.deploy(revision);
  for (let i = 0; i < 20; i++) w.crowd.send(revision, 1_000, null);
  await w.run(5_990);
  for (let most = 0, before = 0; before < 20; before = w.driver.paused, most++) {
    await w.run(1);
    assert.ok(w.driver.paused - before <= pauseLimits.atOnce);
    assert.ok(most < 2_000, "they are paused in the end");
  }
});

test("paused instances that are not wanted any more end, and so does one that dies of itself", async () => {
  const w = world();
  const revision = revisionOf("hello");
  w.deploy(revision);
  w.crowd.send(revision, 10, null);
  await w.run(6_000);
  w.remove(revision);
  assert.equal(w.fleet.workloadState(revision).paused, 0);
  await w.run(100);
  w.checkZero();

  const again = revisionOf("again");
  w.deploy(again);
  w.crowd.send(again, 10, null);
  await w.run(6_000);
  assert.equal(w.fleet.workloadState(again).paused, 1);
  const [sandbox] = w.driver.sandboxes.values();
  w.driver.exit(sandbox!, { reason: "killed", code: null, message: "killed" });
  assert.deepEqual([w.fleet.workloadState(again).ready, w.fleet.workloadState(again).paused], [0, 0]);
  const call = w.crowd.send(again, 10, null);
  await w.run(200);
  assert.equal(call.end, "ok");
  await w.run(70_000);
  w.checkZero();
});

test("one that cannot go on is killed, and told of; one that cannot be paused serves on", async () => {
  const stuck = world({ faults: { ...noFaults, resumeThrows: 1_000 } });
  const revision = revisionOf("hello");
  stuck.deploy(revision);
  stuck.crowd.send(revision, 10, null);
  await stuck.run(6_000);
  const lost = stuck.crowd.send(revision, 10, null);
  await stuck.run(200);
  assert.equal(lost.end, "timeout", "as every call of an instance that is killed");
  assert.ok(stuck.facts.some((fact) => fact.kind === "defect" && fact.where === "fleet.resume"));
  const next = stuck.crowd.send(revision, 10, null);
  await stuck.run(200);
  assert.equal(next.end, "ok");

  const warm = world({ faults: { ...noFaults, pauseThrows: 1_000 } });
  warm.deploy(revision);
  warm.crowd.send(revision, 10, null);
  await warm.run(6_000);
  assert.deepEqual([warm.fleet.workloadState(revision).ready, warm.fleet.workloadState(revision).paused], [1, 0]);
  const call = warm.crowd.send(revision, 10, null);
  await warm.run(20);
  assert.equal(call.end, "ok");
});

test("when there are too many, or memory is needed, the paused ones go first", async () => {
  const w = world();
  const revision = revisionOf("hello", { idleSeconds: 60 });
  w.deploy(revision);
  for (let i = 0; i < 2; i++) w.crowd.send(revision, 4_000, null);
  await w.run(8_000);
  w.crowd.send(revision, 10, null);
  await w.run(4_000);
  const states = (): Set<string> => new Set(w.fleet.instances(revision).map(({ state }) => state));
  assert.deepEqual(states(), new Set(["paused", "ready"]));
  w.fleet.want(revision, 1, ["test"]);
  await w.run(100);
  assert.deepEqual(states(), new Set(["ready"]));
});
