// What becomes of a first instance whose revision goes, or whose code takes its time, while it is assigned: the whole path, from the pool.

import assert from "node:assert/strict";
import { test } from "node:test";
import { EbbError } from "#model/errors.ts";
import { poolLimits, sandboxLimits } from "#model/limits.ts";
import type { Assignment } from "#sandbox/door.ts";
import { Stack } from "./stack.ts";
import { revisionOf } from "./world.ts";

const loadMs = 50;

/** A sandbox waits in its pool; `slow` loads for longer than a start may take. */
async function stackOf(): Promise<{ stack: Stack; assigned: Assignment[] }> {
  const assigned: Assignment[] = [];
  const stack: Stack = new Stack(1, 8192, {
    poolMb: 64,
    script: (_, assignment) => {
      if (assignment !== null) assigned.push(assignment);
      const slow = assignment?.workload === "slow";
      return {
        startMs: slow ? 2 * sandboxLimits.startMs : loadMs,
        serve: (_request, response) => void response.end("ok"),
      };
    },
  });
  await stack.fleet.start();
  return { stack, assigned };
}

async function pooled(stack: Stack): Promise<void> {
  await stack.run(10 * poolLimits.paceMs);
  assert.equal(stack.fleet.state().pool.sandboxes, 1);
}

test("removed while its first instance is assigned: who waits is told, and that sandbox serves nobody", async () => {
  const { stack, assigned } = await stackOf();
  const [removed, other] = [revisionOf("removed"), revisionOf("other")];
  for (const revision of [removed, other]) stack.deploy(revision);
  await pooled(stack);
  const ends: (Error | null)[] = [];
  stack.call(removed, (error) => ends.push(error));
  await stack.run(loadMs / 2);
  assert.deepEqual(
    assigned.map(({ workload }) => workload),
    ["removed"],
  );
  stack.remove(removed);
  await stack.run(loadMs / 4);
  assert.deepEqual(
    ends.map((error) => (error instanceof EbbError ? error.code : error)),
    ["not_found"],
  );
  assert.deepEqual([stack.fleet.instances(), stack.fleet.state().memoryBytes], [[], 0]);
  stack.call(other, (error) => ends.push(error));
  await stack.run(1_000);
  assert.equal(ends[1], null);
  assert.equal(assigned.length, 2);
  assert.equal(new Set(assigned.map(({ instance }) => instance)).size, 2);
});

test("deployed again while the first instance is assigned: who waits goes to the new revision", async () => {
  const { stack, assigned } = await stackOf();
  stack.deploy(revisionOf("twice"));
  await pooled(stack);
  const ends: (Error | null)[] = [];
  stack.call(revisionOf("twice"), (error) => ends.push(error));
  await stack.run(loadMs / 2);
  stack.deploy(revisionOf("twice", {}, 2));
  await stack.run(1_000);
  assert.deepEqual(ends, [null]);
  assert.deepEqual(
    stack.fleet.instances().map(({ revision, state }) => [revision, state]),
    // It has answered, and nothing has run in it since.
    [[2, "paused"]],
  );
  assert.equal(assigned.length, 2);
});

test("code that loads for longer than a start may take is ended at its time, in words, and the next are told at once", async () => {
  const { stack } = await stackOf();
  const slow = revisionOf("slow");
  stack.deploy(slow);
  await pooled(stack);
  const ends: (Error | null)[] = [];
  stack.call(slow, (error) => ends.push(error));
  await stack.run(sandboxLimits.startMs - 1_000);
  assert.equal(ends.length, 0);
  await stack.run(1_000 + loadMs);
  assert.match(String(ends[0]), /slow: waited 30 s; its instance is still starting/);
  stack.call(slow, (error) => ends.push(error));
  await stack.run(1);
  assert.match(String(ends[1]), /slow: the function was not ready after 30 s.* The next start is tried in 1 s/);
  assert.deepEqual(stack.fleet.instances(), []);
});
