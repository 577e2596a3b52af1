// One call of a workload, from the request to its record.

import type { InstanceId, InvocationId } from "./ids.ts";

export type TriggerKind = "http" | "internal" | "object" | "schedule" | "queue" | "nats" | "mqtt" | "manual";

export type Outcome = "ok" | "error" | "timeout" | "memory" | "exited" | "client_gone" | "refused" | "interrupted";

/** By the numbers they have on the disk: never reorder, only append. */
export const triggerKinds: readonly TriggerKind[] = [
  "http",
  "internal",
  "object",
  "schedule",
  "queue",
  "nats",
  "mqtt",
  "manual",
];
export const outcomes: readonly Outcome[] = [
  "ok",
  "error",
  "timeout",
  "memory",
  "exited",
  "client_gone",
  "refused",
  "interrupted",
];

/** What metering keeps of an invocation; all durations are of CLOCK_MONOTONIC. */
export interface InvocationRecord {
  readonly id: InvocationId;
  readonly project: string;
  readonly workload: string;
  /** Revision number; null where it was refused before one was chosen. */
  readonly revision: number | null;
  readonly instance: InstanceId | null;
  readonly trigger: TriggerKind;
  /** Epoch ms of arrival. */
  readonly timeMs: number;
  readonly cold: boolean;
  /** From arrival to hand-over, less the start-up it waited for. */
  readonly queuedUs: number;
  /** Start-up of the instance that it waited for; shown apart, not billed. */
  readonly startUs: number;
  /** From hand-over until the instance says done. */
  readonly executionUs: number;
  /** Its share of the instance's spans, in integer microseconds: the sum of records is the sum of spans. */
  readonly billedUs: number;
  readonly memoryMb: number;
  /** null where invocations overlapped in the instance, or the engine does not know. */
  readonly cpuNs: number | null;
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** HTTP status that went to the caller; null where none did. */
  readonly status: number | null;
  readonly outcome: Outcome;
}
