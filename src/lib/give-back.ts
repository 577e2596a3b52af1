// Gives memory back to the machine. V8 collects when it needs room and malloc keeps what was freed: at rest neither does anything.

/** Of the thread that calls it, and of every thread's malloc. Blocks for a full collection: 20 to 50 ms where much lives. */
export function giveBack(): void {
  // Called plainly: the flavour "last-resort" gives back more, and blocks for 80 to 180 ms.
  globalThis.gc?.();
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
