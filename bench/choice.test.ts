// What a run of the bench measures, by its arguments.

import assert from "node:assert/strict";
import { test } from "node:test";
import { choiceOf } from "./choice.ts";

test("without a word everything is measured, with one only that", () => {
  assert.deepEqual(choiceOf([]), { numbers: true, peers: true, write: false });
  assert.deepEqual(choiceOf(["numbers"]), { numbers: true, peers: false, write: false });
  assert.deepEqual(choiceOf(["peers"]), { numbers: false, peers: true, write: false });
  assert.deepEqual(choiceOf(["peers", "--write"]), { numbers: false, peers: true, write: true });
});

test("anything else is told how to ask", () => {
  for (const argv of [["peer"], ["--write"], ["numbers", "--write"], ["peers", "--wirte"], ["peers", "--write", "x"]])
    assert.throws(() => choiceOf(argv), /usage: npm run bench/, argv.join(" "));
});
