// The journal of what ran: called, not told. The marks of a turn are one write on the main thread; they survive kill -9.

import type { InstanceId, InvocationId } from "#model/ids.ts";
import type { Outcome, TriggerKind } from "#model/invocation.ts";
import type { RecordBlock } from "#model/record-block.ts";
import type { UsageTotal } from "#model/usage.ts";
import type { Revision } from "#model/workload.ts";
import type { EbbError } from "#model/errors.ts";
import type { SandboxUsage } from "#sandbox/door.ts";

export interface BeginMark {
  readonly id: InvocationId;
  readonly trigger: TriggerKind;
  /** Epoch ms of arrival. */
  readonly timeMs: number;
  readonly queuedUs: number;
  readonly startUs: number;
  readonly cold: boolean;
}

export interface EndMark {
  /** CLOCK_MONOTONIC of its end, where it ended before it is marked, 0: at its last mark; left out: now. */
  readonly atUs?: number;
  readonly outcome: Outcome;
  readonly status: number | null;
  readonly bytesIn: number;
  readonly bytesOut: number;
}

export type AnsweredMark = Omit<EndMark, "outcome">;

/** Who goes on when its mark is in the journal: hands over after a begin, sends the last byte after an end. */
export interface Marked {
  /**
   * Called once for each mark, at the end of the turn in which it was made. An error after a begin: nothing was marked. After
   * any other mark: it is written before the next one.
   */
  marked(problem: EbbError | null): void;
}

/** The marks of an invocation that has begun; room is kept for both. */
export interface InvocationMeter {
  /** Where the invocation goes on after its response (waitUntil): once it is marked, a kill keeps the status. */
  answered(mark: AnsweredMark, marked?: Marked): void;
  /** With the response's end, or when the instance says done where `answered` went before. Once. */
  end(mark: EndMark, marked?: Marked): void;
}

/** The marks of one instance; made when it is ready, closed when nothing of it is left. */
export interface InstanceMeter {
  /** An error (storage_full): there is no room, and `marked` is not called. */
  begin(mark: BeginMark, marked?: Marked): InvocationMeter | EbbError;
  /** It is about to be let go: what it has burnt since its last invocation counts. */
  released(): void;
  /** The instance is gone; what was active in it must have been ended before. */
  close(): void;
}

export interface Meter {
  start(): Promise<void>;
  /** Syncs and closes the journal. */
  stop(): Promise<void>;
  /** May this project run one more now? (rate; later budgets) Null: yes. */
  admit(project: string, nowUs: number): EbbError | null;
  instance(options: { id: InstanceId; revision: Revision; usage: () => SandboxUsage }): InstanceMeter;
  /**
   * What an earlier daemon's instance of this id had begun, which goes on; null: it is not among those that this daemon has resumed.
   * Once for each; who is not found to live is ended with its last mark.
   */
  resumed(options: { id: InstanceId; usage: () => SandboxUsage }): {
    readonly instance: InstanceMeter;
    readonly invocation: InvocationMeter;
  } | null;
  /** An invocation that ran nowhere: refused, timed out waiting, client gone while waiting. */
  refused(of: Refused, marked?: Marked): void;
  /** Ends the marking of this turn now: whoever waits for a mark is told before this returns. */
  flush(): void;
}

export interface Refused {
  readonly project: string;
  readonly workload: string;
  readonly revision: number | null;
  readonly mark: BeginMark;
  readonly end: EndMark;
}

/** Where the loader has read to: everything before it is in the ledger, once. */
export interface JournalPosition {
  readonly segment: number;
  readonly offsetBytes: number;
}

/** What one stretch of the journal comes to. */
export interface LedgerBatch {
  readonly blocks: readonly RecordBlock[];
  /** Increments, at most one for each project, workload and hour. */
  readonly totals: readonly UsageTotal[];
  readonly position: JournalPosition;
  /** The fold's state at that position, as text: what is open goes on from here after a restart. */
  readonly state: string;
  /** Bytes that could not be read, to be added up. */
  readonly damagedBytes: number;
}

/** Records of one project and one day (UTC), counted: what retention goes by. */
export interface RecordDay {
  readonly project: string;
  readonly dayMs: number;
  readonly records: number;
}

/** The side of the store that the loader and retention write: the store's drivers fit it. */
export interface Ledger {
  journal(): Promise<{ readonly position: JournalPosition; readonly state: string } | null>;
  /** Records, totals, position and state in one transaction: this is the exactly-once. */
  commit(batch: LedgerBatch): Promise<void>;
  recordDays(): Promise<readonly RecordDay[]>;
  /** Deletes at most `limit` records of that project and day; answers how many. */
  deleteRecords(day: { project: string; dayMs: number; limit: number }): Promise<number>;
  /** Oldest and newest hour of the totals; null: none. */
  totalHours(): Promise<{ readonly oldestMs: number; readonly newestMs: number } | null>;
  /** Deletes at most `limit` totals of hours before this one, the oldest first; answers how many. */
  deleteTotals(before: { hourMs: number; limit: number }): Promise<number>;
  /** When retention last ran, epoch ms; null: never. */
  lastRetention(): Promise<number | null>;
  retained(atMs: number): Promise<void>;
}

/** How the writer on the main thread reaches the keeper in the store's worker. */
export interface JournalLink {
  readonly shared: SharedArrayBuffer;
  /** Ends the keeper's sleep; never waits. */
  wake(): void;
}
