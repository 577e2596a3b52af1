// The daemon's own log, on stderr: what an operator must know of. Functions' output is telemetry's, and never comes here.

import { pino } from "pino";
import type { Fact } from "#model/fact.ts";

/** A sink of facts: those that say that something of ebb went wrong become lines, the others nothing. */
export function createDaemonLog(): (fact: Fact) => void {
  // Written off the main thread's path: a full pipe behind stderr must not hold up requests.
  const log = pino({ base: null, timestamp: pino.stdTimeFunctions.isoTime }, pino.destination({ fd: 2, sync: false }));
  return (fact) => {
    if (fact.kind === "defect")
      log.error({ id: fact.errorId, where: fact.where, err: fact.error }, "something in ebb failed");
    else if (fact.kind === "worker_restarted") log.warn({ worker: fact.worker, reason: fact.reason }, "restarted");
  };
}
