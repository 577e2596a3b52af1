// How far V8's heaps may grow under load. At rest what has grown is given back (rest.ts).

import { setFlagsFromString } from "node:v8";

/** Of what lived at the last full collection, some 30 MB. */
const growthPercent = 400;

/**
 * Of every thread. V8 would begin to mark a heap whenever it has grown by half, which under load is all the time: its helper and what
 * each write has to note meanwhile are a tenth of the throughput on two cores, and 8 ms of the p99 at half load.
 *
 * To be called when all modules are loaded: under a flag that is not its default V8 takes none of the compiled code that Node brings
 * along for its own modules, which costs each process and thread some 10 ms.
 */
export function letHeapsGrow(): void {
  setFlagsFromString(`--heap-growing-percent=${growthPercent}`);
}
