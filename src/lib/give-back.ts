// Gives memory back to the machine. V8 collects when it needs room and malloc keeps what was freed: at rest neither does anything.

import { flushCompileCache } from "node:module";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/**
 * Of the thread that calls it, and of every thread's malloc. Blocks for a full collection: 20 to 50 ms where much lives.
 * `thoroughly`: for several of them, which give back more: not where somebody may be waiting.
 */
export function giveBack({ thoroughly = false } = {}): void {
  collect ??= findCollector();
  if (thoroughly) collect?.({ type: "major", execution: "sync", flavor: "last-resort" });
  else collect?.();
  // What Node has read of compiled code it keeps beside what V8 made of it, until it is written back.
  flushCompileCache();
  trim ??= findTrim();
  trim();
}

let collect: NodeJS.GCFunction | null = null;

/**
 * V8's own, which a context has that is made under its flag. With the flag on the command line none of the compiled code that Node
 * brings along for its own modules is taken, and each start compiles them anew (60 ms). null: another thread has just unset it.
 */
function findCollector(): NodeJS.GCFunction | null {
  setFlagsFromString("--expose-gc");
  const found: unknown = runInNewContext("globalThis.gc");
  setFlagsFromString("--no-expose-gc");
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- V8's only function of this name
  return typeof found === "function" ? (found as NodeJS.GCFunction) : null;
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
