// What is shown while a deploy works.

import assert from "node:assert/strict";
import { test } from "node:test";
import { DeployProgress } from "./deploy-progress.ts";

test("first what was sent counts, then what the daemon says it is at", () => {
  const progress = new DeployProgress();
  assert.equal(progress.line(0.2), "sending, 0.0 MB so far");
  progress.sent(1_500_000);
  assert.equal(progress.line(3.7), "sending, 1.5 MB so far … 3 s");
  progress.told({ step: "received", files: 12, bytes: 1 });
  assert.equal(progress.line(4), "received 12 files … 4 s");
  for (const workload of ["a", "b", "c"]) progress.told({ step: "building", workload });
  assert.equal(progress.line(0), "building a, b, c");
  progress.told({ step: "fetching", workload: "a", what: "Node 24.21.0" });
  progress.told({ step: "checking", workload: "b" });
  assert.equal(progress.line(0), "fetching Node 24.21.0 for a; checking b; building c");
  const checked = (workload: string): void =>
    progress.told({
      step: "checked",
      workload,
      runtime: "node26",
      entry: "index.js",
      handler: "default",
      signature: "web",
    });
  progress.told({ step: "image", workload: "a", message: "pulling web:1: 3 of 9 MB\u001b[2J" });
  assert.match(progress.line(0), /^pulling web:1: 3 of 9 MB\S* for a; checking b; building c$/);
  checked("a");
  checked("b");
  assert.equal(progress.line(0), "building c");
  checked("c");
  assert.equal(progress.line(0), "switching");
});
