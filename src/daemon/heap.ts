// How far V8's heaps may grow under load. At rest what has grown is given back (rest.ts).

import { getHeapStatistics, setFlagsFromString } from "node:v8";

const growthBytes = 128 * 1024 * 1024;
/** V8's own is somewhere between: less would be marked more often than without a word, more is of no use. */
const percents = { fewest: 50, most: 400 } as const;

/** Of what lives: a small heap may grow to several times of it, one that holds 100,000 functions by half as much as it holds. */
export function growthPercent(livingBytes: number): number {
  const percent = Math.round((growthBytes / Math.max(1, livingBytes)) * 100);
  return Math.min(percents.most, Math.max(percents.fewest, percent));
}

/**
 * Of every thread. V8 would begin to mark a heap whenever it has grown by half, which under load is all the time: its helper and what
 * each write has to note meanwhile are a tenth of the throughput on two cores, and 8 ms of the p99 at half load.
 *
 * To be called when all modules are loaded: under a flag that is not its default V8 takes none of the compiled code that Node brings
 * along for its own modules, which costs each process and thread some 10 ms.
 */
export function letHeapsGrow(): void {
  setFlagsFromString(`--heap-growing-percent=${growthPercent(getHeapStatistics().used_heap_size)}`);
  // What outlives two collections of the nursery under load would make V8 put all that is allocated there into the old generation from then on.
  setFlagsFromString("--no-allocation-site-pretenuring");
}
