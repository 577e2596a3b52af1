// A hundred thousand calls that race with the end of the idle time. EBB_SEED=N is another hundred thousand.

import assert from "node:assert/strict";
import { test } from "node:test";
import { race } from "./races.ts";

const seed = Number(process.env["EBB_SEED"] ?? 1000);

test(`seed ${seed}: back to zero at the idle time ± 100 ms, and of 100,000 calls that race with it none is lost`, async (context) => {
  const { won, lost, wentMs } = await race(seed, 100_000);
  assert.ok(won > 10_000 && lost > 10_000 && wentMs.count > 10_000);
  context.diagnostic(JSON.stringify({ won, lost, wentMs }));
});
