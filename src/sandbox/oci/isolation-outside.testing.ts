// What the isolation checklist looks at from the machine: the processes of a sandbox, and how they are locked in.

import assert from "node:assert/strict";
import { readFileSync, readdirSync, readlinkSync } from "node:fs";
import { firstHostId, idRangeSize } from "./config.ts";

/** File descriptors as gVisor's kernel names them. */
export const gvisorDescriptor =
  /^(\/dev\/null|anon_inode:|pipe:|socket:|eventfd:|host:\[|\/ebb\/frames$|\/dev\/u?random|\/proc\/|gone)/;

/** Each process of it is one of the machine's: light ones, since a Node each would take minutes. */
export const forkBomb = `new Promise((done) => {
  const script = "n=0; while [ $n -lt 600 ]; do (while :; do sleep 1000; done) & n=$((n+1)); echo $n; done; wait";
  let last = 0;
  const bomb = spawn("/bin/sh", ["-c", script], { stdio: ["ignore", "pipe", "ignore"] });
  bomb.stdout.on("data", (text) => (last = Number(String(text).trim().split("\\n").at(-1)))).on("end", () => done(last));
  bomb.on("error", () => done(last));
})`;

/** Processes of the machine that are in this sandbox's cgroup. */
export function processesOf(sandbox: string): string[] {
  return readdirSync("/proc").filter((pid) => {
    if (!/^[0-9]+$/.test(pid)) return false;
    try {
      return readFileSync(`/proc/${pid}/cgroup`, "latin1").includes(`/${sandbox}`);
    } catch {
      return false;
    }
  });
}

function status(pid: string, name: string): string {
  return new RegExp(`^${name}:\\t(.*)$`, "m").exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1] ?? "";
}

const userOf = (pid: string): number => Number(status(pid, "Uid").split("\t")[0]);

/** Of all that class gvisor runs of a sandbox but runsc itself, which is checked to be locked in, and to share none with the machine. */
export function namespacesOfLocked(sandbox: string): ReadonlySet<string> {
  const all = processesOf(sandbox);
  const locked = all.filter((pid) => userOf(pid) !== 0);
  // Root's: what holds the namespaces, and runsc, which runs none of its code.
  assert.equal(all.length - locked.length, 2);
  const namespaces = new Set<string>();
  for (const pid of locked) {
    const [inside, outside, size] = readFileSync(`/proc/${pid}/uid_map`, "latin1").trim().split(/\s+/).map(Number);
    const isServer = userOf(pid) >= firstHostId && outside! >= firstHostId && size === idRangeSize;
    const isKernel = userOf(pid) === 65_534 && inside === 65_534 && outside === 65_534 && size === 1;
    assert.ok(isServer || isKernel, `process ${pid} is of ${userOf(pid)}`);
    for (const kind of ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"]) {
      const namespace = readlinkSync(`/proc/${pid}/ns/${kind}`);
      assert.notEqual(namespace, readlinkSync(`/proc/self/ns/${kind}`), `${kind} of ${pid}`);
      namespaces.add(namespace);
    }
    assert.equal(status(pid, "Seccomp"), "2");
    assert.equal(status(pid, "NoNewPrivs"), "1");
    assert.equal(readFileSync(`/proc/${pid}/oom_score_adj`, "latin1").trim(), "500");
    assert.ok(Number(readFileSync(`/proc/${pid}/stat`, "latin1").split(") ")[1]!.split(" ")[16]) >= 0);
  }
  return namespaces;
}
