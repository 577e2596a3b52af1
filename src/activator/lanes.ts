// The lanes of all workloads: made when somebody calls or an instance is ready, and whose load is told to the autoscaler when.

import { WorkloadMap, type ServingRevision, type WorkloadKey } from "#model/workload.ts";
import { Lane } from "./lane.ts";

export interface LanesOptions {
  /** The revision that serves now; null: there is no such workload. */
  readonly current: (project: string, workload: string) => ServingRevision | null;
  readonly report: (lane: Lane) => void;
  /** Runs it at the end of this turn of the loop. */
  readonly defer: (run: () => void) => void;
}

export class Lanes {
  readonly #options: LanesOptions;
  readonly #lanes = new WorkloadMap<Lane>();
  /** Those whose load has changed in this turn. */
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

  /**
   * Its load is reported at the end of the next turn, once for all its changes: behind what this one writes and closes, for of those
   * who are answered nobody waits for decisions.
   */
  changed(lane: Lane): void {
    if (lane.removed) return;
    if (lane.unreported !== null) return;
    lane.unreported = this.#changed;
    if (this.#changed.push(lane) === 1) this.#options.defer(this.#turnOver);
  }

  /** Its load is reported at once. */
  report(lane: Lane): void {
    if (lane.removed) return;
    lane.unreported = null;
    lane.noteLoad();
    this.#options.report(lane);
  }

  readonly #turnOver = (): void => {
    const lanes = this.#changed;
    // What changes from here on waits for a turn of its own: it may be an answer of the next.
    this.#changed = [];
    this.#options.defer(() => this.#reportChanged(lanes));
  };

  #reportChanged(lanes: readonly Lane[]): void {
    for (const lane of lanes) {
      // It was reported at once, and what has changed since then has its own time.
      if (lane.unreported !== lanes) continue;
      lane.unreported = null;
      if (!lane.removed && lane.noteLoad()) this.#options.report(lane);
    }
  }
}
