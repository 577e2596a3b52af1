// The long form: arbitrary and mutated app files for a minute; the reader neither throws nor takes long.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import * as fc from "fast-check";
import { readApp } from "./read.ts";

const folder = new URL("./fixtures/", import.meta.url);
const corpus = readdirSync(folder).flatMap((name) =>
  readFileSync(new URL(name, folder), "utf8").split("\n=== ").slice(1),
);
const pieces = [
  "\t",
  "\0",
  "[",
  "]",
  "{",
  "}",
  "- ",
  ": ",
  "? ",
  "&a ",
  "*a",
  "<<: ",
  "!t ",
  "|\n",
  ">\n",
  '"',
  "'",
  "#",
  "%",
  "---\n",
  "...\n",
  "\r",
  "\u2028",
  "\uFEFF",
  "~",
  "1e999",
  "0x",
  "\\",
];

test("mutated app files are read or refused, each within 200 ms", () => {
  const mutation = fc.record({
    at: fc.nat(4_000),
    cut: fc.nat(20),
    put: fc.constantFrom(...pieces),
    times: fc.constantFrom(1, 1, 1, 2, 50, 500),
  });
  const text = fc.tuple(fc.constantFrom(...corpus), fc.array(mutation, { maxLength: 8 })).map(([base, mutations]) =>
    mutations.reduce((now, { at, cut, put, times }) => {
      const from = at % (now.length + 1);
      return now.slice(0, from) + put.repeat(times) + now.slice(from + cut);
    }, base),
  );
  fc.assert(
    fc.property(text, (value) => {
      const begun = performance.now();
      const read = readApp(value, "ebb.yaml");
      assert.ok(performance.now() - begun < 200, JSON.stringify(value));
      return read.ok || read.problems.every(({ line, message }) => line >= 1 && message !== "");
    }),
    { numRuns: 200_000, interruptAfterTimeLimit: 60_000 },
  );
});
