// User namespaces without anybody in them: what idmapped mounts take their mapping from. One for each range of ids, kept open.

import { spawn } from "node:child_process";
import { openSync, readlinkSync, writeFileSync } from "node:fs";

const program = "/usr/bin/unshare";
/** A program that does nothing until it is killed. */
const idle = ["/bin/sleep", "60"];
const enteredWithinMs = 2_000;
const lookAgainMs = 0.2;

export interface IdRange {
  /** The host's id of what is 0 inside. */
  readonly first: number;
  readonly count: number;
}

export class UserNamespaces {
  /** Descriptors by the range's first id: ranges are used again and again. */
  readonly #open = new Map<number, number>();

  /** A descriptor, which stays ours. */
  of(range: IdRange): number {
    const known = this.#open.get(range.first);
    if (known !== undefined) return known;
    const fd = make(range);
    this.#open.set(range.first, fd);
    return fd;
  }
}

/** Only a process that has one thread can make one, and this has several: a small program does, and leaves. */
function make({ first, count }: IdRange): number {
  const child = spawn(program, ["--user", ...idle], { stdio: "ignore", env: {} });
  child.on("error", () => {});
  const { pid } = child;
  if (pid === undefined) throw new Error(`${program} cannot be started`);
  try {
    const own = readlinkSync("/proc/self/ns/user");
    const deadline = performance.now() + enteredWithinMs;
    while (namespaceOf(pid) === own) {
      if (performance.now() > deadline) throw new Error("no user namespace can be made on this machine");
      Atomics.wait(sleeping, 0, 0, lookAgainMs);
    }
    for (const file of ["uid_map", "gid_map"]) writeFileSync(`/proc/${pid}/${file}`, `0 ${first} ${count}`);
    return openSync(`/proc/${pid}/ns/user`, "r");
  } finally {
    child.kill("SIGKILL");
  }
}

function namespaceOf(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/ns/user`);
  } catch {
    throw new Error("no user namespace can be made on this machine");
  }
}

const sleeping = new Int32Array(new SharedArrayBuffer(4));
