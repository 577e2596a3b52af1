// The long form of the day: thousands of functions on a machine with faults and too little memory. EBB_SEED=N starts at another.

import assert from "node:assert/strict";
import { test } from "node:test";
import { liveDay } from "./keep-alive.ts";
import { manyFaults } from "./world.ts";

const first = Number(process.env["EBB_SEED"] ?? 1000);

for (let seed = first; seed < first + 3; seed++)
  test(`seed ${seed}: a day of two thousand functions, with faults; each call ends, and all goes back to zero`, async () => {
    const { calls, ends, startedAhead } = await liveDay(seed, 2_000, 24_576, manyFaults);
    assert.equal(
      Object.values(ends).reduce((sum, count) => sum + count, 0),
      calls,
    );
    assert.ok(startedAhead > 1_000);
  });
