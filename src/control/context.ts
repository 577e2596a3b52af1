// What every command is given: the rooms it asks, and the words it tells them with.

import type { Access } from "#access/door.ts";
import type { LoadCaches, Builds, Interpreters } from "#builds/door.ts";
import type { Fleet } from "#fleet/door.ts";
import type { Images } from "#images/door.ts";
import type { Jobs } from "#jobs/door.ts";
import type { Clock } from "#model/clock.ts";
import type { Tell } from "#model/fact.ts";
import type { Isolation, Revision, WorkloadKey } from "#model/workload.ts";
import type { Mirror, Store } from "#store/door.ts";
import type { AppTools } from "./app-tools.ts";
import type { Lanes } from "./lanes.ts";

export interface ControlOptions {
  readonly store: Pick<Store, "apply" | "audit" | "revisions" | "runs" | "contentDigests">;
  readonly mirror: Mirror;
  readonly access: Pick<Access, "authenticate" | "authorize" | "mint" | "seal" | "open">;
  readonly builds: Pick<Builds, "receive" | "build" | "collect"> & { readonly loadCaches: Pick<LoadCaches, "forget"> };
  /** null: ebb runs with --isolation none, where no image is started. */
  readonly images: Pick<Images, "fetch" | "collect" | "forget"> | null;
  readonly interpreters: Interpreters;
  readonly fleet: Pick<Fleet, "check" | "prove" | "contentInUse">;
  readonly jobs: Pick<Jobs, "make" | "accepted" | "doubtful" | "latest" | "stopRun">;
  readonly app: AppTools;
  readonly clock: Clock;
  readonly tell: Tell;
  /** What this daemon gives where an app file says nothing. */
  readonly isolation: Isolation;
  /** Why nothing can be isolated by gVisor here, and what to do; null: it can. */
  readonly gvisorProblem: () => Promise<string | null>;
  /** Where a workload answers. */
  readonly urlsOf: (key: WorkloadKey) => { readonly url: string; readonly pathUrl: string };
  /**
   * The revision that serves is another one, or (null) the workload is gone: for activator, autoscaler and fleet.retire.
   * Called after the store has committed; must not throw.
   */
  readonly changed: (key: WorkloadKey, revision: Revision | null, reason: string) => void;
  /** The same revision, but every instance of it is to be drained and replaced (a new secret value, a restart). */
  readonly replaced: (key: WorkloadKey, revision: Revision, reason: string) => void;
}

export interface Context extends ControlOptions {
  /** Uploads that are being received or worked on, of all projects: each takes disk. */
  readonly uploads: { open: number; readonly ofProject: Map<string, number> };
  /** Deploys of one project, one after the other. */
  readonly deploys: Lanes;
  /** Read, decide, apply: what must not interleave within one project. Held for milliseconds, so that a rollback never waits for a build. */
  readonly changes: Lanes;
}
