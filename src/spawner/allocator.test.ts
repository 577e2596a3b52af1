// Numbers that several daemons of one machine share.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { createAllocator } from "./allocator.ts";
import { isAlive, ownerOf, parseOwner } from "./owners.ts";

const skip = process.platform === "linux" ? false : "not Linux";
let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "ebb-allocator-"));
});
afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

test("two daemons never hold the same number, and get the lowest that is free", { skip }, () => {
  const [one, other] = [createAllocator({ root }), createAllocator({ root })];
  assert.deepEqual([one.take("ids", 4), other.take("ids", 4), one.take("ids", 4)], [0, 1, 2]);
  other.free("ids", 1);
  assert.equal(one.take("ids", 4), 1);
  assert.equal(other.take("subnets", 4), 0);
  assert.notEqual(one.runDir, other.runDir);
});

test("none free is told as capacity", { skip }, () => {
  const allocator = createAllocator({ root });
  allocator.take("ids", 1);
  assert.throws(() => allocator.take("ids", 1), { code: "capacity" });
});

test("a number whose run directory is gone is anyone's, one whose run directory stands is not", { skip }, () => {
  const [gone, living] = [createAllocator({ root }), createAllocator({ root })];
  gone.take("ids", 2);
  living.take("ids", 2);
  // Only the directory: as it is when a daemon and its spawner died in the last step.
  rmSync(gone.runDir, { recursive: true });
  const next = createAllocator({ root });
  assert.equal(next.take("ids", 2), 0);
  assert.throws(() => next.take("ids", 2), { code: "capacity" });
});

test("closing gives everything back", { skip }, () => {
  const allocator = createAllocator({ root });
  allocator.take("ids", 1);
  allocator.close();
  assert.ok(!existsSync(allocator.runDir));
  assert.equal(createAllocator({ root }).take("ids", 1), 0);
});

test("what an earlier boot left is removed, and nothing that is not a boot's", { skip }, () => {
  const [boot, foreign] = [join(root, "00000000-0000-4000-8000-000000000000"), join(root, "not-a-boot")];
  mkdirSync(join(boot, "x"), { recursive: true });
  mkdirSync(foreign);
  const allocator = createAllocator({ root });
  assert.deepEqual([existsSync(boot), existsSync(foreign), existsSync(dirname(allocator.runDir))], [false, true, true]);
});

test("a process is known by its start time as well as its id", { skip }, () => {
  const self = ownerOf(process.pid)!;
  assert.ok(isAlive(self));
  assert.ok(!isAlive({ ...self, startTicks: "1" }));
  assert.equal(parseOwner("12 34"), null);
  assert.equal(parseOwner("-1 34\n"), null);
  assert.deepEqual(parseOwner("12 34\n"), { pid: 12, startTicks: "34" });
});
