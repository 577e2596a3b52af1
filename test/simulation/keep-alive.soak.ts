// The long form of the day: hundreds of functions on a machine with faults and too little memory. EBB_SEED=N starts at another.

import assert from "node:assert/strict";
import { test } from "node:test";
import { liveDay } from "./keep-alive.ts";
import { manyFaults } from "./world.ts";

const first = Number(process.env["EBB_SEED"] ?? 1000);

for (let seed = first; seed < first + 3; seed++)
  test(`seed ${seed}: a day of six hundred functions, with faults; no call is without an end, and all goes back to zero`, async () => {
    const { calls, ends, startedAhead } = await liveDay(seed, 600, 10_240, manyFaults);
    assert.ok(ends["ok"]! > 0.95 * calls, JSON.stringify(ends));
    assert.ok(startedAhead > 1_000);
  });
