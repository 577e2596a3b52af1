// What a driver of the store does: one transaction a call, one call at a time. Runs in the store's worker, or in memory.

import type { AuditEntry, Secret, Token } from "#model/access.ts";
import type { InvocationRecord } from "#model/invocation.ts";
import type { Run } from "#model/run.ts";
import type { UsageTotal } from "#model/usage.ts";
import type { Project, Revision, WorkloadKey } from "#model/workload.ts";
import type { Ledger } from "#metering/door.ts";
import type { Change, InvocationQuery, RunQuery, UsageQuery } from "./door.ts";

export interface AuditQuery {
  readonly project: string | null;
  readonly sinceMs: number;
  readonly limit: number;
}

/** A part of what exists, so that reading all of it holds nobody up for long. */
export interface Part {
  /** All of them are in the first part. */
  readonly projects: readonly Project[];
  readonly tokens: readonly Token[];
  readonly secrets: readonly Secret[];
  /** Workloads by their names, each with the revision that serves: JSON of a list of `DeployedText`. */
  readonly deployed: string;
  /** Where the next part begins; null: this was the last. */
  readonly next: WorkloadKey | null;
}

/** A workload's createdMs and updatedMs, and its revision, which says the rest. Text: a third of what objects cost to hand over. */
export type DeployedText = readonly [createdMs: number, updatedMs: number, revision: Revision];

export interface StoreDriver extends Ledger {
  /** Opens or creates, and migrates. Rejects with EbbError data_directory or storage_full. */
  open(): Promise<void>;
  close(): Promise<void>;
  /** Nothing has happened for a while: lets go of what it keeps to be fast. */
  rest(): Promise<void>;
  /** The part that begins behind this workload; null: the first. Rejects with EbbError data_directory where a revision that serves is missing. */
  load(after: WorkloadKey | null): Promise<Part>;
  /** Answers with the current revision of each workload put: what the mirror needs and the change may not carry (a rollback). */
  apply(change: Change): Promise<readonly Revision[]>;
  audit(entry: AuditEntry): Promise<void>;
  audits(query: AuditQuery): Promise<readonly AuditEntry[]>;
  revisions(key: WorkloadKey): Promise<readonly Revision[]>;
  runs(query: RunQuery): Promise<readonly Run[]>;
  openRuns(): Promise<readonly Run[]>;
  updateRuns(runs: readonly Run[]): Promise<void>;
  contentDigests(): Promise<readonly string[]>;
  invocations(query: InvocationQuery): Promise<readonly InvocationRecord[]>;
  usage(query: UsageQuery): Promise<readonly UsageTotal[]>;
  retention(): Promise<{ readonly oldestRecordMs: number | null }>;
}
