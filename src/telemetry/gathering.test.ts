// When the thread that reads output sleeps for a moment.

import assert from "node:assert/strict";
import { test } from "node:test";
import { logLimits } from "#model/limits.ts";
import { Gathering } from "./gathering.ts";

function gathering(): { one: Gathering; turn: () => void; slept: number[] } {
  const slept: number[] = [];
  const runs: Array<() => void> = [];
  const one = new Gathering({ sleep: (ms) => slept.push(ms), afterTurn: (run) => runs.push(run) });
  return { one, slept, turn: () => runs.splice(0).forEach((run) => run()) };
}

test("after a turn in which something was read the thread sleeps once, however often it was read", () => {
  const { one, turn, slept } = gathering();
  one.read(40);
  one.read(40);
  turn();
  assert.deepEqual(slept, [logLimits.gatherMs]);
  one.read(40);
  turn();
  assert.equal(slept.length, 2);
});

test("after one in which nothing was read it does not", () => {
  const { one, turn, slept } = gathering();
  one.read(40);
  turn();
  turn();
  assert.equal(slept.length, 1);
});

test("nor where so much comes that a pipe would fill meanwhile", () => {
  const { one, turn, slept } = gathering();
  one.read(logLimits.gatheredBytes - 1);
  one.read(1);
  turn();
  assert.deepEqual(slept, []);
  one.read(1);
  turn();
  assert.equal(slept.length, 1);
});
