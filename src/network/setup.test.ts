// The script that takes a network away, with an nft that fails as the real one does now and then.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { removeAll } from "./setup.ts";

/** Runs it with programs of its own; answers how it ended. `nft` sees in $asked how often it was asked. */
function run(t: TestContext, nft: string): { readonly status: number | null; readonly words: string; left: boolean } {
  const folder = mkdtempSync(join(tmpdir(), "ebb-setup-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const [programs, network] = [join(folder, "bin"), join(folder, "network")];
  for (const path of [programs, network]) mkdirSync(path);
  const program = (name: string, text: string): void =>
    writeFileSync(join(programs, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  program("nft", `echo x >> ${folder}/asked\nasked=$(wc -l < ${folder}/asked)\n${nft}`);
  for (const name of ["ip", "umount", "sleep"]) program(name, "exit 0");
  const script = removeAll.replace(/^PATH=/, `PATH=${programs}:`);
  const { status, stderr } = spawnSync("/bin/sh", ["-c", script, "ebb", network, "ebb01234567"], { encoding: "utf8" });
  return { status, words: stderr, left: existsSync(network) };
}

const busy = 'echo "Error: Could not process rule: Device or resource busy" >&2; exit 1';

test("a table that cannot be deleted at this moment is tried again", (t) => {
  assert.deepEqual(run(t, `[ "$asked" -ge 4 ] && exit 0\n${busy}`), { status: 0, words: "", left: false });
});

test("one that is not there is no failure", (t) => {
  const nft = 'echo "Error: Could not process rule: No such file or directory" >&2; exit 1';
  assert.deepEqual(run(t, nft), { status: 0, words: "", left: false });
});

test("one that stays fails the script, which has removed the rest", (t) => {
  const { status, words, left } = run(t, busy);
  assert.deepEqual([status, left], [1, false]);
  assert.match(words, /Device or resource busy/);
});
