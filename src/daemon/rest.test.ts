// When memory is given back, in virtual time.

import assert from "node:assert/strict";
import { test } from "node:test";
import { VirtualClock } from "#lib/virtual-clock.ts";
import type { Fact } from "#model/fact.ts";
import { createRest } from "./rest.ts";

const MiB = 1024 * 1024;
const ended: Fact = { kind: "invocation_ended", record: { id: "i", project: "default", workload: "w" } };
const started: Fact = { kind: "instance_starting", instance: "i", project: "default", workload: "w", revision: 1 };

/** Whose start has allocated 25 MiB, and where each fact allocates `eachBytes`, and has `heldBytes` held. `given` counts the steps since. */
async function rested(
  eachBytes: number,
  heldBytes = 16 * MiB,
): Promise<{ clock: VirtualClock; hear: (fact: Fact) => void; given: () => number }> {
  const clock = new VirtualClock();
  let allocatedBytes = 25 * MiB;
  let residentBytes = 90 * MiB;
  let given = 0;
  const rest = createRest({
    clock,
    allocatedBytes: () => allocatedBytes,
    residentBytes: () => residentBytes,
    steps: [() => given++, () => (given++, (residentBytes = 80 * MiB))],
  });
  await clock.advance(9_999);
  assert.equal(given, 0);
  await clock.advance(1);
  assert.equal(given, 1);
  await clock.advance(60_000);
  const hear = (fact: Fact): void => {
    allocatedBytes += eachBytes;
    residentBytes += heldBytes;
    rest(fact);
  };
  const before = given;
  return { clock, hear, given: () => given - before };
}

test("what the start left behind is given back, though nothing ever happens", async () => {
  const { clock, given } = await rested(MiB);
  await clock.advance(60_000);
  assert.deepEqual([given(), clock.pending()], [0, 0]);
});

test("memory is given back step by step, from ten seconds after the last thing that happened", async () => {
  for (const fact of [ended, started]) {
    const { clock, hear, given } = await rested(MiB);
    for (let i = 0; i < 10; i++) hear(fact);
    await clock.advance(9_000);
    hear(fact);
    await clock.advance(9_999);
    assert.equal(given(), 0);
    await clock.advance(1);
    assert.equal(given(), 1);
    await clock.advance(1_000);
    assert.equal(given(), 2);
    await clock.advance(60_000);
    assert.deepEqual([given(), clock.pending()], [2, 0]);
  }
});

test("a call between the steps is not held up by those to come, which wait for the next rest", async () => {
  const { clock, hear, given } = await rested(MiB);
  hear(ended);
  await clock.advance(10_500);
  hear(ended);
  await clock.advance(9_999);
  assert.equal(given(), 1);
  await clock.advance(60_000);
  assert.deepEqual([given(), clock.pending()], [3, 0]);
});

test("a call now and then leaves nothing worth a pause until there have been many", async () => {
  const { clock, hear, given } = await rested(MiB / 256);
  for (let call = 1; call <= 256; call++) {
    assert.equal(given(), 0);
    hear(ended);
    await clock.advance(20_000);
    assert.equal(clock.pending(), 0);
  }
  assert.equal(given(), 2);
});

test("while calls keep coming nothing is given back, and one timer is all there is", async () => {
  const { clock, hear, given } = await rested(MiB);
  for (let second = 0; second < 60; second++) {
    for (let i = 0; i < 1_000; i++) hear(ended);
    await clock.advance(1_000);
    assert.equal(clock.pending(), 1);
  }
  assert.equal(given(), 0);
});

test("where little more is held than at the last rest it is left alone, until there is more", async () => {
  const { clock, hear, given } = await rested(MiB, 2 * MiB);
  for (let call = 1; call < 8; call++) {
    hear(ended);
    await clock.advance(20_000);
    assert.equal(given(), 0);
  }
  hear(ended);
  await clock.advance(20_000);
  assert.deepEqual([given(), clock.pending()], [2, 0]);
});
