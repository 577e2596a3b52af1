// What runs to its end and is nobody's instance, within the memory that there is.

import assert from "node:assert/strict";
import { test } from "node:test";
import { executionOf, jobOf } from "#jobs/job.testing.ts";
import type { BuildStep } from "#sandbox/door.ts";
import { noFaults, World } from "../../test/simulation/world.ts";

test("a RUN counts to its project's quota while it runs, is refused in words where that has no room, and is given up with its deploy", async () => {
  const w = new World({
    seed: 7,
    faults: noFaults,
    memoryMb: 8_192,
    quotas: { photos: { memoryMb: 3_072, instances: null, ratePerSecond: null } },
  });
  const ends: Array<() => void> = [];
  Object.assign(w.driver, {
    build: () =>
      new Promise<{ kind: string; code: number }>((resolve) => ends.push(() => resolve({ kind: "exited", code: 0 }))),
  });
  const gone = new AbortController();
  const step = (signal = gone.signal): BuildStep => ({
    ...({} as BuildStep),
    project: "photos",
    memoryMb: 2_048,
    signal,
  });
  const first = w.fleet.build(step());
  await w.run(10);
  assert.equal(ends.length, 1);
  assert.equal(w.fleet.state().memoryBytes, 2_048 * 1024 * 1024);
  await assert.rejects(w.fleet.build(step()), {
    code: "over_quota",
    message: "a RUN takes 2048 MiB, which the quota of photos has no room for",
  });
  ends.shift()!();
  await first;
  assert.equal(w.fleet.state().memoryBytes, 0);
  // Another's memory is not there: it waits, and goes with whoever asked.
  const others = ["a", "b", "c"].map((project) => w.fleet.build({ ...step(), project }));
  await w.run(10);
  const waits = w.fleet.build(step());
  gone.abort();
  await assert.rejects(waits, { code: "stopping" });
  for (const end of ends) end();
  await Promise.all(others);
  w.checkZero();
});

test("a run whose sandbox the engine does not end at once is over when nothing of it is left, and not before", async () => {
  const w = new World({ seed: 7, faults: noFaults, memoryMb: 8_192 });
  const run = w.fleet.execute(executionOf(jobOf("report")));
  let over = false;
  void run.over.then(() => (over = true));
  await w.run(10);
  const started = run.start(() => undefined);
  await w.run(1_000);
  assert.equal(await started, null);
  const stopped = w.driver.stopSandbox.bind(w.driver);
  let busy = 2;
  w.driver.stopSandbox = async (id, graceMs) => {
    if (busy-- > 0) throw new Error("the engine is busy");
    await stopped(id, graceMs);
  };
  void run.stop(0);
  await w.run(100);
  assert.deepEqual([over, w.driver.sandboxes.size, w.fleet.state().memoryBytes], [false, 1, 128 * 1024 * 1024]);
  await w.run(2_000);
  assert.equal(over, true);
  w.checkZero();
});
