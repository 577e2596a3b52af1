// What is read of the kernel's count of idle time.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createIdleCpus } from "./idle-cpus.ts";

test("it is what was idle since the last time, waits for the disk included, in CPUs", () => {
  const lines = [
    "cpu  100 0 100 700 100 0 0 0 0 0",
    "cpu  150 0 150 740 160 0 0 0 50 0",
    "cpu  350 0 150 740 160 0 0 0 250 0",
  ];
  const idleCpus = createIdleCpus(2, () => lines.shift() ?? null);
  assert.equal(idleCpus(), 1.6);
  assert.equal(idleCpus(), 1);
  assert.equal(idleCpus(), 0);
});

test("what cannot be told is not counted as busy", () => {
  for (const text of [null, "", "cpu  1 2 x", "intr 1 2 3 4 5 6"])
    assert.equal(createIdleCpus(2, () => text)(), Infinity);
  const still = createIdleCpus(2, () => "cpu  1 2 3 4 5 6 7 8");
  still();
  assert.equal(still(), Infinity);
});

test("of this machine it is a part of its CPUs", () => {
  const idle = createIdleCpus(4)();
  assert.ok(idle === Infinity || (idle >= 0 && idle <= 4));
});
