// The lanes of all workloads: made when somebody calls or an instance is ready, and whose load is told to the autoscaler when.

import { WorkloadMap, type ServingRevision, type WorkloadKey } from "#model/workload.ts";
import { Lane } from "./lane.ts";

export interface LanesOptions {
  /** The revision that serves now; null: there is no such workload. */
  readonly current: (project: string, workload: string) => ServingRevision | null;
  readonly report: (lane: Lane) => void;
  /** Runs once after what is going on now; several changes of load become one report. */
  readonly defer: (run: () => void) => void;
}

export class Lanes {
  readonly #options: LanesOptions;
  readonly #lanes = new WorkloadMap<Lane>();
  /** Those whose load is to be reported after what is going on now. */
  #changed: Lane[] = [];

  constructor(options: LanesOptions) {
    this.#options = options;
  }

  get(key: WorkloadKey): Lane | undefined {
    return this.#lanes.get(key);
  }

  values(): Iterable<Lane> {
    return this.#lanes.values();
  }

  /** For a call; null: there is no such workload. */
  forCall(key: WorkloadKey): Lane | null {
    const known = this.#lanes.get(key);
    if (known !== undefined && !known.removed) return known;
    const revision = this.#options.current(key.project, key.workload);
    return revision === null ? null : this.forInstance(revision);
  }

  /** For an instance of this revision, which may be ready before the first call. */
  forInstance(revision: ServingRevision): Lane {
    const current = (): ServingRevision | null => this.#options.current(revision.project, revision.workload);
    let lane = this.#lanes.get(revision);
    if (lane === undefined) {
      // What serves is not what the instance is of, but what is current.
      lane = new Lane(current() ?? revision);
      this.#lanes.set(revision, lane);
    } else if (lane.removed) {
      const serving = current();
      if (serving !== null) {
        lane.removed = false;
        lane.serve(serving);
      }
    }
    return lane;
  }

  /** Of a workload that was removed, when nothing of it is left. */
  forget(lane: Lane): void {
    if (lane.instances.size === 0) this.#lanes.delete(lane.revision);
  }

  /** Its load is reported after what is going on now. */
  changed(lane: Lane): void {
    if (lane.removed) return;
    if (lane.unreported) return;
    lane.unreported = true;
    if (this.#changed.push(lane) === 1) this.#options.defer(this.#reportChanged);
  }

  /** Its load is reported at once. */
  report(lane: Lane): void {
    if (lane.removed) return;
    lane.unreported = false;
    lane.noteLoad();
    this.#options.report(lane);
  }

  readonly #reportChanged = (): void => {
    const lanes = this.#changed;
    this.#changed = [];
    for (const lane of lanes) {
      // It was reported at once, or stands here twice.
      if (!lane.unreported) continue;
      lane.unreported = false;
      if (!lane.removed && lane.noteLoad()) this.#options.report(lane);
    }
  };
}
