// What removes a sandbox's files goes through no mount, whether that is on a folder or on a file.

import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { createSyscalls, mountsBelow } from "./syscalls.ts";
import { removeTree } from "./undo.ts";

const skip = process.platform !== "linux" || process.getuid?.() !== 0 ? "not root on Linux" : false;

test("a tree goes, and what is mounted or linked in it stays whole", { skip }, () => {
  const system = createSyscalls();
  const top = mkdtempSync(join(tmpdir(), "ebb-undo-"));
  const [outside, tree] = [join(top, "outside"), join(top, "tree")];
  try {
    for (const folder of [outside, join(outside, "deep"), join(tree, "a", "b"), join(tree, "c")])
      mkdirSync(folder, { recursive: true });
    for (const file of [join(outside, "deep", "code"), join(tree, "a", "own"), join(tree, "c", "point")])
      writeFileSync(file, file);
    symlinkSync(outside, join(tree, "link"));
    // Twice on one folder, once on a file.
    system.bind(outside, join(tree, "a", "b"), false);
    system.bind(outside, join(tree, "a", "b"), true);
    system.bind(join(outside, "deep", "code"), join(tree, "c", "point"), true);
    removeTree(tree, system);
    assert.ok(!existsSync(tree));
    assert.deepEqual(mountsBelow(top), []);
    assert.equal(readFileSync(join(outside, "deep", "code"), "utf8"), join(outside, "deep", "code"));
    removeTree(tree, system);
    writeFileSync(tree, "a file");
    removeTree(tree, system);
    assert.ok(!existsSync(tree));
  } finally {
    for (const point of mountsBelow(top)) system.unmount(point);
    rmSync(top, { recursive: true, force: true });
  }
});
