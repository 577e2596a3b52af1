// The distance between words, and which word was meant.

import assert from "node:assert/strict";
import { test } from "node:test";
import { editDistance, nearest } from "./nearest.ts";

test("the distance counts insertions, deletions, replacements and swaps of neighbours, the same both ways", () => {
  const cases: Array<[string, string, number]> = [
    ["", "", 0],
    ["", "abc", 3],
    ["ls", "lss", 1],
    ["deplyo", "deploy", 1],
    ["kitten", "sitting", 3],
    ["logs", "logs", 0],
  ];
  for (const [a, b, distance] of cases) {
    assert.equal(editDistance(a, b), distance, `${a} ${b}`);
    assert.equal(editDistance(b, a), distance, `${b} ${a}`);
  }
});

test("the nearest word is found, and a far one is not", () => {
  assert.equal(nearest("deplyo", ["deploy", "dev"]), "deploy");
  assert.equal(nearest("lss", ["ls", "logs"]), "ls");
  assert.equal(nearest("MEMORYMB", ["memoryMb"]), "memoryMb");
  assert.equal(nearest("kubernetes", ["ls", "logs"]), null);
  assert.equal(nearest("", ["a"]), null);
  assert.equal(nearest("x".repeat(100_000), ["ls"]), null);
});
