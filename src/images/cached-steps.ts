// Which command of a build is the same as one before, and which of what is kept of them goes first. Pure.

import { createHash } from "node:crypto";
import { stepCacheLimits } from "#model/limits.ts";

/** All that a command can see, or that says what is kept of it. */
export interface StepSubject {
  readonly project: string;
  /** Of the image so far: what is in its layers. */
  readonly diffIds: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly workingDirectory: string;
  readonly user: string;
  /** With its shell, and the texts that it reads. */
  readonly command: readonly string[];
  /** Variables of the file that have a value. */
  readonly values: ReadonlyMap<string, string>;
  readonly network: boolean;
  readonly leftOut: readonly string[];
}

/** What is kept lies in a file beside it: the tar of a command's layer, or the times of a layer of copied files. */
export interface CachedStep {
  readonly version: 2;
  readonly key: string;
  readonly project: string;
  /** Of the layer. */
  readonly digest: string;
  /** Of the file, as its sum in hex is. */
  readonly bytes: number;
  readonly sha256: string;
  readonly usedMs: number;
  /** Under which boot it was written; until the disk has it all, a power cut makes it worth nothing. */
  readonly boot: string;
  readonly synced: boolean;
}

export function keyOfRun(subject: StepSubject): string {
  const { project, diffIds, env, workingDirectory, user, command, values, network, leftOut } = subject;
  const sorted = [Object.entries(env), [...values]].map((pairs) =>
    pairs.toSorted(([one], [other]) => (one < other ? -1 : 1)),
  );
  return hashOf(["run", project, diffIds, sorted, workingDirectory, user, command, network, leftOut]);
}

/** `content`: digest of a layer without its times. */
export function keyOfTimes(project: string, content: string): string {
  return hashOf(["times", project, content]);
}

function hashOf(subject: readonly unknown[]): string {
  return createHash("sha256").update(JSON.stringify(subject)).digest("hex");
}

/** Those that go: what nobody has used for long, and what is more than has room, the least recently used of whoever has most. */
export function outdated(steps: Iterable<CachedStep>, nowMs: number): readonly CachedStep[] {
  const { unusedMs, perProject, bytesPerProject, bytesInAll } = stepCacheLimits;
  const gone: CachedStep[] = [];
  const projects = new Map<string, Held>();
  for (const step of byUse(steps)) {
    const age = nowMs - step.usedMs;
    // A clock that was far ahead would keep it for ever.
    if (age > unusedMs || age < -unusedMs) {
      gone.push(step);
      continue;
    }
    const held = projects.get(step.project) ?? { steps: [], bytes: 0 };
    projects.set(step.project, held);
    held.steps.push(step);
    held.bytes += step.bytes;
  }
  for (const held of projects.values()) {
    while (held.steps.length > perProject || held.bytes > bytesPerProject) gone.push(withoutFirst(held));
  }
  const all = [...projects.values()];
  let bytes = all.reduce((sum, held) => sum + held.bytes, 0);
  while (bytes > bytesInAll) {
    const most = all.reduce((one, other) => (other.bytes > one.bytes ? other : one));
    const step = withoutFirst(most);
    bytes -= step.bytes;
    gone.push(step);
  }
  return gone;
}

/** The next to go where the disk is full; null: there is none. */
export function leastUsed(steps: Iterable<CachedStep>): CachedStep | null {
  return byUse(steps)[0] ?? null;
}

interface Held {
  /** Least recently used first. */
  readonly steps: CachedStep[];
  bytes: number;
}

function byUse(steps: Iterable<CachedStep>): CachedStep[] {
  return [...steps].toSorted((one, other) => one.usedMs - other.usedMs);
}

function withoutFirst(held: Held): CachedStep {
  const step = held.steps.shift()!;
  held.bytes -= step.bytes;
  return step;
}
