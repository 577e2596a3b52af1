// Cgroups of the supervisor: its own, so that whoever ends all of a service's processes with its main one leaves this one alone.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";

/** Where service managers look: the unified tree, and their own of version 1. */
export function findKeptCgroups(runDir: string, mountinfo = readFileSync("/proc/self/mountinfo", "utf8")): string[] {
  const name = `ebb-${basename(runDir)}-kept`;
  const found = new Set<string>();
  for (const line of mountinfo.split("\n")) {
    const [before, after] = line.split(" - ");
    const point = before?.split(" ")[4];
    const [type, , options] = after?.split(" ") ?? [];
    if (point === undefined) continue;
    if (type === "cgroup2" || (type === "cgroup" && options?.split(",").includes("name=systemd")))
      found.add(join(point, name));
  }
  return [...found];
}

/** Back to the top, so that they can be removed by whoever is in them. */
export function leaveCgroups(paths: readonly string[]): void {
  for (const path of paths) {
    const top = join(path, "..", "cgroup.procs");
    if (existsSync(path) && existsSync(top)) writeFileSync(top, String(process.pid), { flag: "r+" });
  }
}
