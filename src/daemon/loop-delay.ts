// How late the main thread's loop runs, measured for a while on demand: an idle ebb has no timer for it.

import { monitorEventLoopDelay } from "node:perf_hooks";

export interface LoopDelay {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  readonly samples: number;
}

/** The sampler's own interval: part of each sample, and taken off again. */
const resolutionMs = 1;

/** Resolves after `seconds`. */
export async function measureLoopDelay(seconds: number): Promise<LoopDelay> {
  const histogram = monitorEventLoopDelay({ resolution: resolutionMs });
  histogram.enable();
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  histogram.disable();
  const late = (ns: number): number => Math.max(0, ns / 1e6 - resolutionMs);
  return {
    p50Ms: late(histogram.percentile(50)),
    p99Ms: late(histogram.percentile(99)),
    maxMs: late(histogram.max),
    samples: histogram.count,
  };
}
