// Says how many instances; the only caller of fleet.want.

import type { ServingRevision, WorkloadKey } from "#model/workload.ts";

/** What the activator sees of one workload, reported at once whenever it changes. */
export interface Load {
  readonly revision: ServingRevision;
  /** Invocations that wait for a slot. */
  readonly waiting: number;
  /** Invocations in instances. */
  readonly active: number;
  /** Instances that take invocations, and those on their way. */
  readonly ready: number;
  readonly starting: number;
  /** Monotonic us when an instance last ran something; null: never. */
  readonly lastActiveUs: number | null;
  /** Smoothed time of one invocation and of one start, ms; null: not known yet. */
  readonly executionMs: number | null;
  readonly startMs: number | null;
}

/** Of workloads that leave their idle time to ebb. fixed: the default time; histogram: as the pauses between their calls suggest. */
export type KeepAlive = "fixed" | "histogram";

/** How many were wanted of a workload before and after the last decision that changed it, and why. */
export interface ScaledLast {
  readonly timeMs: number;
  readonly from: number;
  readonly to: number;
  readonly reasons: readonly string[];
}

export interface Scaled {
  /** What its instances use on average, of what they may, where it scales by that; null: it was not looked at. */
  readonly percent: number | null;
  readonly last: ScaledLast | null;
}

export interface Autoscaler {
  start(): void;
  /** ebb is stopping: what waits and runs has instances still, and nothing is kept idle, neither for `min` nor for a while. */
  drain(): void;
  stop(): void;
  /** Decides now, and again by itself at the time the decision names (idle to zero). */
  report(load: Load): void;
  /** The workload's current revision changed, appeared or (null) is gone: `min` is held from here. */
  changed(project: string, workload: string, revision: ServingRevision | null): void;
  scaled(key: WorkloadKey): Scaled;
}
