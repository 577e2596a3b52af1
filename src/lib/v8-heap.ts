// How much of a sandbox's memory V8 may take for its heap.

/** V8's own most, in MiB of one of the three parts of its nursery. */
const nurseryMbMax = 16;
const nurseryShare = 0.05;

/**
 * Options of Node. V8 may promise what the sandbox has and no more; without this it takes the whole machine's memory for its own.
 * Its nursery grows under load to three times what is said here: of a sandbox of 64 MiB its own 48 would leave too little for anything
 * else.
 */
export function v8HeapOptions(memoryMb: number): readonly string[] {
  const nurseryMb = Math.min(nurseryMbMax, Math.max(1, Math.floor(memoryMb * nurseryShare)));
  return [`--max-old-space-size=${memoryMb}`, `--max-semi-space-size=${nurseryMb}`];
}
