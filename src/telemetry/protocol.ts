// What the main thread and the telemetry worker say to each other: cloneable values only.

import type { InstanceId } from "#model/ids.ts";
import type { AttachOptions, LogLine, LogQuery } from "./door.ts";
import type { LogRecord } from "./record.ts";

export interface TelemetryWorkerData {
  /** Of the logs; one folder a project. */
  readonly directory: string;
  /** Kept of a project's log; null: the limit of the model. */
  readonly keptBytes: number | null;
  readonly segmentBytes: number | null;
}

export interface WorkerCounters {
  readonly readBytes: number;
  readonly lines: number;
  readonly droppedLines: number;
  readonly droppedBytes: number;
  readonly writeErrors: number;
}

export type ToWorker =
  | { readonly kind: "attach"; readonly options: AttachOptions }
  | { readonly kind: "detach"; readonly instance: InstanceId }
  /** For each instance `instance SP invocation SP invocation … LF`. */
  | { readonly kind: "active"; readonly told: string }
  | { readonly kind: "record"; readonly project: string; readonly record: LogRecord }
  | { readonly kind: "logs"; readonly id: number; readonly query: LogQuery }
  | { readonly kind: "tail"; readonly id: number; readonly instance: InstanceId; readonly lines: number }
  | { readonly kind: "settle"; readonly id: number; readonly instance: InstanceId; readonly project: string }
  | { readonly kind: "counters"; readonly id: number }
  | { readonly kind: "follow"; readonly id: number; readonly query: Omit<LogQuery, "limit"> }
  | { readonly kind: "unfollow"; readonly id: number }
  /** Nothing has happened for a while: the thread gives back what it does not need. */
  | { readonly kind: "rest" }
  | { readonly kind: "stop" };

export type FromWorker =
  | { readonly kind: "ready" }
  /** Its FIFOs are read to the end: whoever holds them open may let go. */
  | { readonly kind: "detached"; readonly instance: InstanceId }
  | { readonly kind: "answer"; readonly id: number; readonly value: unknown }
  | { readonly kind: "failed"; readonly id: number; readonly message: string }
  | { readonly kind: "lines"; readonly id: number; readonly lines: readonly LogLine[] }
  | { readonly kind: "stopped" };
