// Runs of jobs: queued, started, tried again, ended; durable from the commit that accepts them on.

import type { Readable } from "node:stream";
import type { Run, RunId, RunOverrides } from "#model/run.ts";
import type { JobRevision, WorkloadKey } from "#model/workload.ts";

export interface RunRequest {
  readonly revision: JobRevision;
  readonly overrides: RunOverrides;
  readonly createdBy: string;
}

export interface Jobs {
  /** What an earlier ebb left unfinished was interrupted, and goes on. */
  start(): Promise<void>;
  /** Interrupts what runs, and waits until nothing of it is left. */
  stop(): Promise<void>;
  /** The run as it is to be committed; nothing has happened yet. EbbError over_quota, capacity: it is not accepted. */
  make(request: RunRequest): Run;
  /** It has been committed: from here on it is run. */
  accepted(run: Run): void;
  /** Nobody knows whether it was committed: it is run when it was. */
  doubtful(run: Run): void;
  /** Where it is now: what has been read from the store may be older. */
  latest(run: Run): Run;
  /** Ends it; what runs of it has its time to do so. One that has ended stays as it is. */
  stopRun(id: RunId): Promise<void>;
  /** The job is gone: its runs end, and what they left goes. */
  removed(job: WorkloadKey): void;
  /** Resolves when it has ended, at most after so long. */
  ended(id: RunId, withinMs: number): Promise<void>;
  /** Tasks that run now. */
  running(job: WorkloadKey): number;
  /** What a task left as its result; null: nothing that is still kept. */
  result(run: Run, index: number): Promise<{ readonly bytes: number; readonly content: Readable } | null>;
}
