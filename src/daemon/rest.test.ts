// When memory is given back, in virtual time.

import assert from "node:assert/strict";
import { test } from "node:test";
import { VirtualClock } from "#lib/virtual-clock.ts";
import type { Fact } from "#model/fact.ts";
import { createRest } from "./rest.ts";

const ended: Fact = { kind: "invocation_ended", record: { id: "i", project: "default", workload: "w" } };

function world(): { clock: VirtualClock; run: (count: number) => void; collected: () => number } {
  const clock = new VirtualClock();
  let collections = 0;
  const rest = createRest(clock, () => collections++);
  return {
    clock,
    run: (count) => {
      for (let i = 0; i < count; i++) rest(ended);
    },
    collected: () => collections,
  };
}

test("memory is given back once, ten seconds after the last of many invocations", async () => {
  const { clock, run, collected } = world();
  run(1_000);
  await clock.advance(9_000);
  run(1);
  await clock.advance(9_999);
  assert.equal(collected(), 0);
  await clock.advance(1);
  assert.equal(collected(), 1);
  await clock.advance(60_000);
  assert.equal(collected(), 1);
  assert.equal(clock.pending(), 0);
});

test("a few invocations leave nothing worth a pause, and no timer", async () => {
  const { clock, run, collected } = world();
  run(999);
  assert.equal(clock.pending(), 0);
  await clock.advance(60_000);
  assert.equal(collected(), 0);
});

test("while calls keep coming nothing is collected, and one timer is all there is", async () => {
  const { clock, run, collected } = world();
  for (let second = 0; second < 60; second++) {
    run(1_000);
    await clock.advance(1_000);
    assert.equal(clock.pending(), 1);
  }
  assert.equal(collected(), 0);
});
