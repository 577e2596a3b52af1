// What a driver of the store does: one transaction a call, one call at a time. Runs in the store's worker, or in memory.

import type { AuditEntry } from "#model/access.ts";
import type { InvocationRecord } from "#model/invocation.ts";
import type { UsageTotal } from "#model/usage.ts";
import type { Revision, WorkloadKey } from "#model/workload.ts";
import type { Ledger } from "#metering/door.ts";
import type { Change, InvocationQuery, Snapshot, UsageQuery } from "./door.ts";

export interface AuditQuery {
  readonly project: string | null;
  readonly sinceMs: number;
  readonly limit: number;
}

export interface StoreDriver extends Ledger {
  /** Opens or creates, and migrates. Rejects with EbbError data_directory or storage_full. */
  open(): Promise<void>;
  close(): Promise<void>;
  /** Nothing has happened for a while: lets go of what it keeps to be fast. */
  rest(): Promise<void>;
  load(): Promise<Snapshot>;
  /** Answers with the current revision of each workload put: what the mirror needs and the change may not carry (a rollback). */
  apply(change: Change): Promise<readonly Revision[]>;
  audit(entry: AuditEntry): Promise<void>;
  audits(query: AuditQuery): Promise<readonly AuditEntry[]>;
  revisions(key: WorkloadKey): Promise<readonly Revision[]>;
  codeDigests(): Promise<readonly string[]>;
  invocations(query: InvocationQuery): Promise<readonly InvocationRecord[]>;
  usage(query: UsageQuery): Promise<readonly UsageTotal[]>;
  retention(): Promise<{ readonly oldestRecordMs: number | null }>;
}
