// Looks at what instances use whose workload scales by it: only while something runs in them, and a bounded number in a second.

import type { Cancel, Clock } from "#model/clock.ts";
import { samplingLimits } from "#model/limits.ts";
import { scalesByUse, type ServingRevision } from "#model/workload.ts";
import type { Fleet } from "#fleet/door.ts";
import type { Pressed } from "./decide.ts";
import { noPressure, pressureOf, type PressureMemory } from "./pressure.ts";

/** Of one workload, for as long as a revision serves. */
export class Looks {
  memory: PressureMemory = noPressure;
  pressed: Pressed | null = null;
  percent: number | null = null;
  /** Monotonic us; null: never. */
  lastUs: number | null = null;
  /** Something ran since the last look. */
  ran = false;
  timer: Cancel | null = null;
}

export interface SamplingOptions {
  readonly fleet: Pick<Fleet, "samples">;
  readonly clock: Clock;
  /** Of the machine. */
  readonly cpus: number;
}

const everyUs = samplingLimits.everyMs * 1_000;

export class Sampling {
  readonly #options: SamplingOptions;
  /** Instances looked at in the second that began then. */
  #secondUs = 0;
  #looked = 0;

  constructor(options: SamplingOptions) {
    this.#options = options;
  }

  /** The load was reported: looks where the last look is too old to go by, and goes on looking (`again`) while anything runs. */
  settle(looks: Looks, revision: ServingRevision, busy: boolean, again: () => void): void {
    if (!busy || !scalesByUse(revision.settings.scaling)) return;
    looks.ran = true;
    const nowUs = this.#options.clock.monotonicUs();
    if (looks.lastUs === null || nowUs - looks.lastUs >= everyUs) this.#look(looks, revision, nowUs);
    if (looks.timer === null) this.#arm(looks, revision, again);
  }

  stop(looks: Looks): void {
    looks.timer?.();
    looks.timer = null;
  }

  #arm(looks: Looks, revision: ServingRevision, again: () => void): void {
    looks.timer = this.#options.clock.after(samplingLimits.everyMs, () => {
      looks.timer = null;
      if (!looks.ran) return;
      looks.ran = false;
      this.#look(looks, revision, this.#options.clock.monotonicUs());
      this.#arm(looks, revision, again);
      again();
    });
  }

  #look(looks: Looks, revision: ServingRevision, atUs: number): void {
    const { scaling } = revision.settings;
    if (!scalesByUse(scaling) || !this.#mayLook(atUs)) return;
    const { awake, of } = this.#options.fleet.samples(revision, samplingLimits.instancesEach);
    this.#looked += of.length;
    const { cpus } = this.#options;
    const { pressed, percent, memory } = pressureOf(
      { atUs, awake, of },
      scaling,
      revision.settings,
      cpus,
      looks.memory,
    );
    Object.assign(looks, { pressed, percent, memory, lastUs: atUs });
  }

  #mayLook(nowUs: number): boolean {
    if (nowUs - this.#secondUs >= 1e6) [this.#secondUs, this.#looked] = [nowUs, 0];
    return this.#looked < samplingLimits.instancesPerSecond;
  }
}
