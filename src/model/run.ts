// One execution of a job: its tasks, their attempts, and where each of them is.

import type { InstanceId, InvocationId } from "./ids.ts";
import type { JobRevision } from "./workload.ts";

/** Of the same form as an invocation's: sorts by creation. */
export type RunId = string;

/** retrying: an attempt has failed, and another one will follow. stopping: it has been asked to end. */
export type RunState = "queued" | "running" | "retrying" | "stopping" | EndState;
export type EndState = "succeeded" | "failed" | "stopped" | "interrupted";

/**
 * Why it is where it is. error: it ended by itself, and not with 0. interrupted: the platform ended it. not_started: it could not be
 * started. image_not_found, invalid_image: nor can it, for its image is not on the machine any more, or cannot be run. capacity,
 * over_quota: there is no room for it yet.
 */
export type RunReason =
  | "error"
  | "timeout"
  | "memory"
  | "stopped"
  | "interrupted"
  | "not_started"
  | "image_not_found"
  | "invalid_image"
  | "capacity"
  | "over_quota";

/** What a run says in the place of what its job says. */
export interface RunOverrides {
  /** Beside the job's own, and over them. */
  readonly env: Readonly<Record<string, string>>;
  /** null: the job's own. */
  readonly args: readonly string[] | null;
  readonly memoryMb: number | null;
  readonly parallelism: number | null;
}

/** One of a run's tasks, which differ in their index alone. */
export interface Task {
  readonly index: number;
  readonly state: RunState;
  readonly reason: RunReason | null;
  /** One sentence about the last attempt. */
  readonly message: string | null;
  /** Attempts that were begun. */
  readonly attempts: number;
  /** Of them those that used a retry: they failed. */
  readonly failures: number;
  /** Starts that the platform failed, in a row. */
  readonly platformFailures: number;
  /** Of the last attempt: its record's and its log lines' invocation. */
  readonly execution: InvocationId | null;
  readonly instance: InstanceId | null;
  /** Of the first attempt, and of the end. Epoch ms. */
  readonly startedMs: number | null;
  readonly endedMs: number | null;
  /** Not to be started before. Epoch ms; null: at once. */
  readonly notBeforeMs: number | null;
  readonly exitCode: number | null;
  /** What it left at /ebb/result; null: nothing. */
  readonly resultBytes: number | null;
}

export interface Run {
  readonly id: RunId;
  /** As it was when the run was asked for: a deploy or a rollback changes nothing about it. */
  readonly revision: JobRevision;
  readonly overrides: RunOverrides;
  readonly state: RunState;
  readonly reason: RunReason | null;
  readonly message: string | null;
  readonly createdMs: number;
  readonly createdBy: string;
  readonly startedMs: number | null;
  readonly endedMs: number | null;
  readonly tasks: readonly Task[];
}

export function hasEnded(state: RunState): state is EndState {
  return state === "succeeded" || state === "failed" || state === "stopped" || state === "interrupted";
}
