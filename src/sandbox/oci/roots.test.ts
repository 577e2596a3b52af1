// What is kept of the read-only roots from one start of ebb to the next.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { sandboxLimits } from "#model/limits.ts";
import { Roots } from "./roots.ts";

test("a root that nothing was started from for long goes, and none that is used, or that something alive stands in", async (t) => {
  const place = mkdtempSync(join(tmpdir(), "ebb-roots-"));
  t.after(() => rmSync(place, { recursive: true }));
  const [folder, runDir] = [join(place, "roots"), join(place, "run")];
  const nowMs = 1_800_000_000_000;
  const longAgo = nowMs / 1_000 - sandboxLimits.rootUnusedDays * 86_400 - 60;
  for (const [name, used] of [
    ["old", longAgo],
    ["inherited", longAgo],
    ["recent", longAgo + 120],
    [".half", nowMs / 1_000],
    ["empty", longAgo],
  ] as const) {
    mkdirSync(join(folder, name, "usr"), { recursive: true });
    utimesSync(join(folder, name), used, used);
  }
  mkdirSync(join(runDir, "roots", "inherited"), { recursive: true });
  const unused = (): never => assert.fail("nothing is made");
  const roots = new Roots({
    folder,
    runDir,
    spawner: { exec: unused, make: unused },
    node: unused,
    shims: "/nowhere",
  });
  await roots.start(nowMs);
  assert.deepEqual(readdirSync(folder).toSorted(), ["empty", "inherited", "recent"]);
});
