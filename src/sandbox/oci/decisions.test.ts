// What the oci driver says without doing it: limits for both cgroup versions, the profile, the configuration, the proof, the end.

import assert from "node:assert/strict";
import { test } from "node:test";
import { exitOf } from "../end.ts";
import { readAnswer } from "../runtime-link.ts";
import { assignmentOf } from "../suite.ts";
import { findCgroups, oneCpu } from "./cgroups.ts";
import { firstHostId, idRanges, idRangeSize, ociConfig } from "./config.ts";
import { engineError, isEngineName } from "./engine.ts";
import { programOrder } from "./program.ts";
import { refuse, refuseGvisor } from "./proof.ts";
import { seccompProfile } from "./seccomp.ts";

const v2Table = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
const v1Table = ["memory", "cpu,cpuacct", "pids", "freezer"]
  .map((name) => `30 23 0:26 / /sys/fs/cgroup/${name} rw - cgroup cgroup rw,${name}\n`)
  .join("");

test("cgroup v2: every limit is written, and what its kernel counted decides about memory", () => {
  const cgroups = findCgroups("ebb-x", v2Table);
  assert.equal(cgroups.version, 2);
  const limits = cgroups.limits("s1", { memoryBytes: 1 << 28, pids: 512, cpu: oneCpu });
  const of = (file: string): string | undefined =>
    limits.find(({ path }) => path === `/sys/fs/cgroup/ebb-x/s1/${file}`)?.value;
  assert.deepEqual(["memory.max", "pids.max", "cpu.max", "memory.oom.group"].map(of), [
    String(1 << 28),
    "512",
    "100000 100000",
    "1",
  ]);
  assert.equal(cgroups.cpuLimits("s1", { cpu: 0.25, cpuStrict: true }).at(-1)?.value, "25000 100000");
  assert.equal(cgroups.cpuLimits("s1", { cpu: 0.25, cpuStrict: false }).at(-1)?.value, "100000 100000");
  assert.equal(cgroups.cpuLimits("s1", { cpu: 2, cpuStrict: false }).at(-1)?.value, "200000 100000");
  assert.equal(cgroups.cpuNs("usage_usec 1500\nuser_usec 1000\n"), 1_500_000);
  assert.equal(cgroups.heldBytes("anon 100\nfile 50\nkernel 7\ninactive_file 30\nslab 5\n"), 127);
  assert.equal(cgroups.heldBytes("anon 100\nfile 50\ninactive_file 30\nslab 5\n"), 125);
  assert.equal(cgroups.heldBytes("nonsense"), null);
  const files = {
    "/sys/fs/cgroup/ebb-x/s1/memory.events": "oom 1\noom_kill 2\n",
    "/sys/fs/cgroup/ebb-x/s1/memory.peak": "99\n",
  };
  assert.deepEqual(cgroups.memoryReport("s1", files, 100), { peakBytes: 99, killed: true });
  assert.deepEqual(cgroups.memoryReport("s1", {}, 100), { peakBytes: null, killed: false });
  assert.equal(cgroups.pidsFile("s1"), "/sys/fs/cgroup/ebb-x/s1/pids.events");
  assert.deepEqual(["max 1\n", "max 0\n", undefined].map(cgroups.pidsRefused), [true, false, false]);
});

test("cgroup v1: controllers that are mounted together are one folder", () => {
  const cgroups = findCgroups("ebb-x", v1Table);
  assert.equal(cgroups.version, 1);
  assert.deepEqual(
    cgroups.folders("s1"),
    ["memory", "cpu,cpuacct", "pids"].map((name) => `/sys/fs/cgroup/${name}/ebb-x/s1`),
  );
  assert.equal(cgroups.leftovers("s1").length, 4);
  const own = "cache 1\nrss 2\ninactive_file 3\n";
  assert.equal(cgroups.heldBytes(`${own}total_cache 50\ntotal_rss 100\ntotal_inactive_file 30\n`), 120);
  assert.equal(cgroups.cpuLimits("s1", { cpu: 0.001, cpuStrict: true })[0]?.value, "2");
});

test("cgroup v1 on a hybrid machine: what an engine makes in the v2 mount is removed as well", () => {
  const hybrid = findCgroups("ebb-x", `${v1Table}${v2Table.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified")}`);
  assert.equal(hybrid.version, 1);
  assert.ok(hybrid.leftovers("s1").includes("/sys/fs/cgroup/unified/ebb-x/s1"));
  assert.ok(hybrid.parent(1).paths.includes("/sys/fs/cgroup/unified/ebb-x"));
});

test("a machine without cgroups is refused", () => {
  assert.throws(() => findCgroups("ebb-x", ""), /cannot isolate here/);
});

test("id ranges stay below the ids that programs read as negative", () => {
  assert.ok(firstHostId + idRanges * idRangeSize <= 2 ** 31);
});

test("the profile allows no call that it also refuses, and filters every call that takes namespaces or families", () => {
  for (const architecture of ["x64", "arm64"] as const) {
    const { syscalls } = seccompProfile(architecture);
    const allowed = new Set(
      syscalls.filter((rule) => rule.action === "SCMP_ACT_ALLOW" && !rule.args).flatMap((rule) => rule.names),
    );
    const others = syscalls
      .filter((rule) => rule.action !== "SCMP_ACT_ALLOW" || rule.args)
      .flatMap((rule) => rule.names);
    assert.deepEqual(
      others.filter((name) => allowed.has(name)),
      [],
    );
    for (const name of ["clone", "ioctl", "socket", "socketpair", "personality"]) assert.ok(!allowed.has(name), name);
  }
});

test("the configuration holds no secret and no capability, and every namespace", () => {
  const config = JSON.stringify(
    ociConfig({
      root: { kind: "runtime", path: "/r", codeTarget: "/c", tmpBytes: 1024 },
      args: ["/bin/sh"],
      env: { A: "1" },
      hostId: firstHostId,
      networkNamespace: null,
      cgroupsPath: "/ebb/s/c",
      binds: [],
      seccomp: seccompProfile("x64"),
    }),
  );
  for (const kind of ["user", "mount", "pid", "ipc", "uts", "cgroup", "network"])
    assert.ok(config.includes(`{"type":"${kind}"}`), kind);
  assert.ok(!config.includes("CAP_"));
});

test("the proof of isolation refuses each thing that is missing", () => {
  const good = {
    seccomp: "2",
    privileges: "1",
    uid: 1000,
    pid: 1,
    capabilities: ["0000"],
    map: [0, firstHostId, idRangeSize],
    kernel: "6.1.0",
    root: "EROFS",
    sys: "EROFS",
    tmp: null,
    devices: ["null"],
    interfaces: ["lo"],
  };
  assert.equal(refuse(good), null);
  const bad = [
    { seccomp: "0" },
    { privileges: "0" },
    { uid: 0 },
    { pid: 7 },
    { capabilities: ["00", "01"] },
    { map: [0, 0, 4294967295] },
    { root: null },
    { sys: null },
    { tmp: "EACCES" },
    { devices: ["kvm"] },
    { interfaces: ["eth0"] },
  ];
  for (const over of bad) assert.notEqual(refuse({ ...good, ...over }), null, JSON.stringify(over));

  // Class gvisor: another kernel, which tells neither its namespaces nor two of the flags, and has devices of its own.
  const inGvisor = { ...good, kernel: "4.4.0", map: [0, 0, 4294967295], devices: ["null", "fuse", "net"] };
  assert.equal(refuseGvisor(inGvisor, "6.1.0"), null);
  const badInGvisor = bad.filter((over) => !("privileges" in over) && !("map" in over));
  for (const over of [{ kernel: "6.1.0" }, ...badInGvisor])
    assert.notEqual(refuseGvisor({ ...inGvisor, ...over }, "6.1.0"), null, JSON.stringify(over));
});

test("an end is told by whoever brought it about", () => {
  const memory = { peakBytes: 256 << 20, killed: true };
  const end = (over: Partial<Parameters<typeof exitOf>[0]>) =>
    exitOf({ how: { code: 137, signal: null }, sent: null, memoryMb: 256, memory: null, ...over });
  assert.equal(end({ memory }).message, "out of memory: 256 MiB, peak 256; raise memoryMb.");
  assert.equal(end({ memory, sent: "SIGKILL" }).reason, "killed");
  assert.equal(end({ memory: { ...memory, killed: false } }).message, "It was ended by SIGKILL.");
  assert.equal(end({ how: { code: 0, signal: null }, sent: "SIGTERM" }).reason, "stopped");
  assert.equal(end({ how: { code: null, signal: null, lost: true } }).reason, "lost");
  assert.equal(end({ how: { code: 3, signal: null }, memory }).message, "It exited with code 3.");
  // What gVisor's kernel cannot get a thread for ends it, as a program of Go's ends then.
  const crowded = { how: { code: 2, signal: null }, crowdOf: 512 };
  assert.match(end(crowded).message, /more than the 512 processes and threads that a sandbox may have/);
  assert.equal(end({ ...crowded, crowdOf: null }).message, "It exited with code 2.");
  assert.equal(end({ ...crowded, how: { code: 3, signal: null } }).message, "It exited with code 3.");
  assert.equal(end({ ...crowded, sent: "SIGTERM" }).reason, "stopped");
});

test("a runtime's answer is taken field by field", () => {
  const ready = {
    entry: "a.js",
    handler: null,
    signature: "web",
    done: "told",
    shares: true,
    phases: { bootMs: 1, evil: "x", __proto__: 1, late: 1e9 },
  };
  assert.deepEqual(readAnswer({ ready }), { ok: true, ...ready, phases: { bootMs: 1 } });
  const refused = [
    null,
    [],
    "x",
    {},
    { ready: {} },
    { ready: { ...ready, signature: "toString" } },
    { ready: { ...ready, shares: "yes" } },
    { ready: { ...ready, entry: "x".repeat(2000) } },
    { ready: { ...ready, entry: "\u001b[2Jx" } },
    { ready: { ...ready, handler: "a\nb" } },
    { ready: { ...ready, handler: "a\u202eb" } },
  ];
  for (const said of refused) assert.equal(readAnswer(said).ok, false);
  const failed = readAnswer({ failed: { message: "no such package", file: "index.js", line: 3, stack: 7, hint: "" } });
  assert.deepEqual(failed, {
    ok: false,
    failure: { fault: "function", message: "no such package (index.js:3)", stack: null, hint: null },
  });
});

test("a program's order quotes everything and refuses what is no name", () => {
  const over = { command: ["./a b", "$(x)"], env: { V: "it's\n$HOME" } };
  const order = programOrder(assignmentOf(null, over), "/var/task");
  assert.ok(order.includes(`export V='it'\\''s\n$HOME'\n`));
  assert.ok(order.endsWith(`exec './a b' '$(x)' </dev/null\n`));
  assert.throws(() => programOrder(assignmentOf(null, { ...over, env: { "A;B": "x" } }), "/"), RangeError);
  assert.throws(() => programOrder(assignmentOf(null, { ...over, env: { A: "x\0y" } }), "/"), RangeError);
});

test("an engine's log gives its last error", () => {
  assert.equal(engineError('{"msg":"a","level":"warning"}\n{"msg":"b","level":"error"}\n'), "b");
  assert.equal(engineError(""), null);
  assert.equal(engineError("not json"), "not json");
});

test("an engine's processes are known by their names, and programs that are called much alike are none", () => {
  assert.deepEqual(["crun", "runc", "runc:[0:PARENT]", "runc:[2:INIT]"].filter(isEngineName).length, 4);
  assert.deepEqual(["crunch", "runc-exporter", "my-crun", "sh", "node"].filter(isEngineName), []);
});
