// What ebb's own processes cost: PSS and CPU time, read from /proc.

import { readdirSync, readFileSync } from "node:fs";

/** The process and its children that are Node (the daemon and its spawner), not what runs in sandboxes. */
export function ownProcesses(daemon: number): number[] {
  return [daemon, ...childrenOf(daemon).filter((pid) => command(pid).includes("spawner"))];
}

export function childrenOf(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, "utf8").trim().split(" ").filter(Boolean).map(Number),
  );
}

function command(pid: number): string {
  return readFileSync(`/proc/${pid}/cmdline`, "utf8");
}

/** Proportional set size of these processes together, MiB. */
export function pssMiB(pids: readonly number[]): number {
  const kib = pids.map((pid) =>
    Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))?.[1] ?? 0),
  );
  return kib.reduce((sum, each) => sum + each, 0) / 1024;
}

/** User and system time of these processes together, ms (a tick is 10 ms). */
export function cpuMs(pids: readonly number[]): number {
  return pids
    .map((pid) => {
      const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
      return (Number(fields[11]) + Number(fields[12])) * 10;
    })
    .reduce((sum, each) => sum + each, 0);
}
