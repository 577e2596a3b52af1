// What becomes of runs and of what is left of them, when an ebb comes after one that died.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Run } from "#model/run.ts";
import { decideAdoptions } from "./adoption.ts";
import { accept, advance, interrupt, stop } from "./decide.ts";
import { jobOf, noOverrides } from "./job.testing.ts";

function run(id: string, parallelism = 1): Run {
  return accept({ id, revision: jobOf("report", { parallelism }), overrides: noOverrides, createdBy: "test" }, 1_000);
}

function began(of: Run, index: number, instance: string): Run {
  return advance(of, index, { kind: "began", execution: `e-${instance}`, instance }, 2_000);
}

const lives = (instance: string): { instance: string; begunMs: number; alive: boolean } => ({
  instance,
  begunMs: 2_500,
  alive: true,
});

test("a task that runs by the store and whose instance is there goes on, alive or ended", () => {
  const one = began(run("one"), 0, "i1");
  const other = began(run("other"), 0, "i2");
  const { adopt, forget } = decideAdoptions([one, other], [lives("i1"), { ...lives("i2"), alive: false }]);
  assert.deepEqual(
    adopt.map(({ run: of, index, instance }) => [of.id, index, instance]),
    [
      ["one", 0, "i1"],
      ["other", 0, "i2"],
    ],
  );
  assert.deepEqual(forget, []);
});

test("one that is being stopped is adopted, to be stopped", () => {
  const stopping = stop(began(run("one"), 0, "i1"), "stopped", 3_000);
  assert.equal(decideAdoptions([stopping], [lives("i1")]).adopt.length, 1);
});

test("what no run knows, and what was never told to begin, is ended, and it is said why", () => {
  const queued = run("queued");
  const before = began(run("before"), 0, "i2");
  const left = [lives("i1"), { ...lives("i2"), begunMs: null }];
  const { adopt, forget } = decideAdoptions([queued, before], left);
  assert.deepEqual(adopt, []);
  assert.deepEqual(forget, [
    { instance: "i1", reason: "no run that has not ended knows it" },
    { instance: "i2", reason: "it was never told to begin" },
  ]);
});

test("an instance of an earlier attempt is nobody's, and no two tasks have the same", () => {
  const again = began(began(run("again"), 0, "i1"), 0, "i2");
  assert.deepEqual(
    decideAdoptions([again], [lives("i1")]).forget.map(({ instance }) => instance),
    ["i1"],
  );
  const both = began(began(run("both", 2), 0, "i3"), 1, "i3");
  assert.equal(decideAdoptions([both], [lives("i3")]).adopt.length, 1);
});

test("of a run of which some tasks live on, the others were interrupted", () => {
  const both = began(began(run("both", 2), 0, "i1"), 1, "i2");
  const { adopt } = decideAdoptions([both], [lives("i2")]);
  const left = interrupt(
    both,
    0,
    4_000,
    adopt.map(({ index }) => index),
  );
  assert.deepEqual(
    left.tasks.map(({ state, reason }) => [state, reason]),
    [
      ["queued", "interrupted"],
      ["running", null],
    ],
  );
});
