// From nothing to a thousand requests a second, in virtual time: how many instances start for it, and who waits how long.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { FunctionSettings } from "#model/workload.ts";
import { Stack } from "./stack.ts";
import { revisionOf } from "./world.ts";

/** As on a slow machine. */
const prepareMs = 250;
const loadMs = 50;
const executionMs = 10;

interface Seen {
  readonly worstMs: number;
  readonly failed: number;
  readonly prepared: number;
}

/** Several surges at one function, a second each, and back to zero after each. */
async function surges(settings: Partial<FunctionSettings>, poolMb: number): Promise<readonly Seen[]> {
  const stack: Stack = new Stack(1, 24_576, {
    poolMb,
    script: () => ({
      prepareMs,
      startMs: loadMs,
      serve: (_, response) => void stack.clock.after(executionMs, () => response.end("ok")),
    }),
  });
  const { clock, driver, fleet } = stack;
  await fleet.start();
  const revision = revisionOf("surged", { memoryMb: 128, ...settings });
  stack.deploy(revision);
  const seen: Seen[] = [];
  for (let round = 0; round < 2; round++) {
    // The pool has its time, and what ran is gone.
    await stack.run(100_000);
    assert.deepEqual(fleet.instances(), []);
    const before = driver.prepared + fleet.state().pool.sandboxes;
    let [worstMs, failed] = [0, 0];
    for (let request = 0; request < 1_000; request++) {
      const sentUs = clock.monotonicUs();
      stack.call(revision, (error) => {
        worstMs = Math.max(worstMs, (clock.monotonicUs() - sentUs) / 1_000);
        if (error !== null) failed++;
      });
      await stack.run(1);
    }
    await stack.run(1_000);
    seen.push({ worstMs, failed, prepared: driver.prepared - before });
  }
  return seen;
}

test("where one instance does, a known function gets one, and who waits longest waits for its start", async () => {
  const seen = await surges({ concurrency: 100 }, 0);
  for (const { worstMs, failed } of seen) assert.deepEqual([worstMs, failed], [prepareMs + loadMs + executionMs, 0]);
  assert.equal(seen[1]!.prepared, 1);
});

test("from the pool nobody waits for a sandbox, once it knows how many come at once", async () => {
  const one = await surges({ concurrency: 100 }, 256);
  for (const { worstMs, failed } of one) assert.deepEqual([worstMs, failed], [loadMs + executionMs, 0]);
  const many = await surges({ concurrency: 1 }, 1024);
  const { worstMs, failed } = many[1]!;
  assert.equal(failed, 0);
  assert.ok(worstMs < prepareMs, `somebody waited for ${worstMs} ms`);
});

test("who waits goes to whichever comes first: the instance that is freed, or the one that starts", async () => {
  const times: number[] = [];
  const stack: Stack = new Stack(1, 8192, {
    script: () => ({
      startMs: loadMs,
      serve: (_, response) => void stack.clock.after(times.shift()!, () => response.end("ok")),
    }),
  });
  const revision = revisionOf("either");
  stack.deploy(revision);
  const took = async (...executionsMs: number[]): Promise<number[]> => {
    times.push(...executionsMs);
    const seen: number[] = [];
    const sentUs = stack.clock.monotonicUs();
    for (const _ of executionsMs) stack.call(revision, () => seen.push((stack.clock.monotonicUs() - sentUs) / 1_000));
    await stack.run(10_000);
    return seen;
  };
  assert.deepEqual(await took(executionMs), [loadMs + executionMs]);
  // One instance is warm: the second request waits for it, for a start would take longer.
  assert.deepEqual(await took(executionMs, executionMs), [executionMs, 2 * executionMs]);
  await stack.run(120_000);
  assert.deepEqual(await took(executionMs), [loadMs + executionMs]);
  // The first takes longer than it usually does: the second has its own instance as soon as that is ready.
  const [second, first] = await took(10 * loadMs, executionMs);
  assert.equal(first, 10 * loadMs);
  assert.ok(second! < 5 * loadMs, `${second} ms`);
});
