// What a pooled shim does while it waits: it loads and runs once whatever its function's first moment would otherwise pay for.
// Nothing here knows or touches any code of a tenant's, or writes any output.

import { rehearse } from "./rehearsal.mjs";

/** Of each style: enough for V8 to have compiled and warmed what an assignment and a call run through. */
const rounds = 3;

/** What is allocated at once until the nursery is full, and how often at most: no nursery is as large. */
const stuff = Array.from({ length: 2_048 }, () => 0);
const stuffings = 2_048;

/** What every function needs. @param {() => boolean} over */
export async function warm(over) {
  await import("./compile-cache.mjs");
  if (process.platform === "linux" && !over()) await rehearse(rounds, over);
  if (!over()) emptyNursery();
}

/** What some functions need: as much work again. @param {() => boolean} over */
export async function warmMore(over) {
  await Promise.all([import("./node-style.mjs"), import("./server.mjs")]);
  if (over()) return;
  process.getBuiltinModule("node:http").createServer();
  process.getBuiltinModule("node:async_hooks");
  // Node's own fetch and its classes take 30 ms to load at their first use.
  if (!over()) await fetch("data:,");
  if (!over()) emptyNursery();
}

/** V8 collects its nursery when it is full: now, then, and not in the first moment of the function. */
export function emptyNursery() {
  let { heapUsed } = process.memoryUsage();
  for (let i = 0; i < stuffings; i++) {
    stuff.slice();
    const now = process.memoryUsage().heapUsed;
    if (now < heapUsed) break;
    heapUsed = now;
  }
}
