// What a dead daemon left, where not all of it can be undone.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { Worker } from "node:worker_threads";
import type { Undo } from "./door.ts";
import { formatOwner, ownerOf } from "./owners.ts";
import { reclaimDead, takeOver } from "./reclaim.ts";
import { createSyscalls } from "./syscalls.ts";

/** The run directories of the one that starts and of one that is dead, and what writes what the dead one owes. */
function machine(t: TestContext): { boot: string; own: string; dead: string; owes: (undo: readonly Undo[]) => void } {
  const boot = mkdtempSync(join(tmpdir(), "ebb-reclaim-"));
  t.after(() => rmSync(boot, { recursive: true, force: true }));
  const [own, dead] = [join(boot, "aaaaaaaaaaaa"), join(boot, "bbbbbbbbbbbb")];
  for (const folder of [own, join(dead, "ledger"), join(boot, "alloc")]) mkdirSync(folder, { recursive: true });
  const owes = (undo: readonly Undo[]): void =>
    writeFileSync(join(dead, "ledger", "s1.json"), JSON.stringify({ id: "s1", undo }));
  return { boot, own, dead, owes };
}

test("what cannot be undone keeps its ledger, and the next start tries it again", async (t) => {
  const { boot, own, dead, owes } = machine(t);
  // Nobody can remove what /proc shows.
  owes([{ kind: "remove", path: "/proc/self/status" }]);
  const problems = await reclaimDead(own, createSyscalls());
  assert.equal(problems.length, 1);
  assert.match(problems[0]!, /^s1: remove: /);
  assert.ok(existsSync(join(dead, "ledger", "s1.json")));
  assert.ok(!existsSync(join(dead, "reclaim")), "who has failed and lives on keeps nobody from it");

  owes([{ kind: "remove", path: join(boot, "nothing") }]);
  assert.deepEqual(await reclaimDead(own, createSyscalls()), []);
  assert.ok(!existsSync(dead));
});

test("what another spawner undoes is left to it, and undone where it dies in the middle of it", async (t) => {
  const { boot, own, dead, owes } = machine(t);
  const file = join(boot, "left");
  writeFileSync(file, "");
  owes([{ kind: "remove", path: file }]);
  const other = spawn("/bin/sleep", ["1000"], { stdio: "ignore" });
  t.after(() => void other.kill("SIGKILL"));
  await once(other, "spawn");
  writeFileSync(join(dead, "reclaim"), formatOwner(ownerOf(other.pid!)!));
  assert.deepEqual(await reclaimDead(own, createSyscalls()), []);
  assert.ok(existsSync(file));

  const problems: string[] = [];
  const taken = takeOver(own, createSyscalls(), (words) => problems.push(words));
  // Nothing else keeps this process until then.
  const keep = setInterval(() => {}, 1_000);
  t.after(() => clearInterval(keep));
  other.kill("SIGKILL");
  await taken;
  assert.deepEqual([problems, existsSync(file), existsSync(dead)], [[], false, false]);
  await takeOver(own, createSyscalls(), () => assert.fail("there is nothing"));
});

test("a run directory whose maker died in making it goes at the next start; one that is being made stays", async (t) => {
  const boot = mkdtempSync(join(tmpdir(), "ebb-reclaim-"));
  t.after(() => rmSync(boot, { recursive: true, force: true }));
  const own = join(boot, "aaaaaaaaaaaa");
  const { pid, startTicks } = ownerOf(process.pid)!;
  const [dead, living] = [`.bbbbbbbbbbbb ${pid} ${Number(startTicks) + 1}`, `.cccccccccccc ${pid} ${startTicks}`];
  for (const folder of [own, join(boot, dead, "ledger"), join(boot, living, "ledger"), join(boot, "alloc")])
    mkdirSync(folder, { recursive: true });
  assert.deepEqual(await reclaimDead(own, createSyscalls()), []);
  assert.deepEqual(readdirSync(boot).toSorted(), [living, "aaaaaaaaaaaa", "alloc"]);
});

// Version 1 holds back even SIGKILL from what is frozen.
const [mount, file, states] = existsSync("/sys/fs/cgroup/freezer")
  ? (["/sys/fs/cgroup/freezer", "freezer.state", ["THAWED", "FROZEN"]] as const)
  : (["/sys/fs/cgroup", "cgroup.freeze", ["0", "1"]] as const);

/** Freezes this again whenever somebody has thawed it, so many times. */
const freezer = `const { readFileSync, writeFileSync } = require("node:fs");
const { workerData: { path, states: [thawed, frozen], times }, parentPort } = require("node:worker_threads");
writeFileSync(path, frozen, { flag: "r+" });
parentPort.postMessage("frozen");
for (let again = 0; again < times; ) {
  let state;
  try {
    state = readFileSync(path, "latin1").trim();
    if (state === thawed) { again++; writeFileSync(path, frozen, { flag: "r+" }); }
  } catch { break; }
}`;

for (const level of ["s1", "s1/c"])
  test(
    `what is frozen again and again while it is undone (${level}) is gone all the same`,
    { skip: process.getuid?.() !== 0 || !existsSync(join(mount, "cgroup.procs")) ? "needs root and cgroups" : false },
    async (t) => {
      const { own, dead, owes } = machine(t);
      const parent = join(mount, `test-${process.pid}-again`);
      mkdirSync(join(parent, "s1", "c"), { recursive: true });
      const child = spawn("/bin/sleep", ["1000"], { stdio: "ignore" });
      const exited = once(child, "exit");
      writeFileSync(join(parent, "s1", "c", "cgroup.procs"), String(child.pid));
      owes([{ kind: "cgroup", paths: [parent] }]);
      const path = join(parent, level, file);
      const worker = new Worker(freezer, { eval: true, workerData: { path, states, times: 10 } });
      t.after(async () => {
        await worker.terminate();
        // Where the test fails; a killed process that stays frozen would stay for ever.
        if (existsSync(path)) writeFileSync(path, states[0], { flag: "r+" });
        child.kill("SIGKILL");
        await exited;
      });
      await once(worker, "message");
      assert.deepEqual(await reclaimDead(own, createSyscalls()), []);
      assert.equal((await exited)[1], "SIGKILL");
      assert.ok(!existsSync(parent));
      assert.ok(!existsSync(dead));
    },
  );

test("a command that fails is owed still", async (t) => {
  const boot = mkdtempSync(join(tmpdir(), "ebb-reclaim-"));
  t.after(() => rmSync(boot, { recursive: true, force: true }));
  const [own, dead] = [join(boot, "aaaaaaaaaaaa"), join(boot, "bbbbbbbbbbbb")];
  for (const folder of [own, join(dead, "ledger"), join(boot, "alloc")]) mkdirSync(folder, { recursive: true });
  const undo: readonly Undo[] = [{ kind: "command", argv: ["/bin/sh", "-c", "echo it is busy >&2; exit 1"] }];
  writeFileSync(join(dead, "ledger", "spawner.json"), JSON.stringify({ id: "spawner", undo }));
  assert.deepEqual(await reclaimDead(own, createSyscalls()), ["spawner: command: it is busy"]);
  assert.ok(existsSync(join(dead, "ledger", "spawner.json")));
});
