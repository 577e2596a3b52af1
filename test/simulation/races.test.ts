// Calls that race with the end of the idle time, a thousand of them. A hundred thousand: races.soak.ts.

import assert from "node:assert/strict";
import { test } from "node:test";
import { race } from "./races.ts";

const seed = Number(process.env["EBB_SEED"] ?? 1);

test(`back to zero at the idle time ± 100 ms, and no call that races with it is lost (seed ${seed})`, async () => {
  const { won, lost, wentMs } = await race(seed, 1_000);
  // Both ends of the race were seen, or there was none.
  assert.ok(won > 200 && lost > 200 && wentMs.count > 200, JSON.stringify({ won, lost, wentMs }));
});
