// The short form of the kill test; kill.soak.ts is the long one.

import assert from "node:assert/strict";
import { it } from "node:test";
import { killCycles } from "./fixtures/kill-cycles.ts";

it("keeps a ledger that balances through kill -9 at random moments", async () => {
  const { invocations } = await killCycles(8);
  assert.ok(invocations > 100, String(invocations));
});
