// The spawner from outside: what it launches, what it undoes, and every death.

import assert from "node:assert/strict";
import { execFileSync, fork, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
  openSync,
  closeSync,
  constants,
  readSync,
} from "node:fs";
import { readFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { createAllocator, type OwnAllocator } from "./allocator.ts";
import type { LaunchSpec, Spawner } from "./door.ts";
import { isAlive, readOwner, type Owner } from "./owners.ts";
import { createSpawner } from "./spawner.ts";
import { mountsBelow } from "./syscalls.ts";

const skip = process.platform !== "linux" || process.getuid?.() !== 0 ? "not root on Linux" : false;
let root: string;

before(() => {
  root = mkdtempSync(join(tmpdir(), "ebb-run-"));
});
after(() => {
  rmSync(root, { recursive: true, force: true });
});

/** Waits for what another process does; the deadline only turns a defect into a failure. */
async function until(what: string, holds: () => boolean): Promise<void> {
  for (const deadline = Date.now() + 10_000; !holds(); await sleep(5))
    assert.ok(Date.now() < deadline, `never: ${what}`);
}

function sleeper(allocator: OwnAllocator, id: string, over: Partial<LaunchSpec> = {}): LaunchSpec {
  const folder = join(allocator.runDir, "output", id);
  return {
    id,
    argv: [process.execPath, "-e", "setInterval(() => {}, 1e6)"],
    env: {},
    cwd: "/",
    listen: null,
    output: { stdout: join(folder, "1"), stderr: join(folder, "2"), frames: null },
    signalPidFile: null,
    before: [
      { kind: "folder", path: folder, mode: 0o700 },
      { kind: "fifo", path: join(folder, "1") },
      { kind: "fifo", path: join(folder, "2") },
    ],
    undo: [{ kind: "remove", path: folder }],
    ...over,
  };
}

function spawnerOf(runDir: string): Owner {
  const owner = readOwner(join(runDir, "spawner"));
  assert.ok(owner);
  return owner;
}

describe("the spawner", { skip }, () => {
  let allocator: OwnAllocator;
  let spawner: Spawner;
  const deaths: string[] = [];
  before(async () => {
    allocator = createAllocator({ root });
    spawner = createSpawner({
      node: process.execPath,
      runDir: allocator.runDir,
      died: (reason) => void deaths.push(reason),
      gaveUp: (reason) => void deaths.push(`gave up: ${reason}`),
    });
    await spawner.start();
  });
  after(() => spawner.stop());

  test("runs a command when it has ended well, with all that is undone afterwards, and its own failure is told", async () => {
    const ended = async (id: string, code: number, command: string) => {
      const spec = sleeper(allocator, id, { argv: ["/bin/sh", "-c", `exit ${code}`] });
      const atEnd = { argv: ["/bin/sh", "-c", command, "sh", spec.output.stdout], stdin: "given\n", timeoutMs: 500 };
      await spawner.launch({ ...spec, atEnd });
      const { atEnd: how } = await spawner.exited(id);
      assert.ok(!existsSync(spec.output.stdout));
      return how;
    };
    const well = { code: 0, stdout: "given\n", stderr: "" };
    assert.deepEqual(await ended("well", 0, '[ -p "$1" ] && cat'), well);
    assert.equal(await ended("badly", 3, "cat"), undefined);
    assert.equal((await ended("failing", 0, "echo why >&2; exit 4"))?.stderr, "why\n");
    assert.match((await ended("late", 0, "exec sleep 60"))!.stderr, /took longer than 500 ms/);
  });

  test("kills the command at the end of whatever is killed meanwhile", { timeout: 20_000 }, async () => {
    const spec = sleeper(allocator, "given-up", { argv: ["/bin/true"] });
    const begun = join(root, "begun");
    execFileSync("mkfifo", [begun]);
    const argv = ["/bin/sh", "-c", 'echo begun > "$1"; exec sleep 60', "sh", begun];
    await spawner.launch({ ...spec, atEnd: { argv, stdin: "", timeoutMs: 60_000 } });
    await readFile(begun);
    await spawner.signal("given-up", "SIGKILL");
    assert.notEqual((await spawner.exited("given-up")).atEnd?.code, 0);
  });

  test("launches with just the descriptors, the environment and the folder that were said", async () => {
    const spec = sleeper(allocator, "exact", {
      argv: [
        process.execPath,
        "-e",
        `const fs = require("fs"); fs.writeSync(1, JSON.stringify({ env: process.env, cwd: process.cwd(), argv: process.argv.slice(1),
          fds: fs.readdirSync("/proc/self/fd").map(Number).filter((fd) => { try { return /^(\\/|socket)/.test(fs.readlinkSync("/proc/self/fd/" + fd)) } catch { return false } }) }))`,
        "an $argument; with 'shell' words",
      ],
      env: { ONLY: "this" },
      listen: join(allocator.runDir, "sockets", "exact"),
    });
    // A descriptor that somebody forgot to close must not go on.
    const stray = openSync("/etc/passwd", "r");
    await spawner.make({ owner: "exact", things: spec.before!, undo: spec.undo });
    const reader = openSync(spec.output.stdout, constants.O_RDWR | constants.O_NONBLOCK);
    await spawner.launch({ ...spec, before: [] });
    const how = await spawner.exited("exact");
    assert.deepEqual([how.code, how.signal], [0, null]);
    const buffer = Buffer.alloc(4096);
    const seen: Record<string, unknown> = JSON.parse(buffer.toString("utf8", 0, readSync(reader, buffer)));
    closeSync(reader);
    closeSync(stray);
    const name = allocator.runDir.slice(allocator.runDir.lastIndexOf("/") + 1);
    assert.deepEqual(seen["env"], { ONLY: "this", EBB_LAUNCH: `${name}/exact` });
    assert.deepEqual(seen["argv"], ["an $argument; with 'shell' words"]);
    assert.equal(seen["cwd"], "/");
    // /dev/null, the outputs, the listener; and what Node opens for itself.
    assert.deepEqual(
      (seen["fds"] as number[]).filter((fd) => fd < 5),
      [0, 1, 2, 3],
    );
    assert.ok(!existsSync(spec.output.stdout));
    assert.ok(!existsSync(spec.listen!));
  });

  test("a listener takes connections before its process is up", async () => {
    const path = join(allocator.runDir, "sockets", "early");
    const program = `require("net").createServer((socket) => socket.end("hello")).listen({ fd: 3 })`;
    await spawner.launch(sleeper(allocator, "early", { argv: [process.execPath, "-e", program], listen: path }));
    const socket = connect(path);
    let said = "";
    for await (const part of socket) said += String(part);
    assert.equal(said, "hello");
    await spawner.signal("early", "SIGTERM");
    assert.equal((await spawner.exited("early")).signal, "SIGTERM");
  });

  test("a program that does not exist fails the launch and leaves nothing", async () => {
    await assert.rejects(spawner.launch(sleeper(allocator, "absent", { argv: ["/does/not/exist"] })), /ENOENT/);
    assert.deepEqual(
      readdirSync(join(allocator.runDir, "ledger")).filter((name) => name.startsWith("absent")),
      [],
    );
    assert.ok(!existsSync(join(allocator.runDir, "output", "absent")));
    await assert.rejects(spawner.exited("absent"), /never launched/);
  });

  test("nothing is made for an owner that has gone, where nothing would undo it", async () => {
    const path = join(allocator.runDir, "left-over");
    const things = [{ kind: "folder" as const, path, mode: 0o700 }];
    await assert.rejects(spawner.make({ owner: "nobody", things, undo: [] }), /nobody has gone/);
    assert.ok(!existsSync(path));
  });

  test("a thing that cannot be made fails the launch and undoes the others", async () => {
    const spec = sleeper(allocator, "limit");
    const before = [...spec.before!, { kind: "write" as const, path: join(root, "no", "limit"), value: "1" }];
    await assert.rejects(spawner.launch({ ...spec, before }), /cannot set .*limit to 1/);
    assert.ok(!existsSync(join(allocator.runDir, "output", "limit")));
  });

  test("what could not be undone is told, at every end, until it is", async () => {
    const free = join(root, "free");
    const undo = [{ kind: "command" as const, argv: ["/bin/test", "-e", free] }];
    const spec = sleeper(allocator, "stuck", { argv: ["/bin/true"] });
    await spawner.launch({ ...spec, undo: [...spec.undo, ...undo] });
    assert.equal((await spawner.exited("stuck")).left, true);
    await assert.rejects(spawner.unmake("stuck"), /stuck: command: /);
    await spawner.make({ owner: "stuck too", things: [], undo });
    await assert.rejects(spawner.unmake("stuck too"), /stuck too: command: /);
    writeFileSync(free, "");
    await spawner.unmake("stuck");
    await spawner.unmake("stuck too");
    const again = sleeper(allocator, "free", { argv: ["/bin/true"] });
    await spawner.launch({ ...again, undo: [...again.undo, ...undo] });
    assert.equal((await spawner.exited("free")).left, undefined);
  });

  test("commands answer their output and code, are bounded in time, and see no shell", async () => {
    assert.deepEqual(await spawner.exec(["/bin/echo", "$HOME; echo no"]), {
      code: 0,
      stdout: "$HOME; echo no\n",
      stderr: "",
    });
    assert.equal((await spawner.exec(["/bin/cat"], { stdin: "in" })).stdout, "in");
    assert.equal((await spawner.exec(["/bin/false"])).code, 1);
    await assert.rejects(spawner.exec(["/bin/sleep", "60"], { timeoutMs: 50 }), /longer than 50 ms/);
    await assert.rejects(spawner.exec(["/bin/sleep", "60"], { signal: AbortSignal.timeout(50) }), /aborted/);
    await assert.rejects(spawner.exec(["/does/not/exist"]), /ENOENT/);
  });

  test(
    "nft takes rules through one session, and refuses in its own words",
    { skip: !existsSync("/usr/sbin/nft") && "no nft" },
    async () => {
      const table = `ebb_test_${process.pid}`;
      await spawner.nft(`add table inet ${table}\nadd set inet ${table} s { type ipv4_addr; }`);
      await Promise.all([1, 2, 3].map((n) => spawner.nft(`add element inet ${table} s { 198.18.0.${n} }`)));
      const { stdout } = await spawner.exec(["/usr/sbin/nft", "list", "set", "inet", table, "s"]);
      for (const n of [1, 2, 3]) assert.ok(stdout.includes(`198.18.0.${n}`), stdout);
      await assert.rejects(spawner.nft(`add element inet ${table} nowhere { 198.18.0.9 }`), /No such file/);
      await assert.rejects(spawner.nft("certainly no command"), /syntax error/);
      await spawner.nft(`delete table inet ${table}`);
    },
  );

  test("a read-only bind is read-only, and its end is its owner's", async () => {
    const [source, target] = [join(root, "source"), join(root, "target")];
    mkdirSync(source);
    mkdirSync(target);
    writeFileSync(join(source, "file"), "kept");
    await spawner.launch(sleeper(allocator, "binder"));
    await spawner.bind({ source, target, readOnly: true, owner: "binder" });
    assert.equal(readFileSync(join(target, "file"), "utf8"), "kept");
    assert.throws(() => writeFileSync(join(target, "file"), "x"), { code: "EROFS" });
    await spawner.signal("binder", "SIGKILL");
    await spawner.exited("binder");
    assert.deepEqual(mountsBelow(target), []);
    assert.equal(readFileSync(join(source, "file"), "utf8"), "kept");
    await assert.rejects(spawner.bind({ source, target, readOnly: true, owner: "binder" }), /not running/);
  });

  test("its own death: what it launched is gone and told as lost, and a new one serves", async () => {
    await spawner.launch(sleeper(allocator, "orphan"));
    const replaced = new Promise<void>((resolve) => spawner.onReplaced(resolve));
    const old = spawnerOf(allocator.runDir);
    process.kill(old.pid, "SIGKILL");
    assert.equal((await spawner.exited("orphan")).lost, true);
    await replaced;
    assert.equal(deaths.length, 1);
    assert.ok(!existsSync(join(allocator.runDir, "output", "orphan")));
    assert.deepEqual(marked(allocator.runDir), []);
    assert.equal((await spawner.exec(["/bin/echo", "again"])).stdout, "again\n");
    assert.notEqual(spawnerOf(allocator.runDir).pid, old.pid);
  });
});

/** Version 1 of cgroups holds back even SIGKILL from what is frozen. On a hybrid machine both are here. */
const freezers = (
  [
    ["version 1", "/sys/fs/cgroup/freezer", "freezer.state", "FROZEN"],
    ["version 2", "/sys/fs/cgroup/unified", "cgroup.freeze", "1"],
    ["version 2", "/sys/fs/cgroup", "cgroup.freeze", "1"],
  ] as const
).filter(([, mount]) => existsSync(join(mount, "cgroup.procs")));

for (const [version, mount, file, frozen] of freezers)
  describe(`what is frozen, by cgroups of ${version},`, { skip }, () => {
    /** Launched, in a cgroup below one of its owner's as engines make it, and frozen there. */
    async function launchFrozen(allocator: OwnAllocator, spawner: Spawner, id: string): Promise<string> {
      const path = join(mount, `test-${process.pid}-${id}`);
      const spec = sleeper(allocator, id);
      await spawner.launch({
        ...spec,
        before: [...spec.before!, { kind: "folder", path: join(path, "c"), mode: 0o755 }],
        undo: [...spec.undo, { kind: "cgroup", paths: [path] }],
      });
      for (const pid of marked(allocator.runDir)) writeFileSync(join(path, "c", "cgroup.procs"), pid);
      writeFileSync(join(path, file), frozen);
      return path;
    }

    test("hears a signal all the same", async () => {
      const allocator = createAllocator({ root });
      const spawner = createSpawner({ node: process.execPath, runDir: allocator.runDir, gaveUp: () => {} });
      await spawner.start();
      for (const signal of ["SIGTERM", "SIGKILL"] as const) {
        const path = await launchFrozen(allocator, spawner, signal);
        await spawner.signal(signal, signal);
        assert.equal((await spawner.exited(signal)).signal, signal);
        assert.ok(!existsSync(path));
      }
      await launchFrozen(allocator, spawner, "last");
      await spawner.stop();
      assert.deepEqual(marked(allocator.runDir), []);
      assert.ok(!existsSync(allocator.runDir));
    });

    test("is ended by whoever comes after its spawner", async () => {
      const allocator = createAllocator({ root });
      const spawner = createSpawner({ node: process.execPath, runDir: allocator.runDir, gaveUp: () => {} });
      await spawner.start();
      const path = await launchFrozen(allocator, spawner, "orphan");
      const [pid] = marked(allocator.runDir);
      process.kill(spawnerOf(allocator.runDir).pid, "SIGKILL");
      assert.equal((await spawner.exited("orphan")).lost, true);
      assert.ok(!marked(allocator.runDir).includes(pid!));
      assert.ok(!existsSync(path));
      await spawner.stop();
    });
  });

describe("the spawner's end", { skip }, () => {
  test("stopping leaves no process, no mount, no file and no number", async () => {
    const allocator = createAllocator({ root });
    const spawner = createSpawner({ node: process.execPath, runDir: allocator.runDir, gaveUp: () => {} });
    await spawner.start();
    allocator.take("ids", 10);
    await spawner.launch(sleeper(allocator, "last"));
    await spawner.share({ path: join(allocator.runDir, "output"), owner: "spawner" });
    await spawner.stop();
    assert.equal((await spawner.exited("last")).signal, "SIGKILL");
    assert.ok(!existsSync(allocator.runDir));
    assert.deepEqual(mountsBelow(allocator.runDir), []);
    assert.deepEqual(marked(allocator.runDir), []);
    const other = createAllocator({ root });
    assert.equal(other.take("ids", 10), 0);
    other.close();
  });

  test("three deaths within a minute and it gives up", async () => {
    const allocator = createAllocator({ root });
    const gaveUp = Promise.withResolvers<string>();
    const spawner = createSpawner({ node: process.execPath, runDir: allocator.runDir, gaveUp: gaveUp.resolve });
    await spawner.start();
    for (let death = 0; death < 3; death++) {
      await spawner.exec(["/bin/true"]);
      const { pid } = spawnerOf(allocator.runDir);
      process.kill(pid, "SIGKILL");
      if (death < 2) await new Promise<void>((resolve) => spawner.onReplaced(resolve));
    }
    assert.match(await gaveUp.promise, /SIGKILL/);
    await assert.rejects(spawner.exec(["/bin/true"]), /keeps dying/);
    await spawner.stop();
    allocator.close();
  });

  test("a daemon killed: its spawner ends everything within 2 s", async () => {
    const { daemon, runDir } = await startDaemon();
    const spawner = spawnerOf(runDir);
    const diedAt = Date.now();
    daemon.kill("SIGKILL");
    await until("the spawner ends", () => !isAlive(spawner));
    assert.ok(Date.now() - diedAt < 2_500);
    assert.deepEqual(marked(runDir), []);
    assert.deepEqual(mountsBelow(runDir), []);
    assert.ok(!existsSync(runDir));
  });

  test("daemon and spawner killed together: the next daemon undoes what both left, and touches no living one's", async () => {
    const living = await startDaemon();
    const dead = await startDaemon();
    const spawner = spawnerOf(dead.runDir);
    dead.daemon.kill("SIGKILL");
    process.kill(spawner.pid, "SIGKILL");
    await until("both are dead", () => !isAlive(spawner) && dead.daemon.signalCode !== null);
    // What the race between the two kills left; the file that lies under the mount is what must survive.
    const next = await startDaemon();
    assert.deepEqual(marked(dead.runDir), []);
    assert.deepEqual(mountsBelow(dead.runDir), []);
    assert.ok(!existsSync(dead.runDir));
    assert.ok(existsSync(living.runDir));
    assert.equal(marked(living.runDir).length, 1);
    assert.equal(readFileSync(join(living.source, "file"), "utf8"), "kept");
    assert.equal(readFileSync(join(dead.source, "file"), "utf8"), "kept");
    for (const { daemon, runDir } of [living, next]) {
      const process = spawnerOf(runDir);
      daemon.kill("SIGKILL");
      await until("it is gone", () => !isAlive(process));
    }
  });

  test("a process killed between its note and its start leaves nothing untracked", async () => {
    const allocator = createAllocator({ root });
    // As a crash leaves it: noted, half made, never started; and a marked process that the note does not know.
    const folder = join(allocator.runDir, "output", "half");
    mkdirSync(folder);
    const note = { id: "half", undo: [{ kind: "remove", path: folder }] };
    writeFileSync(join(allocator.runDir, "ledger", "half.json"), JSON.stringify(note));
    writeFileSync(join(allocator.runDir, "ledger", "torn.json"), '{"id":"to');
    const name = allocator.runDir.slice(allocator.runDir.lastIndexOf("/") + 1);
    const stray = spawn("/bin/sleep", ["1000"], { env: { EBB_LAUNCH: `${name}/half` }, stdio: "ignore" });
    await once(stray, "spawn");
    const ended = once(stray, "exit");
    const spawner = createSpawner({ node: process.execPath, runDir: allocator.runDir, gaveUp: () => {} });
    await spawner.start();
    await ended;
    assert.ok(!existsSync(folder));
    await spawner.stop();
  });
});

/** Processes that carry the run directory's mark. */
function marked(runDir: string): string[] {
  const mark = `EBB_LAUNCH=${runDir.slice(runDir.lastIndexOf("/") + 1)}/`;
  return readdirSync("/proc").filter((pid) => {
    try {
      return /^[0-9]+$/.test(pid) && readFileSync(`/proc/${pid}/environ`, "latin1").includes(mark);
    } catch {
      return false;
    }
  });
}

/** A daemon with a launched process and a bind of a folder with a file in its run directory. */
async function startDaemon(): Promise<{ daemon: ChildProcess; runDir: string; source: string }> {
  const source = mkdtempSync(join(root, "kept-"));
  writeFileSync(join(source, "file"), "kept");
  const daemon = fork(fileURLToPath(new URL("fixtures/daemon.ts", import.meta.url)), [root, source], {
    execArgv: ["--experimental-ffi", "--disable-warning=ExperimentalWarning"],
  });
  const [runDir] = await once(daemon, "message");
  return { daemon, runDir: String(runDir), source };
}
