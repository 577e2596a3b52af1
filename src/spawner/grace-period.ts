// Has the kernel's wait for a start begin ahead. Whoever moves a process to another cgroup first waits for a grace period of RCU, 6 to
// 25 ms (cgroup_threadgroup_rwsem, Documentation/admin-guide/cgroup-v2.rst: favordynmods); who comes soon behind another does not.

import { closeSync, openSync, readFileSync, write } from "node:fs";
import { join } from "node:path";

const mountPoint = "/sys/fs/cgroup";

export class GracePeriod {
  readonly #write: typeof GracePeriod.write;
  readonly #own = new OwnProcesses();
  #begun = false;

  constructor(write = GracePeriod.write) {
    this.#write = write;
  }

  /** In a thread; it may fail. */
  static write(this: void, file: number, over: () => void): void {
    write(file, String(process.pid), 0, over);
  }

  /** An engine will move its container in a moment: this process moves to where it is already. */
  begin(): void {
    if (this.#begun) return;
    const file = this.#own.file();
    if (file === null) return;
    this.#begun = true;
    this.#write(file, () => void (this.#begun = false));
  }
}

/** The list of processes of a cgroup that this one is in, open for writing. Whoever has moved it does not find it moved back. */
class OwnProcesses {
  #where = "";
  #file: number | null = null;

  file(): number | null {
    const where = cgroupsOfThis();
    if (where === this.#where) return this.#file;
    if (this.#file !== null) closeSync(this.#file);
    const path = ownProcesses(where);
    this.#file = path === null ? null : openToWrite(path);
    this.#where = where;
    return this.#file;
  }
}

function openToWrite(path: string): number | null {
  try {
    return openSync(path, "r+");
  } catch {
    return null;
  }
}

function cgroupsOfThis(): string {
  try {
    return readFileSync("/proc/self/cgroup", "latin1");
  } catch {
    return "";
  }
}

/** Its path, found by who is in it: a namespace of cgroups has other names for them. */
export function ownProcesses(where = cgroupsOfThis()): string | null {
  for (const line of where.split("\n")) {
    const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (controllers === undefined || path === undefined) continue;
    for (const folder of controllers === "" ? ["unified", ""] : [controllers.replace("name=", "")]) {
      const file = join(mountPoint, folder, path, "cgroup.procs");
      if (listsThisProcess(file)) return file;
    }
  }
  return null;
}

function listsThisProcess(file: string): boolean {
  try {
    return readFileSync(file, "latin1").split("\n").includes(String(process.pid));
  } catch {
    return false;
  }
}
