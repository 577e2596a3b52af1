// Decisions of the activator: what a call gets that cannot be served, what an invocation came to, whether to try again. Pure.

import { EbbError, type ErrorCode } from "#model/errors.ts";
import type { Failure } from "#model/instance.ts";
import type { Outcome } from "#model/invocation.ts";
import type { ServingRevision } from "#model/workload.ts";
import type { Exit } from "#sandbox/door.ts";
import type { Breakage } from "./instance-connection.ts";

/** What stands in the way of an instance, as fleet told it last. */
export type Obstacle = "capacity" | "over_quota" | null;

/** The queue's deadline has passed. */
export function queueDeadlineError(
  workload: string,
  waitedMs: number,
  lane: { readonly obstacle: Obstacle; readonly lastFailure: Failure | null; readonly ready: number },
  starting: number,
): EbbError {
  const { obstacle, lastFailure: last, ready } = lane;
  const waited = `${workload}: waited ${(waitedMs / 1_000).toFixed(0)} s`;
  const options = { retryAfterSeconds: 5 };
  if (obstacle === "capacity")
    return new EbbError("capacity", `${waited} for memory for another instance; none became free.`, options);
  if (obstacle === "over_quota")
    return new EbbError("over_quota", `${waited} for an instance; the project's quota allows no other.`, options);
  let why = "no instance became free.";
  if (last !== null) why = `the last start failed: ${last.message}`;
  else if (ready === 0 && starting > 0) why = "its instance is still starting: does the code do much at load?";
  return new EbbError("queue_timeout", `${waited}; ${why}`, options);
}

export function queueFullError(workload: string, waiting: number, scope: "workload" | "all" | "bodies"): EbbError {
  const where = scope === "workload" ? `for ${workload}` : "on this machine";
  const bodies = scope === "bodies" ? ", and their bodies are as much as it holds for those that wait" : "";
  return new EbbError("queue_full", `${waiting} requests already wait ${where}${bodies}.`, { retryAfterSeconds: 1 });
}

export function startError(workload: string, failure: Failure, retryInMs: number): EbbError {
  const extra: Record<string, unknown> = {};
  if (failure.stack !== null) extra["stack"] = failure.stack;
  if (failure.hint !== null) extra["hint"] = failure.hint;
  const detail = `${workload}: ${failure.message}`;
  if (retryInMs <= 0) return new EbbError("start_failed", detail, { extra });
  return new EbbError("crash_loop", `${detail} The next start is tried in ${Math.ceil(retryInMs / 1_000)} s.`, {
    retryAfterSeconds: Math.max(1, Math.ceil(retryInMs / 1_000)),
    extra,
  });
}

/** A start failed. Those who wait hear it now where nothing else can serve them, unless the platform is at fault: it tries again. */
export function startFailureReachesWaiting(failure: Failure, others: { ready: number; starting: number }): boolean {
  return failure.fault === "function" && others.ready === 0 && others.starting === 0;
}

/** What the caller of an invocation gets whose instance is gone. */
export function exitError(workload: string, exit: Exit): EbbError {
  return new EbbError(exitCodes[exit.reason], `${workload}: ${exit.message}`);
}

const exitCodes = {
  memory: "out_of_memory",
  exited: "instance_exited",
  killed: "instance_exited",
  stopped: "platform_lost_instance",
  lost: "platform_lost_instance",
} as const satisfies Record<Exit["reason"], ErrorCode>;

/** `answered`: the whole answer had gone to the caller before. */
export function exitOutcome(exit: Exit, answered: boolean): Outcome {
  if (answered) return "interrupted";
  if (exit.reason === "memory") return "memory";
  return exit.reason === "exited" || exit.reason === "killed" ? "exited" : "interrupted";
}

export function timeoutError(workload: string, revision: ServingRevision): EbbError {
  return new EbbError("timeout", `${workload} did not finish within ${revision.settings.timeoutSeconds} s.`);
}

export function badResponseError(workload: string, breakage: Breakage): EbbError {
  return new EbbError("bad_response", `${workload}: ${breakage.message}.`);
}

export function outcomeOfStatus(status: number): Outcome {
  return status >= 500 ? "error" : "ok";
}

/** An invocation that ran nowhere: the author's failure counts as an error, anything else as refused. */
export function outcomeOfRefusal(error: EbbError): Outcome {
  return error.code === "start_failed" || error.code === "crash_loop" ? "error" : "refused";
}

/**
 * May the request go out once more, on a fresh connection? Only where a kept connection turned out to be dead, with
 * the body whole (or none of it still to come), and where a second delivery is impossible (never completely written) or harmless (RFC 9110, 9.2.2).
 */
export function mayRetry(breakage: Breakage, method: string, retried: boolean): boolean {
  if (retried || !breakage.reused || !breakage.silent || !breakage.whole || breakage.kind !== "closed") return false;
  return breakage.unsent || idempotent.has(method);
}

const idempotent = new Set(["GET", "HEAD", "OPTIONS", "PUT", "DELETE"]);

/** Exponentially smoothed: the newest fifth counts. */
export function smooth(average: number | null, sample: number): number {
  return average === null ? sample : average + (sample - average) * 0.2;
}
