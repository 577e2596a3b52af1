// How far a heap may grow, by what lives in it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { growthPercent } from "./heap.ts";

const MiB = 1024 * 1024;

test("a small heap may grow to several times of it, a large one by 128 MiB, and none by less than half", () => {
  assert.deepEqual(
    [0, 10, 32, 64, 128, 512].map((mib) => growthPercent(mib * MiB)),
    [400, 400, 400, 200, 100, 50],
  );
});
