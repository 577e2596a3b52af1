// Keep-alive over a day of a realistic trace: fewer cold starts with less memory, and always back to zero.

import assert from "node:assert/strict";
import { test } from "node:test";
import { runDay } from "./day.ts";
import { liveDay } from "./keep-alive.ts";
import { dayMs, makeDay } from "./trace.ts";
import { noFaults } from "./world.ts";

test("the trace has the published shape: most functions rare, a few busy, the same day by the same seed", () => {
  const functions = 2_000;
  const day = makeDay({ seed: 7, functions });
  const share = (most: number): number => day.filter(({ arrivalsMs }) => arrivalsMs.length <= most).length / functions;
  // 45% are called once an hour or less, 81% once a minute or less; a day has its own chance in it.
  assert.ok(Math.abs(share(24) - 0.45) < 0.06, `${share(24)} once an hour or less`);
  assert.ok(Math.abs(share(1_440) - 0.81) < 0.04, `${share(1_440)} once a minute or less`);
  const memory = day.map(({ memoryMb }) => memoryMb).toSorted((a, b) => a - b);
  const median = memory[memory.length >> 1]!;
  assert.ok(median >= 160 && median <= 192, `median memory ${median} MiB`);
  const executions = day.map(({ executionsMs }) => executionsMs[0]!).toSorted((a, b) => a - b);
  assert.ok(executions[executions.length >> 1]! < 1_000, "half of the functions take less than a second");
  for (const { arrivalsMs } of day)
    for (const [at, ms] of arrivalsMs.entries()) assert.ok(ms < dayMs + 1_000 && ms >= (arrivalsMs[at - 1] ?? 0));
  assert.deepEqual(makeDay({ seed: 7, functions: 50 }), makeDay({ seed: 7, functions: 50 }));
});

test("over a day, keep-alive by histogram has fewer cold starts than the default time, with less memory", () => {
  const trace = makeDay({ seed: 11, functions: 300 });
  const fixed = runDay(trace, { keepAlive: "fixed" });
  const histogram = runDay(trace, { keepAlive: "histogram" });
  assert.equal(histogram.calls, fixed.calls);
  assert.ok(histogram.idleGibHours <= fixed.idleGibHours, `${histogram.idleGibHours} of ${fixed.idleGibHours} GiB·h`);
  assert.ok(histogram.cold <= 0.75 * fixed.cold, `${histogram.cold} cold starts, fixed ${fixed.cold}`);
});

test("over a day with too little memory, no call is lost and all goes back to zero (seed 5)", async () => {
  const { calls, ends, evicted } = await liveDay(5, 75, 2_048, noFaults);
  assert.deepEqual(ends, { ok: calls });
  assert.ok(evicted > 0, "there was memory for all: the day shows nothing of evictions");
});
