// Removing trees: by other processes, what lies in it and nothing else.

import assert from "node:assert/strict";
import { existsSync, linkSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { plainSpawner } from "./plain-run.testing.ts";
import { createRemove } from "./remove.ts";

function folderFor(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "ebb-remove-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

test("a tree goes, with what is read-only in it; what its links lead to stays as it was", async (t) => {
  const folder = folderFor(t);
  const outside = join(folder, "outside");
  mkdirSync(join(outside, "sub"), { recursive: true });
  writeFileSync(join(outside, "kept"), "", { mode: 0o444 });
  const tree = join(folder, "-rf");
  mkdirSync(join(tree, "sub"), { recursive: true });
  linkSync(join(outside, "kept"), join(tree, "sub", "kept"));
  symlinkSync(outside, join(tree, "elsewhere"));
  mkdirSync(join(tree, "closed"), { mode: 0o500 });
  const remove = createRemove(plainSpawner);
  await remove(tree);
  assert.ok(!existsSync(tree));
  assert.ok(existsSync(join(outside, "sub")));
  assert.equal(statSync(join(outside, "kept")).mode & 0o777, 0o444);
  await remove(tree);
});

test("folders that may not be written are opened first, and only folders", async () => {
  const ran: string[] = [];
  const refuse = { code: 1, stdout: "", stderr: "rm: cannot remove 'x': Permission denied" };
  const remove = createRemove({
    exec: async (argv) => {
      ran.push(argv.slice(3).join(" "));
      return ran.length < 3 ? refuse : { code: 0, stdout: "", stderr: "" };
    },
  });
  await remove("/code/x");
  assert.deepEqual(ran, ["rm -rf -- /code/x", "find /code/x -type d -exec chmod u+rwx {} +", "rm -rf -- /code/x"]);
});

test("what cannot be removed is told with the reason", async () => {
  const remove = createRemove({ exec: async () => ({ code: 1, stdout: "", stderr: "rm: Read-only file system" }) });
  await assert.rejects(remove("/code/x"), { code: "internal", message: /^\/code\/x cannot be removed: rm: Read-only/ });
});
