// The long form of the kill test.

import assert from "node:assert/strict";
import { it } from "node:test";
import { killCycles } from "./fixtures/kill-cycles.ts";

it("keeps a ledger that balances through 200 kills", async () => {
  const { invocations, interrupted } = await killCycles(200);
  assert.ok(invocations > 10_000, String(invocations));
  assert.ok(interrupted > 100, String(interrupted));
});
