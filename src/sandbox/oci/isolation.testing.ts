// The isolation checklist, looked at from inside a sandbox and, where it takes both, from the machine: each line a test.

import assert from "node:assert/strict";
import { createServer, type Server } from "node:net";
import { existsSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { gvisorOn, openGround, ociOn, plainLinks, whyNot, type Ground } from "../fixtures/harness.ts";
import { callsByNumber, dangerous, evaluates, otherAbis } from "../fixtures/probes.ts";
import { assignmentOf, get, poolOf, prepare, startAhead, type Started } from "../suite.ts";
import type { Assignment, SandboxDriver } from "../door.ts";
import { forkBomb, gvisorDescriptor, namespacesOfLocked, processesOf } from "./isolation-outside.testing.ts";
import type { OciDriver } from "./oci.ts";

const EPERM = 1;
const EINVAL = 22;
const ENOTTY = 25;
const ENOSYS = 38;

export function runIsolationChecklist(isolation: "container" | "gvisor"): void {
  const programs = ["/usr/sbin/ip", ...(isolation === "gvisor" ? ["/usr/bin/runsc"] : [])];
  describe(`from inside a sandbox of class ${isolation}`, { skip: whyNot(programs) ?? false }, () =>
    checklist(isolation),
  );
}

function checklist(isolation: "container" | "gvisor"): void {
  const gvisor = isolation === "gvisor";
  const oneKernel = gvisor ? "the kernel inside is gVisor's" : false;
  let ground: Ground;
  let oci: OciDriver;
  let driver: SandboxDriver;
  let node: string;
  let python: string;
  const links = plainLinks();

  before(async () => {
    ground = await openGround();
    oci = ociOn(ground, { network: links });
    await oci.start();
    driver = isolation === "gvisor" ? gvisorOn(oci) : oci;
    const js = await startAhead(driver, poolOf("node26", 128));
    const env = { SECRET: "s3cr3t-of-the-revision" };
    await assignReady(js, assignmentOf(await ground.code(evaluates), { env }));
    node = js.id;
    const py = await startAhead(driver, poolOf("python3", 128));
    const digest = await ground.code(callsByNumber, "main.py");
    await assignReady(py, assignmentOf(digest, { entry: "main.py" }));
    python = py.id;
  });
  after(async () => {
    await driver.stop();
    await ground.close();
    links.close();
  });

  async function assignReady({ id }: Started, assignment: Assignment): Promise<void> {
    const answer = await driver.assign(id, assignment);
    assert.ok(answer.ok, JSON.stringify(answer));
  }

  async function ask<T>(script: string, sandbox = node): Promise<T> {
    const { status, body } = await get(driver, sandbox, `/${encodeURIComponent(script)}`);
    assert.equal(status, 200, body);
    const value: T = JSON.parse(body);
    return value;
  }

  /** For tests that hurt their sandbox. */
  async function spare(): Promise<Started> {
    const sandbox = await prepare(driver, poolOf("node26", 128));
    await assignReady(sandbox, assignmentOf(await ground.code(evaluates)));
    return sandbox;
  }

  async function calls(list: ReadonlyArray<readonly [string, number, ...Array<number | string>]>) {
    const { body } = await get(driver, python, `/${encodeURIComponent(JSON.stringify(list))}`);
    const answers: Record<string, number> = JSON.parse(body);
    return answers;
  }

  const refusedFile = (path: string, flags = "w") =>
    ask<string | null>(`code(() => fs.openSync(${JSON.stringify(path)}, "${flags}"))`);

  test("1 the user namespace maps ids of its own, above the machine's", { skip: oneKernel }, async () => {
    const [inside, outside, size] = (await ask<string>(`fs.readFileSync("/proc/self/uid_map", "utf8")`))
      .trim()
      .split(/\s+/)
      .map(Number);
    assert.equal(inside, 0);
    assert.ok(outside! >= 100_000 && size! <= 65_536);
  });

  test("2 it is not root and cannot become it", async () => {
    assert.equal(await ask("process.getuid()"), 1000);
    assert.equal(await ask("code(() => process.setuid(0))"), "EPERM");
    assert.equal(await ask("code(() => process.setgroups([0]))"), "EPERM");
  });

  test("3 and 14 it sees its own processes alone, and no secret in the environment of its first", async () => {
    assert.deepEqual(await ask(`fs.readdirSync("/proc").filter((name) => /^[0-9]+$/.test(name))`), ["1"]);
    assert.equal(await ask(`code(() => process.kill(${process.pid}, 0))`), "ESRCH");
    assert.ok(!(await ask<string>(`fs.readFileSync("/proc/1/environ", "utf8")`)).includes("s3cr3t"));
    assert.ok(!(await ask<string>(`fs.readFileSync("/proc/1/cmdline", "utf8")`)).includes("s3cr3t"));
  });

  test("4 its mount table tells nothing about the machine", async () => {
    const table = await ask<string>(`fs.readFileSync("/proc/self/mountinfo", "utf8")`);
    assert.ok(!table.includes(ground.dataDir), table);
    assert.ok(!table.includes("shared:"));
    for (const line of table.trim().split("\n")) {
      const [, , , root, point] = line.split(" ");
      assert.match(
        root!,
        /^\/(run\/ebb\/|ebb\/|[0-9a-f-]{36}\/|null$|zero$|full$|tty$|u?random$|bus$|fs$|irq$|sys$|sysrq-trigger$|$)/,
        `${root} at ${point}`,
      );
    }
  });

  test("5 it shares no network and no abstract socket with the machine", async () => {
    const name = `\0ebb-isolation-${process.pid}`;
    const server: Server = createServer();
    await new Promise<void>((resolve) => void server.listen({ path: name }, resolve));
    try {
      const tried = `new Promise((done) => net.connect({ path: ${JSON.stringify(name)} }).on("error", (e) => done(e.code)).on("connect", () => done("connected")))`;
      assert.equal(await ask(tried), "ECONNREFUSED");
      const unix = await ask<string>(`fs.readFileSync("/proc/net/unix", "utf8")`);
      assert.ok(!unix.includes("ebb-isolation"), unix);
      const devices = await ask<string[]>(
        `fs.readFileSync("/proc/net/dev", "utf8").split("\\n").slice(2).map((l) => l.split(":")[0].trim()).filter(Boolean)`,
      );
      assert.deepEqual(
        devices.filter((device) => !/^(lo|eth0)$/.test(device)),
        [],
      );
    } finally {
      server.close();
    }
  });

  test("6 none of its namespaces is the machine's", { skip: oneKernel }, async () => {
    for (const kind of ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"])
      assert.notEqual(
        await ask(`fs.readlinkSync("/proc/self/ns/${kind}")`),
        readlinkSync(`/proc/self/ns/${kind}`),
        kind,
      );
    assert.equal(await ask(`require("node:os").hostname()`), "sandbox");
  });

  test("7, 8 and 9 it has no capability, cannot gain privileges, and its system calls are filtered", async () => {
    const status = await ask<string>(`fs.readFileSync("/proc/self/status", "utf8")`);
    for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", ...(gvisor ? [] : ["CapAmb"])])
      assert.match(status, new RegExp(`^${set}:\\t0+$`, "m"));
    if (!gvisor) assert.match(status, /^NoNewPrivs:\t1$/m);
    assert.match(status, /^Seccomp:\t2$/m);
  });

  test(
    "9 system calls that lead out are refused",
    { skip: process.arch !== "x64" && "numbers of x86-64" },
    async () => {
      const denied = Object.entries(await calls(dangerous)).filter(([, errno]) => errno !== EPERM && errno !== ENOSYS);
      // gVisor has one personality, and says of every other that it is none.
      assert.deepEqual(denied, gvisor ? [["personality", EINVAL]] : []);
      if (gvisor) return;
      const { clone3, io_uring_setup } = await calls([
        ["clone3", 435, 0, 0],
        ["io_uring_setup", 425, 1, 0],
      ]);
      assert.deepEqual([clone3, io_uring_setup], [ENOSYS, ENOSYS]);
    },
  );

  test(
    "9 socket families other than the internet's, Unix's and route netlink are refused",
    { skip: process.arch !== "x64" && "numbers of x86-64" },
    async () => {
      const families = { packet: 17, vsock: 40, alg: 38, key: 15, bluetooth: 31, can: 29, xdp: 44, netfilter: 16 };
      const tried = Object.entries(families).map(
        ([name, family]) => [name, 41, family, 3, name === "netfilter" ? 12 : 0] as const,
      );
      assert.deepEqual(
        Object.values(await calls(tried)).filter((errno) => errno === 0),
        [],
      );
      const raw = await calls([
        ["raw", 41, 2, 3, 1],
        ["stream", 41, 2, 1, 0],
        ["route", 41, 16, 3, 0],
      ]);
      assert.deepEqual([raw["raw"] === 0, raw["stream"], raw["route"]], [false, 0, 0]);
    },
  );

  test(
    "9 a terminal cannot be typed into, also with bits above the kernel's",
    { skip: process.arch !== "x64" && "numbers of x86-64" },
    async () => {
      const answers = await calls([
        ["TIOCSTI", 16, 0, 0x5412, "x"],
        ["high", 16, 0, 0x1_0000_5412, "x"],
        ["TIOCLINUX", 16, 0, 0x541c, "x"],
      ]);
      assert.deepEqual([...new Set(Object.values(answers))], [gvisor ? ENOTTY : ENOSYS]);
    },
  );

  test(
    "9 the x32 and i386 ways in are closed",
    { skip: process.arch === "x64" ? oneKernel : "ways of x86-64" },
    async () => {
      // Each kills whoever tries: a child each, so that the sandbox lives on.
      const digest = await ground.code(otherAbis, "main.py");
      const sandbox = await prepare(driver, poolOf("python3", 128));
      await assignReady(sandbox, assignmentOf(digest, { entry: "main.py" }));
      const { body } = await get(driver, sandbox.id);
      const ends: Record<string, number> = JSON.parse(body);
      for (const [way, end] of Object.entries(ends)) assert.equal(end, 31, `${way} ended with ${end}, not SIGSYS`);
      await driver.stopSandbox(sandbox.id, 0);
    },
  );

  test("10 the root is read-only everywhere", async () => {
    const paths =
      "/x /usr/x /etc/x /etc/passwd /runtime/x /var/x /var/task/x /var/task/index.js /etc/resolv.conf /usr/bin/node";
    for (const path of paths.split(" "))
      assert.match(String(await refusedFile(path, "a")), /^(EROFS|EACCES|ETXTBSY)$/, path);
  });

  test("11 /tmp is bounded, nosuid and nodev", async () => {
    const line = await ask<string>(
      `fs.readFileSync("/proc/self/mountinfo", "utf8").split("\\n").find((l) => l.includes(" /tmp "))`,
    );
    // gVisor does not tell the flags: 16 tries a device, and no program may become another user (2).
    if (!gvisor) assert.match(line, /nosuid,nodev/);
    assert.equal(await ask(`code(() => fs.writeFileSync("/tmp/big", Buffer.alloc(20 << 20)))`), "ENOSPC");
    await ask(`fs.rmSync("/tmp/big")`);
    assert.equal(await ask(`code(() => fs.writeFileSync("/tmp/small", "x"))`), null);
  });

  test("12 what tells about the kernel is masked", async () => {
    for (const path of [
      "kcore",
      "keys",
      "timer_list",
      "sched_debug",
      "interrupts",
      "kallsyms",
      "slabinfo",
      "vmallocinfo",
    ])
      assert.equal(
        await ask(`(() => { try { return fs.readFileSync("/proc/${path}", "utf8").length } catch { return 0 } })()`),
        0,
        path,
      );
    // gVisor always has one, of its own making.
    if (gvisor) assert.deepEqual(await ask(`fs.readdirSync("/sys/firmware")`), []);
    else assert.deepEqual(await ask(`fs.readdirSync("/sys")`), []);
  });

  test("13 the kernel's settings cannot be written", async () => {
    for (const path of ["sys/kernel/core_pattern", "sys/vm/drop_caches", "sysrq-trigger", "sys/net/ipv4/ip_forward"]) {
      const wrote = await ask(`code(() => fs.writeFileSync("/proc/${path}", "0"))`);
      assert.notEqual(wrote, null, path);
    }
  });

  test("15 there is no cgroup file system inside", async () => {
    const table = await ask<string>(`fs.readFileSync("/proc/self/mounts", "utf8")`);
    assert.ok(!table.includes("cgroup"));
  });

  test("16 /dev has what programs need and nothing else", async () => {
    const known = "core fd full null ptmx pts random shm stderr stdin stdout tty urandom zero mqueue".split(" ");
    // Of gVisor's kernel, and without a way to the machine's.
    if (gvisor) known.push("fuse", "net");
    const devices = await ask<string[]>(`fs.readdirSync("/dev")`);
    assert.deepEqual(
      devices.filter((device) => !known.includes(device)),
      [],
    );
    const { block, character } = await calls([
      ["block", 133, "/tmp/block", 0o60600, 0x800],
      ["character", 133, "/tmp/kmsg", 0o20600, 0x10b],
    ]);
    assert.deepEqual([block, character], [EPERM, EPERM]);
  });

  test("20 resource limits stand", async () => {
    if (gvisor) {
      const { core_file_size_blocks, open_files, max_locked_memory_bytes, file_size_blocks } = await ask<
        Record<string, { hard: number }>
      >("process.report.getReport().userLimits");
      const hard = [core_file_size_blocks, open_files, max_locked_memory_bytes, file_size_blocks].map(
        (one) => one!.hard,
      );
      return assert.deepEqual(hard, [0, 1024, 65536, 1073741824]);
    }
    const limits = await ask<string>(`fs.readFileSync("/proc/self/limits", "utf8")`);
    for (const [name, value] of [
      ["core file size", 0],
      ["open files", 1024],
      ["processes", 512],
      ["locked memory", 65536],
      ["file size", 1073741824],
      ["msgqueue size", 0],
    ] as const)
      assert.match(limits, new RegExp(`^Max ${name} +${value} +${value} `, "m"));
  });

  test("22 it holds its own file descriptors alone", async () => {
    const fds = await ask<Record<string, string>>(
      `Object.fromEntries(fs.readdirSync("/proc/self/fd").map((fd) => { try { return [fd, fs.readlinkSync("/proc/self/fd/" + fd)] } catch { return [fd, "gone"] } }))`,
    );
    assert.equal(fds["0"], "/dev/null");
    for (const [fd, target] of Object.entries(fds)) {
      if (Number(fd) >= 1 && Number(fd) <= 4) continue;
      assert.match(
        target,
        gvisor ? gvisorDescriptor : /^(\/dev\/null|anon_inode:|pipe:|socket:|gone)/,
        `fd ${fd} is ${target}`,
      );
    }
    if (gvisor) return;
    // A listener is a socket without a name inside; the outputs are FIFOs that no path inside leads to.
    assert.match(fds["3"]!, /^socket:/);
    for (const fd of ["1", "2", "4"])
      assert.equal(await ask(`code(() => fs.statSync(${JSON.stringify(fds[fd])}))`), "ENOENT");
  });

  test(
    "22 what it inherits stays the same whatever ebb itself holds open",
    { skip: gvisor && "it inherits none" },
    async () => {
      const sandbox = await spare();
      const sockets = await ask<number>(
        `fs.readdirSync("/proc/self/fd").filter((fd) => { try { return fs.readlinkSync("/proc/self/fd/" + fd).startsWith("socket:") } catch { return false } }).length`,
        sandbox.id,
      );
      // The listener, the control connection and this request's.
      assert.equal(sockets, 3);
      await driver.stopSandbox(sandbox.id, 0);
    },
  );

  test("23 its environment is the documented one", async () => {
    const known = new Set(["PATH", "HOME", "LANG", "TZ", "SECRET"]);
    assert.deepEqual(
      (await ask<string[]>("Object.keys(process.env)")).filter((name) => !known.has(name)),
      [],
    );
  });

  test("24 and 25 its own program cannot be written, and it stands inside its root", async () => {
    for (const path of ["/proc/self/exe", "/proc/1/exe"]) assert.notEqual(await refusedFile(path, "r+"), null, path);
    assert.match(await ask<string>("process.cwd()"), /^\/(var\/task)?$/);
    assert.match(await ask<string>(`fs.readlinkSync("/proc/self/exe")`), /^\/usr\/bin\/node$/);
  });

  test("39 a link that it makes leads nobody outside", async () => {
    const canary = join(ground.dataDir, "canary");
    writeFileSync(canary, "untouched", { mode: 0o666 });
    const links = ["/tmp/link", "/dev/shm/link"];
    for (const link of links) {
      await ask(`fs.symlinkSync(${JSON.stringify(canary)}, "${link}")`);
      assert.equal(await ask(`code(() => fs.writeFileSync("${link}", "changed"))`), "ENOENT");
    }
    for (const path of ["/proc/self/root", "/proc/1/root", "/proc/self/cwd/../../.."])
      assert.equal(await ask(`code(() => fs.readFileSync("${path}" + ${JSON.stringify(canary)}))`), "ENOENT");
    assert.equal(readFileSync(canary, "utf8"), "untouched");
  });

  test("42 a crash leaves no core", async () => {
    const sandbox = await spare();
    const limit = "process.report.getReport().userLimits.core_file_size_blocks.hard";
    assert.equal(await ask(limit, sandbox.id), 0);
    // A pattern that is a pipe ignores the limit unless it is zero, as it is here.
    await assert.rejects(get(driver, sandbox.id, `/${encodeURIComponent("process.abort()")}`));
    const exit = await sandbox.exited;
    // The kernel spares a first process of a namespace from SIGABRT; abort(3) goes on to a fault then.
    assert.match(exit.message, /SIGABRT|SIGSEGV|SIGTRAP/);
  });

  test("43 and 44 the killer takes it first, and it cannot raise its own priority", { skip: oneKernel }, async () => {
    assert.equal(Number(await ask(`fs.readFileSync("/proc/self/oom_score_adj", "utf8")`)), 500);
    // Not below where ebb stands: only with CAP_SYS_RESOURCE could ebb make its 500 the least.
    assert.equal(await ask(`code(() => fs.writeFileSync("/proc/self/oom_score_adj", "-500"))`), "EACCES");
    assert.equal(await ask(`code(() => require("node:os").setPriority(-20)) !== null`), true);
  });

  test(
    "44 it takes no real-time turn at the CPU or the disk",
    { skip: process.arch === "x64" ? oneKernel : "numbers of x86-64" },
    async () => {
      const highest = "\u0001\0\0\0";
      const answers = await calls([
        ["sched_setscheduler FIFO", 144, 0, 1, highest],
        ["sched_setscheduler RR", 144, 0, 2, highest],
        ["ioprio_set RT", 251, 1, 0, 1 << 13],
      ]);
      assert.deepEqual(Object.values(answers), [EPERM, EPERM, EPERM], JSON.stringify(answers));
    },
  );

  test("19 a fork bomb ends at its own limit, and the machine does not feel it", async () => {
    const sandbox = await spare();
    const started = await ask<number>(
      gvisor
        ? forkBomb
        : `new Promise((done) => { let count = 0, more = true; const next = () => { if (!more) return;
        const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1e6)"], { stdio: "ignore" });
        child.on("error", () => { more = false; done(count); }); child.on("spawn", () => { count++; if (count < 600) next(); else done(count); });
        child.on("exit", () => { more = false; done(count); }); }; next(); })`,
      sandbox.id,
    ).catch(() => -1);
    assert.ok(started < 512, `${started} processes`);
    await driver.stopSandbox(sandbox.id, 0);
    await sandbox.exited;
    assert.equal(await ask("1 + 1"), 2);
  });

  test("37 nothing that it started lives on", async () => {
    const sandbox = await spare();
    const before = processesOf(sandbox.id);
    assert.ok(before.length > 0);
    await ask(
      `(spawn(process.execPath, ["-e", "process.on('SIGTERM', () => {}); setInterval(() => {}, 1e6)"], { detached: true, stdio: "ignore" }).unref(), 1)`,
      sandbox.id,
    );
    await driver.stopSandbox(sandbox.id, 2_000);
    assert.deepEqual(processesOf(sandbox.id), []);
    assert.deepEqual(
      before.filter((pid) => existsSync(`/proc/${pid}`)),
      [],
    );
  });

  test("what gVisor's kernel and file server are on the machine is locked in", { skip: !gvisor }, async () => {
    // Whatever it asks for in there is nothing out here.
    await ask(`code(() => require("node:os").setPriority(-20))`);
    await ask(`code(() => fs.writeFileSync("/proc/self/oom_score_adj", "-500"))`);
    // Two of them share none.
    assert.ok(namespacesOfLocked(node).isDisjointFrom(namespacesOfLocked(python)));
  });
}
