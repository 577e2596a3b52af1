// Bounds of deploys together: how many uploads, how many wait.

import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { after, before, test } from "node:test";
import { EbbError } from "#model/errors.ts";
import { deployLimits } from "#model/limits.ts";
import { createLanes } from "./lanes.ts";
import { createWorld, type World } from "./world.testing.ts";

let world: World;
before(async () => {
  world = await createWorld();
});
after(() => world.stop());

test("one upload too many is refused before it is read, and there is room again when one has ended", async () => {
  const open = Array.from({ length: deployLimits.uploadsAtOnce }, () => new Readable({ read: () => {} }));
  const deploys = open.map((archive) => world.deploy({}, { archive, name: "a" }).catch((error: unknown) => error));
  // Authorising is asynchronous: each deploy has begun to receive before the next is tried.
  await new Promise((resolve) => setImmediate(resolve));
  await assert.rejects(world.deploy({ i: "1" }, { name: "a" }), { code: "over_quota" });
  for (const archive of open) {
    archive.push("no archive");
    archive.push(null);
  }
  for (const error of await Promise.all(deploys))
    assert.ok(error instanceof EbbError && error.code === "invalid_archive");
  assert.equal((await world.deploy({ i: "1" }, { name: "a" })).at(-1)?.step, "deployed");
});

test("those of one project cannot keep the others from deploying", async () => {
  await world.control.createProject(world.admin, "greedy");
  const greedy = { ...world.admin, project: "greedy", scope: "deploy" as const };
  const open = Array.from({ length: deployLimits.uploadsPerProject }, () => new Readable({ read: () => {} }));
  const as = (archive: Readable): Promise<unknown> =>
    world.deploy({}, { archive, name: "a" }, greedy).catch((error: unknown) => error);
  const deploys = open.map(as);
  await new Promise((resolve) => setImmediate(resolve));
  const refused = await as(new Readable({ read: () => {} }));
  assert.ok(refused instanceof EbbError && refused.code === "over_quota");
  assert.equal((await world.deploy({ i: "2" }, { name: "a" })).at(-1)?.step, "deployed");
  for (const archive of open) archive.push(null);
  await Promise.all(deploys);
});

test("a lane runs one at a time in order, goes on after a failure, and bounds who waits", async () => {
  const lanes = createLanes("things", 2);
  const order: string[] = [];
  const gate = Promise.withResolvers<void>();
  const first = lanes.run("k", async () => {
    order.push("first");
    await gate.promise;
    throw new Error("it failed");
  });
  const failed = assert.rejects(first, /it failed/);
  const second = lanes.run("k", async () => void order.push("second"));
  const third = lanes.run("k", async () => void order.push("third"));
  await assert.rejects(
    lanes.run("k", async () => {}),
    { code: "over_quota" },
  );
  await lanes.run("other", async () => void order.push("other"));
  assert.deepEqual(order, ["first", "other"]);
  gate.resolve();
  await Promise.all([failed, second, third]);
  assert.deepEqual(order, ["first", "other", "second", "third"]);
});
