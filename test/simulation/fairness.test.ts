// Functions that are called much, or never get ready, beside one that is called once: in virtual time, the whole path.

import assert from "node:assert/strict";
import { test } from "node:test";
import { machineLimits } from "#model/limits.ts";
import { revisionKeyOf, type ServingRevision } from "#model/workload.ts";
import type { Script } from "../../src/sandbox/fake/fake.ts";
import { Stack } from "./stack.ts";
import { revisionOf } from "./world.ts";

const startMs = 60;
const executionMs = 10;

/** Those that are called `stuck` load for ever. */
function stackOf(): Stack {
  const stack: Stack = new Stack(1, 24_576, {
    script: (_, assignment): Script => ({
      startMs,
      ...(assignment?.workload.startsWith("stuck") ? { neverReady: true } : {}),
      serve: (_request, response) => void stack.clock.after(executionMs, () => response.end("ok")),
    }),
  });
  return stack;
}

/** How long one call of it takes, ms; throws what it ends with. */
async function called(stack: Stack, revision: ServingRevision, withinMs: number): Promise<number> {
  const sentUs = stack.clock.monotonicUs();
  let tookMs: number | null = null;
  stack.call(revision, (error) => {
    if (error !== null) throw error;
    tookMs = (stack.clock.monotonicUs() - sentUs) / 1_000;
  });
  await stack.run(withinMs);
  assert.ok(tookMs !== null, `${revisionKeyOf(revision)} has no answer after ${withinMs} ms`);
  return tookMs;
}

test("a function whose many instances never get ready keeps nobody from starting", async () => {
  const stack = stackOf();
  const [stuck, other] = [revisionOf("stuck"), revisionOf("other")];
  for (const revision of [stuck, other]) stack.deploy(revision);
  for (let i = 0; i < 100; i++) stack.call(stuck);
  await stack.run(10);
  assert.equal(await called(stack, other, 1_000), startMs + executionMs);
});

test("many such functions delay the start of others by the time of a turn at most", async () => {
  const stack = stackOf();
  const stuck = Array.from({ length: 10 }, (_, i) => revisionOf(`stuck-${i}`, {}, 1, "theirs"));
  const other = revisionOf("other", {}, 1, "ours");
  for (const revision of [...stuck, other]) stack.deploy(revision);
  for (const revision of stuck) for (let i = 0; i < 20; i++) stack.call(revision);
  await stack.run(10);
  const tookMs = await called(stack, other, 5_000);
  assert.ok(tookMs <= machineLimits.startTurnMs + startMs + executionMs, `${tookMs} ms`);
});

test("a function that is flooded leaves another's calls as they are, cold and warm", async () => {
  const stack = stackOf();
  const [flooded, other] = [revisionOf("flooded"), revisionOf("other")];
  for (const revision of [flooded, other]) stack.deploy(revision);
  const again = (): void => void stack.call(flooded, again);
  for (let connection = 0; connection < 200; connection++) again();
  await stack.run(5);
  assert.equal(await called(stack, other, 200), startMs + executionMs);
  for (let i = 0; i < 10; i++) assert.equal(await called(stack, other, 50), executionMs);
});
