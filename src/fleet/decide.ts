// The fleet's decisions: who gets memory, who goes for it, which instances are too many, how long a crash backs off. Pure.

import { imageLimits, machineLimits, pauseLimits } from "#model/limits.ts";
import type { ProjectQuotas } from "#model/workload.ts";

const MiB = 1024 * 1024;

/** What all sandboxes together may use of a machine with so much memory. */
export function sandboxMemoryBytes(machineBytes: number): number {
  const reserved = Math.max(machineLimits.reservedMemoryBytes, machineBytes * machineLimits.reservedMemoryShare);
  return Math.max(0, Math.floor(machineBytes - reserved));
}

/** What one RUN of a build gets: on a small machine others are to run beside it. */
export function runMemoryMb(machineBytes: number): number {
  return Math.min(imageLimits.runMemoryMb, Math.floor(sandboxMemoryBytes(machineBytes) / 2 / MiB));
}

/** How many start at the same time on a machine of so many cores. */
export function startsAtOnce(cores: number): number {
  return Math.max(machineLimits.fewestStarts, Math.floor(cores * machineLimits.startsPerCore));
}

/** Memory and instances that are taken, and the part of it that is being given back by sandboxes on their way out. */
export interface Taken {
  readonly bytes: number;
  readonly endingBytes: number;
  readonly instances: number;
  readonly endingInstances: number;
}

/** An instance that runs nothing, of a workload that has more than its `min`. */
export interface IdleInstance {
  readonly id: string;
  readonly project: string;
  /** "project/workload". */
  readonly workload: string;
  readonly memoryBytes: number;
  /** Larger is later, of whichever clock; the least recently used goes first. */
  readonly lastUsed: number;
}

export type Admission =
  | { readonly kind: "start" }
  /** Room comes by itself once these, and what is ending already, are gone. */
  | { readonly kind: "wait"; readonly evict: readonly string[] }
  | { readonly kind: "refuse"; readonly why: "capacity" | "over_quota" };

/**
 * May a sandbox of so many bytes start? A project's quota is held first and makes room only among the project's own;
 * then the machine's memory, for which the least recently used idle instance of any workload goes. An instance that
 * its workload's `min` holds is never taken: it is provisioned (and metered so), and would be wanted again at once.
 */
export function admit(
  needBytes: number,
  machine: { readonly taken: Taken; readonly limitBytes: number },
  project: {
    readonly name: string;
    /** "project/workload" of what starts: it does not take its own place. */
    readonly workload: string;
    readonly taken: Taken;
    readonly quotas: ProjectQuotas;
  } | null,
  idle: () => readonly IdleInstance[],
): Admission {
  const evict = new Set<string>();
  let evictedBytes = 0;
  let wait = false;

  if (project) {
    const quotaBytes = project.quotas.memoryMb === null ? Infinity : project.quotas.memoryMb * MiB;
    const quotaInstances = project.quotas.instances ?? Infinity;
    const overBytes = project.taken.bytes + needBytes - quotaBytes;
    const overInstances = project.taken.instances + 1 - quotaInstances;
    if (overBytes > 0 || overInstances > 0) {
      let freeBytes = project.taken.endingBytes;
      let freeInstances = project.taken.endingInstances;
      for (const instance of idle()) {
        if (freeBytes >= overBytes && freeInstances >= overInstances) break;
        if (instance.project !== project.name || instance.workload === project.workload) continue;
        evict.add(instance.id);
        evictedBytes += instance.memoryBytes;
        freeBytes += instance.memoryBytes;
        freeInstances += 1;
      }
      if (freeBytes < overBytes || freeInstances < overInstances) return { kind: "refuse", why: "over_quota" };
      wait = true;
    }
  }

  const overBytes = machine.taken.bytes + needBytes - machine.limitBytes;
  if (overBytes > 0) {
    let freeBytes = machine.taken.endingBytes + evictedBytes;
    for (const instance of idle()) {
      if (freeBytes >= overBytes) break;
      if (evict.has(instance.id) || instance.workload === project?.workload) continue;
      evict.add(instance.id);
      freeBytes += instance.memoryBytes;
    }
    if (freeBytes < overBytes) return { kind: "refuse", why: "capacity" };
    wait = true;
  }
  return wait ? { kind: "wait", evict: [...evict] } : { kind: "start" };
}

/** Starts that failed in a row, and when the next may be tried. */
export interface CrashLoop {
  readonly failures: number;
  /** Monotonic us of the last failure. */
  readonly failedUs: number;
  readonly untilUs: number;
}

/** From so many failures in a row on it is called a crash loop. */
export const crashLoopFailures = 3;
/** An instance that lasted so long after it was ready was not a failed start. */
export const steadyMs = 10_000;

const backoff = {
  function: { firstMs: 1_000, maxMs: 300_000 },
  platform: { firstMs: 200, maxMs: 10_000 },
} as const;

/** How long the next start waits after so many failures in a row; `chance` in [0, 1) keeps a crowd from coming back at once. */
export function backoffMs(failures: number, fault: "function" | "platform", chance: number): number {
  const { firstMs, maxMs } = backoff[fault];
  const fullMs = Math.min(maxMs, firstMs * 2 ** Math.min(30, Math.max(0, failures - 1)));
  return Math.round(fullMs * (0.5 + 0.5 * chance));
}

/** Did an instance that ended by itself fail to start, in truth? One that died of a request did not. */
export function endedLikeACrash(exit: {
  readonly reason: string;
  readonly readyForMs: number;
  readonly active: number;
}): boolean {
  return (exit.reason === "exited" || exit.reason === "memory") && exit.active === 0 && exit.readyForMs < steadyMs;
}

export interface Pauses<T> {
  readonly pause: readonly T[];
  /** Of all of them. */
  readonly reason: string;
  /** Monotonic us when others may be due; null: none is left. */
  readonly decideAgainAtUs: number | null;
}

/** Which instances are paused now. `idle`: those in which nothing runs, the longest idle first. */
export function decidePauses<T extends { readonly idleSinceUs: number }>(
  idle: Iterable<T>,
  afterMs: number,
  nowUs: number,
): Pauses<T> {
  const pause: T[] = [];
  const reason = `idle for ${afterMs / 1_000} s`;
  for (const instance of idle) {
    const dueUs = instance.idleSinceUs + afterMs * 1_000;
    if (dueUs > nowUs) return { pause, reason, decideAgainAtUs: dueUs };
    if (pause.length === pauseLimits.atOnce)
      return { pause, reason, decideAgainAtUs: nowUs + pauseLimits.paceMs * 1_000 };
    pause.push(instance);
  }
  return { pause, reason, decideAgainAtUs: null };
}

export interface LiveInstance {
  readonly id: string;
  readonly stage: "preparing" | "assigning" | "ready";
  readonly paused: boolean;
  readonly active: number;
  readonly startUs: number;
}

/**
 * Which go when there are `count` too many: those that have done least, then idle ones, paused before ready, then the least busy;
 * the youngest first.
 */
export function surplus(live: readonly LiveInstance[], count: number): readonly string[] {
  if (count <= 0) return [];
  const rank = (instance: LiveInstance): number => {
    if (instance.stage === "preparing") return -3;
    if (instance.stage === "assigning") return -2;
    return instance.paused ? -1 : instance.active;
  };
  return live
    .toSorted((a, b) => rank(a) - rank(b) || b.startUs - a.startUs || (a.id < b.id ? -1 : 1))
    .slice(0, count)
    .map((instance) => instance.id);
}
