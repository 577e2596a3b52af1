// How the freezer's file is written: at once where that never waits, and in the order of the calls where it may.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { findCgroups } from "./cgroups.ts";
import { Freezer } from "./freezer.ts";

function freezerOf(t: TestContext, version: 1 | 2): { freezer: Freezer; state: () => string } {
  const folder = mkdtempSync(join(tmpdir(), "ebb-freezer-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, "state");
  writeFileSync(path, "-");
  const freeze = (_id: string, frozen: boolean) => ({ kind: "write" as const, path, value: frozen ? "1" : "0" });
  return { freezer: new Freezer({ version, freeze }, "s1"), state: () => readFileSync(path, "latin1") };
}

test("by version 1 it is written when the call returns", (t) => {
  const { freezer, state } = freezerOf(t, 1);
  void freezer.set(true);
  assert.equal(state(), "1");
  void freezer.set(false);
  assert.equal(state(), "0");
  freezer.close();
});

test("by version 2 the caller does not wait, the order holds, and the file is closed after the last", async (t) => {
  const { freezer, state } = freezerOf(t, 2);
  for (let round = 0; round < 50; round++) {
    const all = [freezer.set(true), freezer.set(false), freezer.set(true)];
    const last = freezer.set(round % 2 === 0);
    assert.ok(round > 0 || state() === "-", "nothing is written yet");
    if (round === 49) freezer.close();
    await last;
    assert.equal(state(), round % 2 === 0 ? "1" : "0");
    await Promise.all(all);
  }
});

test("a file that is not there rejects, and the next that is there is written", async (t) => {
  for (const version of [1, 2] as const) {
    const { freezer, state } = freezerOf(t, version);
    const absent = new Freezer(
      { version, freeze: () => ({ kind: "write", path: "/does/not/exist", value: "1" }) },
      "s2",
    );
    await assert.rejects(absent.set(true), { code: "ENOENT" });
    absent.close();
    await freezer.set(true);
    assert.equal(state(), "1");
    freezer.close();
  }
});

/** On a hybrid machine both versions are here. */
const mounted = [
  { version: 1, root: "/sys/fs/cgroup/freezer", says: "freezer.state", frozen: /^FROZEN$/m },
  { version: 2, root: "/sys/fs/cgroup/unified", says: "cgroup.events", frozen: /^frozen 1$/m },
  { version: 2, root: "/sys/fs/cgroup", says: "cgroup.events", frozen: /^frozen 1$/m },
] as const;

for (const { version, root, says, frozen } of mounted)
  test(
    `a process below a sandbox's cgroup in ${root} stands still, and goes on`,
    {
      skip:
        process.getuid?.() !== 0 || !existsSync(join(root, "cgroup.procs")) ? "it is not there, or not root" : false,
    },
    async (t) => {
      const name = `test-${process.pid}`;
      const cgroups = findCgroups(name, version === 1 ? undefined : `1 1 0:1 / ${root} rw - cgroup2 cgroup2 rw`);
      assert.equal(cgroups.version, version);
      const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1)"], { stdio: "ignore" });
      const exited = once(child, "exit");
      const folders = [name, join(name, "s1"), join(name, "s1", "c")].map((path) => join(root, path));
      const freezer = new Freezer(cgroups, "s1");
      t.after(async () => {
        child.kill("SIGKILL");
        await freezer.set(false);
        await exited;
        freezer.close();
        for (const folder of folders.toReversed()) rmdirSync(folder);
      });
      for (const folder of folders) mkdirSync(folder);
      writeFileSync(join(folders[2]!, "cgroup.procs"), String(child.pid));
      const until = async (holds: () => boolean): Promise<void> => {
        while (!holds()) await sleep(2);
      };
      for (let round = 0; round < 3; round++) {
        await freezer.set(true);
        await until(() => frozen.test(readFileSync(join(folders[1]!, says), "latin1")));
        // It counts as frozen on its way out of the processor, which others may want as well.
        await until(() => !isRunning(child.pid!));
        const stood = cpuNs(child.pid!);
        await sleep(30);
        assert.equal(cpuNs(child.pid!), stood);
        await freezer.set(false);
        await until(() => cpuNs(child.pid!) > stood);
      }
    },
  );

function isRunning(pid: number): boolean {
  return readdirSync(`/proc/${pid}/task`).some((thread) =>
    /^State:\tR/m.test(readFileSync(`/proc/${pid}/task/${thread}/status`, "latin1")),
  );
}

function cpuNs(pid: number): number {
  return readdirSync(`/proc/${pid}/task`)
    .map((thread) => Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "latin1").split(" ")[0]))
    .reduce((sum, ns) => sum + ns, 0);
}
