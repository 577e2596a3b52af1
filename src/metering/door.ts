// The journal of what ran: called, not told. Each mark is one write on the main thread; it survives kill -9.

import type { InstanceId, InvocationId } from "#model/ids.ts";
import type { Outcome, TriggerKind } from "#model/invocation.ts";
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
  readonly id: InvocationId;
  readonly outcome: Outcome;
  readonly status: number | null;
  readonly bytesIn: number;
  readonly bytesOut: number;
}

/** The marks of one instance; made when it is ready, closed when nothing of it is left. */
export interface InstanceMeter {
  /** Reserves the room for its end. An error (storage_full) means: not handed over. */
  begin(mark: BeginMark): EbbError | null;
  /** Before the response's last byte. */
  end(mark: EndMark): void;
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
  /** An invocation that ran nowhere: refused, timed out waiting, client gone while waiting. */
  refused(options: { project: string; workload: string; revision: number | null; mark: BeginMark; end: EndMark }): void;
}
