// Gives memory back to the machine. V8 collects when it needs room and malloc keeps what was freed: at rest neither does anything.

/**
 * Of the thread that calls it, and of every thread's malloc. Blocks for a full collection: 20 to 50 ms where much lives.
 * `thoroughly`: for several of them, which give back more: not where somebody may be waiting.
 */
export function giveBack({ thoroughly = false } = {}): void {
  if (thoroughly) globalThis.gc?.({ type: "major", execution: "sync", flavor: "last-resort" });
  else globalThis.gc?.();
  trim ??= findTrim();
  trim();
}

let trim: (() => void) | null = null;

/** glibc's malloc_trim, for every arena; with another libc, or without node:ffi, nothing. */
function findTrim(): () => void {
  try {
    const { functions } = process.getBuiltinModule("node:ffi").dlopen(null, {
      malloc_trim: { arguments: ["u64"], return: "i32" },
    });
    return () => void functions.malloc_trim(0n);
  } catch {
    return () => {};
  }
}
