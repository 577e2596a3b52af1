// What goes over the port between the main thread and the store's worker.

import { EbbError, type ErrorCode } from "#model/errors.ts";
import type { StoreDriver } from "./driver.ts";

/** What the worker is started with. */
export interface StoreWorkerData {
  readonly directory: string;
  readonly shared: SharedArrayBuffer;
  readonly segmentBytes: number | null;
}

/** The methods that may be called from outside; `usage`, `invocations` and `retention` load the journal first. */
export type Method = Exclude<keyof StoreDriver, "open" | "close" | "rest">;

export type ToWorker =
  | { readonly kind: "call"; readonly id: number; readonly method: Method; readonly args: readonly unknown[] }
  /** The journal moved after a silence. */
  | { readonly kind: "wake" }
  /** Nothing has happened for a while: the thread gives back what it does not need. */
  | { readonly kind: "rest" }
  | { readonly kind: "stop" };

export type FromWorker =
  | { readonly kind: "ready" }
  | { readonly kind: "cannot_open"; readonly error: SentError }
  | { readonly kind: "answer"; readonly id: number; readonly value: unknown }
  | { readonly kind: "failed"; readonly id: number; readonly error: SentError }
  /** Something beside a call went wrong and is tried again. */
  | { readonly kind: "defect"; readonly where: string; readonly error: SentError }
  | { readonly kind: "stopped"; readonly error: SentError | null };

/** An error as a value: structured cloning would lose its class and its code. */
export interface SentError {
  readonly code: ErrorCode | null;
  readonly message: string;
  readonly stack: string | null;
}

export function sendError(error: unknown): SentError {
  if (error instanceof EbbError) return { code: error.code, message: error.message, stack: error.stack ?? null };
  if (error instanceof Error) return { code: null, message: error.message, stack: error.stack ?? null };
  return { code: null, message: String(error), stack: null };
}

export function receiveError(sent: SentError): Error {
  const error = sent.code === null ? new Error(sent.message) : new EbbError(sent.code, sent.message);
  if (sent.stack !== null) error.stack = sent.stack;
  return error;
}
