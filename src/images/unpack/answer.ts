// The end of a program that reads or makes a layer: its one answer on stdout, a full disk told as one.

import { writeSync } from "node:fs";
import { flushCompileCache } from "node:module";

/** `refused`: what of an error is the layer's own fault; null: it is none of it. Ends the process. */
export async function answer<T>(
  main: () => Promise<T>,
  refused: (error: unknown) => T | null = () => null,
): Promise<never> {
  // Before it is locked in, where its end would look for the cache among what it reads.
  flushCompileCache();
  const told = (error: unknown): T | { readonly full: true } => {
    const code = error instanceof Error && "code" in error ? String(error.code) : "";
    if (code === "ENOSPC" || code === "EDQUOT") return { full: true };
    const its = refused(error);
    if (its !== null) return its;
    throw error;
  };
  const words = Buffer.from(JSON.stringify(await main().catch(told)));
  for (let at = 0; at < words.length;) at += writeSync(1, words, at);
  process.exit(0);
}
