// The tables of the comparison, the order of its turns, and its place in the pages.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { installation } from "#config.ts";
import { inUnits, longTable, shortTable, turnsOf, withBlock, type Measured } from "./table.ts";

const load = (ms: number, requestsPerSecond: number, failures = 0) => ({
  latenciesMs: Float64Array.from([ms, ms, ms * 10]),
  requestsPerSecond,
  failures,
});

const measured: Measured = {
  name: "system",
  version: "1.2",
  isolates: "a container: with | and\nlines",
  coldMs: [30, 10, 20],
  one: [load(0.06, 1), load(0.05, 1), load(0.07, 1)],
  many: [load(1, 10_000), load(1, 12_345), load(1, 30_000, 2)],
};
const absent = { name: "other", reason: "it is not installed" };

test("the long table has the medians of the rounds, the tail, and what failed", () => {
  assert.deepEqual(longTable([measured], [absent]).split("\n"), [
    "| system | what isolates a function | one connection, p50 / p99 | 32 connections, requests/s | cold start, median (worst) |",
    "|---|---|---|---|---|",
    "| system, 1.2 | a container: with \\| and lines | 60 µs / 600 µs | 12,300 (2 failed) | 20 ms (30 ms, n=3) |",
    "| other | not measured: it is not installed | – | – | – |",
  ]);
});

test("the short table names what isolates in its first words, and what could not be measured", () => {
  assert.deepEqual(shortTable([measured], [absent]).split("\n").slice(2), [
    "| system | a container | 60 µs | 12,300 | 20 ms |",
    "| other | not measured in this run | – | – | – |",
  ]);
});

test("figures have two or three digits in the unit that suits them", () => {
  assert.deepEqual([0.0634, 0.994, 0.996, 9.94, 9.96, 1234.4].map(inUnits), [
    "63 µs",
    "994 µs",
    "1.0 ms",
    "9.9 ms",
    "10 ms",
    "1234 ms",
  ]);
});

test("in two rounds for each contender, each is in every place twice, and follows either neighbour as often", () => {
  const all = ["a", "b", "c", "d"];
  const orders = [...all, ...all].map((_, round) => turnsOf(all, round));
  for (const place of all.keys())
    for (const name of all) assert.equal(orders.filter((order) => order[place] === name).length, 2, name);
  const before = orders.map((order) => order[order.indexOf("b") - 1]);
  for (const name of ["a", "c"]) assert.equal(before.filter((one) => one === name).length, 3, name);
});

test("a block is replaced between its marks only, and a page without them is a mistake", () => {
  const page = "before\n<!-- x: by npm run bench -- peers --write -->\nold\n<!-- end of x -->\nafter\n";
  const once = withBlock(page, "x", "new $& one");
  assert.equal(
    once,
    page.replace("old", () => "new $& one"),
  );
  assert.equal(withBlock(once, "x", "old"), page);
  assert.throws(() => withBlock(page, "y", "new"), /no place for y/);
  assert.throws(() => withBlock("<!-- end of x -->\n", "x", "new"), /no place for x/);
});

test("the pages that show the comparison have a place for it", () => {
  for (const [page, name] of [
    ["docs/comparison.md", "peers"],
    ["README.md", "peers in short"],
  ] as const)
    assert.match(withBlock(readFileSync(join(installation, page), "utf8"), name, "the table"), /\nthe table\n/);
});
