// What the API asks: commands go to control/, queries to the rooms that know.

import type { Access } from "#access/door.ts";
import type { Activator } from "#activator/door.ts";
import type { Autoscaler } from "#autoscaler/door.ts";
import type { Control } from "#control/door.ts";
import type { Fleet } from "#fleet/door.ts";
import type { Jobs } from "#jobs/door.ts";
import type { Clock } from "#model/clock.ts";
import type { Tell } from "#model/fact.ts";
import type { WorkloadKey } from "#model/workload.ts";
import type { Mirror, Store } from "#store/door.ts";
import type { Telemetry } from "#telemetry/door.ts";

/** Milliseconds. */
export interface LoopDelay {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  readonly samples: number;
}

export interface ApiRooms {
  readonly version: string;
  readonly control: Control;
  readonly access: Pick<Access, "authenticate" | "authorize" | "mintShort">;
  readonly mirror: Mirror;
  readonly store: Pick<Store, "audit" | "audits" | "invocations" | "retention" | "revisions" | "runs" | "usage">;
  readonly telemetry: Pick<Telemetry, "logs" | "follow" | "metrics">;
  readonly fleet: Pick<Fleet, "instances" | "workloadState" | "state">;
  readonly autoscaler: Pick<Autoscaler, "scaled">;
  readonly activator: Pick<Activator, "load">;
  readonly jobs: Pick<Jobs, "ended" | "latest" | "result" | "running">;
  readonly clock: Clock;
  readonly tell: Tell;
  /** How late the main loop is, sampled for so long. */
  readonly measureLoopDelay?: (seconds: number) => Promise<LoopDelay>;
  readonly urlsOf: (key: WorkloadKey) => { readonly url: string; readonly pathUrl: string };
}
