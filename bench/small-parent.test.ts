// The process that forks in the bench's place.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createSmallParent } from "./small-parent.ts";

test("what a program prints first is told while it runs, and its end with its code", async (t) => {
  const parent = createSmallParent();
  t.after(() => parent.stop());
  const silent = parent.start(["/bin/false"]);
  assert.deepEqual([await silent.firstLine, await silent.exited], [null, 1]);
  const prints = parent.start(["/usr/bin/env", "-i", "WHAT=here", "/usr/bin/env"]);
  assert.equal(await prints.firstLine, "WHAT=here");
  assert.equal(await prints.exited, 0);
  const absent = parent.start(["/does/not/exist"]);
  assert.equal(await absent.exited, 127);
  assert.throws(() => parent.start(["/bin/echo", "a b"]), /a blank in/);
  const runs = parent.start(["/bin/sleep", "0.2"]);
  const stopped = parent.stop();
  assert.equal(await runs.exited, 0);
  await stopped;
});
