// One running copy of a revision, as the rest of ebb sees it.

import type { ErrorCode } from "./errors.ts";
import type { InstanceId } from "./ids.ts";
import type { Isolation } from "./workload.ts";

export type InstanceState = "starting" | "ready" | "paused" | "draining" | "stopped";

/** What `ls` and `show` tell of an instance. */
export interface InstanceView {
  readonly id: InstanceId;
  readonly project: string;
  readonly workload: string;
  readonly revision: number;
  readonly state: InstanceState;
  readonly isolation: Isolation;
  readonly memoryMb: number;
  /** Epoch ms. */
  readonly startedMs: number;
  readonly active: number;
}

/** What went wrong when an instance did not start, or ended. `function`: its author's to mend. */
export interface Failure {
  readonly fault: "function" | "platform";
  /** One sentence for the one at fault: the user's own error and line where there is one. */
  readonly message: string;
  readonly stack: string | null;
  readonly hint: string | null;
  /** Of the catalogue, where it is of it. */
  readonly code?: ErrorCode;
}

/** Names and totals of a start, in milliseconds, in the order they happened. */
export type StartPhases = Readonly<Record<string, number>>;
