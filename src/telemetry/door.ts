// Listens: facts and output -> logs and metrics, and their queries. No room on the request path waits for it.

import type { InstanceId, InvocationId } from "#model/ids.ts";
import type { Fact } from "#model/fact.ts";
import type { RunId } from "#model/run.ts";
import type { OutputSource } from "#sandbox/door.ts";

export interface LogLine {
  /** Epoch ms. */
  readonly time: number;
  readonly workload: string;
  readonly invocation: InvocationId | null;
  readonly stream: "stdout" | "stderr" | "ebb";
  readonly level: "debug" | "info" | "warn" | "error";
  readonly message: string;
}

export interface LogQuery {
  readonly run?: RunId;
  readonly project: string;
  readonly workload?: string;
  readonly invocation?: InvocationId;
  readonly sinceMs?: number;
  /** The newest so many; answered oldest first. */
  readonly limit: number;
}

export interface AttachOptions {
  readonly instance: InstanceId;
  readonly project: string;
  readonly workload: string;
  readonly source: OutputSource;
  /** Marks what the runtime itself writes around an invocation; null: runtime custom, no marks. */
  readonly nonce: string | null;
  readonly concurrency: number;
  /** All that it writes is of this one attempt at a task of a run. */
  readonly execution?: { readonly run: RunId; readonly invocation: InvocationId };
  /** Part of it has been read before: what is in the log already is not read again. Of kept output alone. */
  readonly resumes?: boolean;
}

export interface Telemetry {
  start(): Promise<void>;
  stop(): Promise<void>;
  /** Never waits, never fails. */
  tell(fact: Fact): void;
  /** Reads the output of an instance from here on. Must be called before the sandbox can block on a full FIFO. */
  attach(options: AttachOptions): void;
  /** The instance is gone: reads what is left, then lets go. */
  detach(instance: InstanceId): void;
  /** Of kept output, after `detach`: resolves when all of it is in the log on the disk, and is not needed any more. */
  settled(instance: InstanceId): Promise<void>;
  /** It runs there from now on: marks and frames that name it are believed, also after its end. Cheap, batched. */
  active(instance: InstanceId, invocation: InvocationId): void;
  logs(query: LogQuery): Promise<readonly LogLine[]>;
  /** Lines from now on; `stop` ends it. */
  follow(query: Omit<LogQuery, "limit">, line: (line: LogLine) => void): { stop(): void };
  /** The last lines of one instance's output: what a failed start shows. */
  tail(instance: InstanceId, lines: number): Promise<readonly LogLine[]>;
  /** Nothing has happened for a while: the worker gives memory back. */
  rest(): void;
  /** Prometheus text format. */
  metrics(): Promise<string>;
}
