// How many instances what they use asks for, where a workload scales by CPU or memory: pure; no I/O, clock or chance.

import type { Scaling, WorkloadSettings } from "#model/workload.ts";
import type { InstanceUse } from "#fleet/door.ts";
import type { Pressed } from "./decide.ts";

export interface Samples {
  /** Monotonic us when they were taken. */
  readonly atUs: number;
  /** Instances that are awake; the samples are of the oldest of them. */
  readonly awake: number;
  readonly of: readonly InstanceUse[];
}

interface Seen {
  readonly atUs: number;
  readonly cpuNs: number;
  /** CPUs, smoothed. */
  readonly cpus: number;
}

/** What is remembered between two looks: of those that were awake at the last one. */
export type PressureMemory = ReadonlyMap<string, Seen>;
export const noPressure: PressureMemory = new Map();

export interface Pressure {
  readonly pressed: Pressed | null;
  /** Of what an instance may use, on average over those that are awake; null: it is not known. */
  readonly percent: number | null;
  readonly memory: PressureMemory;
}

export type ScaledByUse = Exclude<Scaling, { readonly requests: number }>;
export type Bounds = Pick<WorkloadSettings, "cpu" | "cpuStrict" | "memoryMb">;

/** An average that is above by less than this part asks for nothing: one more instance would stand for noise. */
const tolerance = 0.1;
/** How long it takes until what an instance used before counts for half. */
const halfLifeUs = 1e6;

/** `cpus`: of the machine. */
export function pressureOf(
  samples: Samples,
  scaling: ScaledByUse,
  bounds: Bounds,
  cpus: number,
  before: PressureMemory,
): Pressure {
  const memory = new Map<string, Seen>();
  let [measured, used] = [0, 0];
  for (const sample of samples.of) {
    if ("memoryPercent" in scaling) {
      if (sample.memoryBytes === null) continue;
      used += sample.memoryBytes / (bounds.memoryMb * 1024 * 1024);
    } else {
      if (sample.cpuNs === null) continue;
      const seen = seenNow(sample.cpuNs, samples.atUs, before.get(sample.instance));
      memory.set(sample.instance, seen);
      used += seen.cpus / ceilingOf(bounds, cpus);
    }
    measured++;
  }
  if (measured === 0) return { pressed: null, percent: null, memory };
  const target = ("memoryPercent" in scaling ? scaling.memoryPercent : scaling.cpuPercent) / 100;
  const what = "memoryPercent" in scaling ? "memory" : "CPU";
  const { awake } = samples;
  const average = used / measured;
  const within = average <= target * (1 + tolerance);
  const aimed = Math.max(1, Math.ceil((average * awake) / target - 1e-9));
  const needed = within ? Math.min(awake, aimed) : aimed;
  const reason = `${percentOf(average)}% of ${what} used in ${awake === 1 ? "1 instance" : `each of ${awake} instances`}, ${percentOf(target)}% is aimed at`;
  return { pressed: { needed, reason }, percent: percentOf(average), memory };
}

/**
 * One that is new counts as idle at first: what its start took says nothing, and the next look finds what the others have handed to
 * it. The longer ago the last look is, the less it weighs.
 */
function seenNow(cpuNs: number, atUs: number, last: Seen | undefined): Seen {
  if (last === undefined || atUs <= last.atUs || cpuNs < last.cpuNs) return { atUs, cpuNs, cpus: last?.cpus ?? 0 };
  const elapsedUs = atUs - last.atUs;
  const now = (cpuNs - last.cpuNs) / 1000 / elapsedUs;
  const cpus = now + (last.cpus - now) * 0.5 ** (elapsedUs / halfLifeUs);
  return { atUs, cpuNs, cpus };
}

/** What one instance can get at most. */
function ceilingOf({ cpu, cpuStrict }: Bounds, cpus: number): number {
  return Math.min(cpus, cpuStrict ? cpu : Math.max(1, cpu));
}

function percentOf(part: number): number {
  return Math.round(part * 100);
}
