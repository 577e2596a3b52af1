// The run of the tests ends, whatever a test leaves.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { installation } from "#config.ts";
import { eventually, folderOf } from "./daemon/fixture.ts";

test("a file of which a test fails and leaves a thread and a process running ends, and says so", async (t) => {
  const folder = folderOf({
    "left.test.mjs": `import { spawn } from "node:child_process";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
test("fails", () => {
  new Worker("setInterval(() => {}, 1000)", { eval: true });
  console.log("child", spawn("sleep", ["100"]).pid, "end");
  throw new Error("it failed");
});`,
  });
  t.after(() => rmSync(folder, { recursive: true }));
  const ends = `file://${join(installation, "tools", "ends.ts")}?ms=100`;
  const child = spawn(process.execPath, ["--import", ends, join(folder, "left.test.mjs")], {
    // It is a run of its own.
    env: { ...process.env, NODE_TEST_CONTEXT: undefined },
  });
  t.after(() => void child.kill("SIGKILL"));
  let said = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => (said += text));
  assert.equal((await once(child, "close"))[0], 1, said);
  assert.match(said, /^✖ fails/m);
  assert.match(said, /left\.test\.mjs does not end: .*ProcessWrap.* is left running/);
  const sleeper = /^child ([0-9]+) end$/m.exec(said)?.[1];
  await eventually("its process has ended", async () => !existsSync(`/proc/${sleeper}`) || zombie(sleeper!));
});

function zombie(pid: string): boolean {
  try {
    return / Z /.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return true;
  }
}
