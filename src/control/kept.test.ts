// What a deploy says of the workloads that its app file does not declare: as much as somebody reads.

import assert from "node:assert/strict";
import { test } from "node:test";
import { deployLimits } from "#model/limits.ts";
import { createWorld } from "./world.testing.ts";

test("of very many workloads that the app file does not declare some are named, and the rest is counted", async (context) => {
  const world = await createWorld();
  context.after(() => world.stop());
  const app = (names: readonly string[]): string =>
    JSON.stringify({ functions: names.map((name) => ({ name, source: `./${name}` })) });
  for (const group of ["a", "b"]) {
    const names = Array.from({ length: 150 }, (_, index) => `${group}${index}`);
    const files = names.map((name): [string, string] => [`${name}/i`, "1"]);
    await world.deploy({ "ebb.yaml": app(names), ...Object.fromEntries(files) });
  }
  const step = (await world.deploy({ "ebb.yaml": app(["a0"]), "a0/i": "1" })).at(-1);
  assert.ok(step?.step === "deployed");
  const { kept, keptMore } = step;
  assert.equal(new Set(kept).size, deployLimits.prunedAtOnce);
  assert.equal(keptMore, 299 - deployLimits.prunedAtOnce);
  assert.ok(!kept.includes("a0"));
});
