// Has the kernel's wait for a start begin ahead. Whoever moves a process to another cgroup first waits for a grace period of RCU, 6 to
// 25 ms (cgroup_threadgroup_rwsem, Documentation/admin-guide/cgroup-v2.rst: favordynmods); who comes soon behind another does not.

import { readFileSync, writeFile } from "node:fs";
import { join } from "node:path";

const mountPoint = "/sys/fs/cgroup";

export class GracePeriod {
  readonly #write: typeof GracePeriod.write;
  #begun = false;

  constructor(write = GracePeriod.write) {
    this.#write = write;
  }

  /** In a thread; it may fail. */
  static write(this: void, file: string, over: () => void): void {
    writeFile(file, String(process.pid), { flag: "r+" }, over);
  }

  /** An engine will move its container in a moment: this process moves to where it is already. */
  begin(): void {
    if (this.#begun) return;
    const file = ownProcesses();
    if (file === null) return;
    this.#begun = true;
    this.#write(file, () => void (this.#begun = false));
  }
}

/** The list of processes of a cgroup that this one is in. Asked each time: whoever has moved it does not find it moved back. */
export function ownProcesses(): string | null {
  try {
    for (const line of readFileSync("/proc/self/cgroup", "utf8").split("\n")) {
      const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
      if (controllers === undefined || path === undefined) continue;
      for (const folder of controllers === "" ? ["unified", ""] : [controllers.replace("name=", "")]) {
        const file = join(mountPoint, folder, path, "cgroup.procs");
        if (listsThisProcess(file)) return file;
      }
    }
  } catch {
    // No cgroups, or not these.
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
