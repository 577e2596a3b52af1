// Decides where a run goes from here: pure. Every answer is a new run, and each task in it says why it is where it is.

import type { ErrorCode } from "#model/errors.ts";
import type { InstanceId, InvocationId } from "#model/ids.ts";
import { jobLimits } from "#model/limits.ts";
import { hasEnded, type Run, type RunId, type RunOverrides, type RunReason, type Task } from "#model/run.ts";
import type { JobRevision } from "#model/workload.ts";

export interface Accepted {
  readonly id: RunId;
  readonly revision: JobRevision;
  readonly overrides: RunOverrides;
  readonly createdBy: string;
}

/** How an attempt ended. `asked`: why ebb ended it; null: it did so by itself. */
export interface Ending {
  readonly asked: "timeout" | "stopped" | "interrupted" | null;
  readonly exit: {
    readonly reason: "stopped" | "exited" | "memory" | "killed" | "lost";
    readonly code: number | null;
    readonly message: string;
  };
  readonly resultBytes: number | null;
}

/** What happened to a task. `chance` in [0, 1): keeps a crowd of retries from coming back at once. */
export type TaskEvent =
  | { readonly kind: "began"; readonly execution: InvocationId; readonly instance: InstanceId }
  /** There is no room for it. */
  | { readonly kind: "held"; readonly why: "capacity" | "over_quota" }
  | { readonly kind: "ended"; readonly ending: Ending; readonly chance: number }
  /** It could not be started. */
  | {
      readonly kind: "failed_to_start";
      readonly fault: "function" | "platform";
      readonly message: string;
      readonly code?: ErrorCode;
      readonly chance: number;
    };

export function accept({ id, revision, overrides, createdBy }: Accepted, nowMs: number): Run {
  const count = overrides.parallelism ?? revision.settings.parallelism;
  const tasks = Array.from({ length: count }, (_, index): Task => ({
    index,
    state: "queued",
    reason: null,
    message: null,
    attempts: 0,
    failures: 0,
    platformFailures: 0,
    execution: null,
    instance: null,
    startedMs: null,
    endedMs: null,
    notBeforeMs: null,
    exitCode: null,
    resultBytes: null,
  }));
  const begin = { state: "queued", reason: null, message: null, startedMs: null, endedMs: null } as const;
  return { id, revision, overrides, createdMs: nowMs, createdBy, ...begin, tasks };
}

/** What has ended stays as it is, whatever is told of it later. */
export function advance(run: Run, index: number, event: TaskEvent, nowMs: number): Run {
  const task = run.tasks[index];
  if (task === undefined || hasEnded(task.state)) return run;
  return summed(run, [next(run, task, event, nowMs)], nowMs);
}

/** Somebody wants it to end: what waits has ended, what runs is to be stopped, and is told so by its state. */
export function stop(run: Run, why: "stopped" | "removed", nowMs: number): Run {
  const message = why === "removed" ? "Its job was removed." : "It was stopped.";
  const tasks = run.tasks.map((task): Task => {
    if (hasEnded(task.state)) return task;
    if (isLive(task)) return { ...task, state: "stopping", reason: "stopped", message };
    return ended(task, "stopped", "stopped", message, nowMs);
  });
  return summed(run, tasks, nowMs);
}

/** Whoever ran it is gone, and nothing of it is left but of tasks that were `adopted`: what ran besides was interrupted. */
export function interrupt(run: Run, chance: number, nowMs: number, adopted: readonly number[] = []): Run {
  const ending: Ending = {
    asked: null,
    exit: { reason: "lost", code: null, message: "ebb ended while it ran." },
    resultBytes: null,
  };
  const tasks = run.tasks.map((task) =>
    isLive(task) && !adopted.includes(task.index) ? next(run, task, { kind: "ended", ending, chance }, nowMs) : task,
  );
  return summed(run, tasks, nowMs);
}

/** The first task that may begin now, or when the next one may; null: none waits. */
export function due(run: Run, nowMs: number): Task | { readonly atMs: number } | null {
  let atMs = Infinity;
  for (const task of run.tasks) {
    if (task.state !== "queued" && task.state !== "retrying") continue;
    if ((task.notBeforeMs ?? 0) <= nowMs) return task;
    atMs = Math.min(atMs, task.notBeforeMs ?? 0);
  }
  return atMs === Infinity ? null : { atMs };
}

/** A sandbox may be there for it. */
export function isLive(task: Task): boolean {
  return task.state === "running" || task.state === "stopping";
}

function next(run: Run, task: Task, event: TaskEvent, nowMs: number): Task {
  switch (event.kind) {
    case "began":
      return {
        ...task,
        state: "running",
        reason: null,
        message: null,
        attempts: task.attempts + 1,
        execution: event.execution,
        instance: event.instance,
        startedMs: task.startedMs ?? nowMs,
        notBeforeMs: null,
        exitCode: null,
        resultBytes: null,
      };
    case "held":
      return isLive(task) ? task : { ...task, reason: event.why, message: heldWords[event.why] };
    case "failed_to_start":
      return failedToStart(run, task, event, nowMs);
    default:
      return endedBy(run, { ...task, platformFailures: 0 }, event.ending, event.chance, nowMs);
  }
}

const heldWords = {
  capacity: "It waits for memory of the machine.",
  over_quota: "It waits for what the project's quotas allow.",
} as const;

function endedBy(run: Run, task: Task, { asked, exit, resultBytes }: Ending, chance: number, nowMs: number): Task {
  const told: Task = { ...task, exitCode: exit.code, resultBytes };
  // It was done before anything could end it.
  if (exit.reason === "exited" && exit.code === 0) return ended(told, "succeeded", null, null, nowMs);
  if (asked === "stopped" || task.state === "stopping")
    return ended(told, "stopped", "stopped", task.message ?? "It was stopped.", nowMs);
  if (exit.reason === "memory") return failed(run, told, "memory", exit.message, chance, nowMs);
  if (asked === "timeout")
    return failed(
      run,
      told,
      "timeout",
      `It took longer than ${run.revision.settings.timeoutSeconds} s.`,
      chance,
      nowMs,
    );
  if (asked === "interrupted" || exit.reason !== "exited")
    return interrupted(run, told, asked === "interrupted" ? "ebb stopped while it ran." : exit.message, nowMs);
  return failed(run, told, "error", wordsOf(exit), chance, nowMs);
}

/** As shells have it. */
function wordsOf({ code, message }: Ending["exit"]): string {
  if (code === 127) return "Its command was not found (it exited with code 127).";
  if (code === 126) return "Its command cannot be executed (it exited with code 126).";
  return message;
}

/** The platform's doing: it uses no retry. */
function interrupted(run: Run, task: Task, message: string, nowMs: number): Task {
  if (!run.revision.settings.rerunOnInterrupt) return ended(task, "interrupted", "interrupted", message, nowMs);
  return { ...task, state: "queued", reason: "interrupted", message, notBeforeMs: null };
}

function failed(run: Run, task: Task, reason: RunReason, message: string, chance: number, nowMs: number): Task {
  const failures = task.failures + 1;
  if (failures > run.revision.settings.retries) return ended({ ...task, failures }, "failed", reason, message, nowMs);
  return { ...task, failures, state: "retrying", reason, message, notBeforeMs: nowMs + backoffMs(failures, chance) };
}

function failedToStart(
  run: Run,
  task: Task,
  { fault, message, code, chance }: Extract<TaskEvent, { kind: "failed_to_start" }>,
  nowMs: number,
): Task {
  if (task.state === "stopping") return ended(task, "stopped", "stopped", task.message ?? message, nowMs);
  const why = code === "image_refused" ? "invalid_image" : code === "image_not_found" ? code : "not_started";
  // An image that has gone comes back by a deploy alone.
  if (fault === "function" || why === "image_not_found") return failed(run, task, why, message, chance, nowMs);
  const platformFailures = task.platformFailures + 1;
  if (platformFailures >= jobLimits.platformTries)
    return ended({ ...task, platformFailures }, "failed", "not_started", message, nowMs);
  const notBeforeMs = nowMs + backoffMs(platformFailures, chance);
  return { ...task, platformFailures, state: "queued", reason: "not_started", message, notBeforeMs };
}

/** `chance` takes away up to half. */
export function backoffMs(failures: number, chance: number): number {
  const fullMs = Math.min(jobLimits.retryMaxMs, jobLimits.retryFirstMs * 2 ** Math.min(30, Math.max(0, failures - 1)));
  return Math.round(fullMs * (0.5 + 0.5 * chance));
}

function ended(
  task: Task,
  state: "succeeded" | "failed" | "stopped" | "interrupted",
  reason: RunReason | null,
  message: string | null,
  nowMs: number,
): Task {
  return { ...task, state, reason, message, endedMs: nowMs, notBeforeMs: null };
}

/** The run is what its tasks are: of those that go on the liveliest, of those that have ended the worst. */
const alive = ["stopping", "running", "retrying", "queued"] as const;
const over = ["failed", "stopped", "interrupted", "succeeded"] as const;

function summed(run: Run, changed: readonly Task[], nowMs: number): Run {
  const byIndex = new Map(changed.map((task) => [task.index, task]));
  const tasks = run.tasks.map((task) => byIndex.get(task.index) ?? task);
  let startedMs = run.startedMs;
  for (const task of tasks) startedMs ??= task.startedMs;
  const state = [...alive, ...over].find((one) => tasks.some((task) => task.state === one)) ?? "succeeded";
  const telling = tasks.find((task) => task.state === state && task.reason !== null);
  const words = telling?.message ?? null;
  return {
    ...run,
    tasks,
    state,
    startedMs,
    reason: telling?.reason ?? null,
    message: words !== null && tasks.length > 1 ? `task ${telling!.index}: ${words}` : words,
    endedMs: hasEnded(state) ? (run.endedMs ?? nowMs) : null,
  };
}
