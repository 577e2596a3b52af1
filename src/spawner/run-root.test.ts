// Where run directories are, and that it is nobody else's folder.

import assert from "node:assert/strict";
import { chmodSync, chownSync, lstatSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { defaultRunRoot, openRunRoot } from "./run-root.ts";

for (const [inMemory, root] of [
  [["/run", "/dev/shm"], "/run/ebb"],
  [["/run/ebb", "/dev/shm"], "/run/ebb"],
  [["/dev/shm"], "/dev/shm/ebb"],
  [["/run"], "/run/ebb"],
  [[], "/run/ebb"],
] as const)
  test(`with ${inMemory.join(", ") || "nothing"} in memory it is ${root}`, () => {
    assert.equal(
      defaultRunRoot((folder) => ([...inMemory] as string[]).includes(folder)),
      root,
    );
  });

const skip = process.platform !== "linux" || process.getuid?.() !== 0 ? "not root on Linux" : false;

test("a folder of somebody else's, or that others may write to, or a link to one is refused", { skip }, (t) => {
  const place = mkdtempSync(join(tmpdir(), "ebb-run-root-"));
  t.after(() => rmSync(place, { recursive: true }));
  const [own, foreign, open, link] = ["own", "foreign", "open", "link"].map((name) => join(place, name));
  openRunRoot(own!);
  assert.equal(lstatSync(own!).mode & 0o777, 0o711);
  openRunRoot(own!);
  mkdirSync(foreign!);
  chownSync(foreign!, 65_534, 65_534);
  mkdirSync(open!);
  chmodSync(open!, 0o777);
  symlinkSync(own!, link!);
  for (const root of [foreign!, open!, link!]) assert.throws(() => openRunRoot(root), /is not ebb's own folder/);
});
