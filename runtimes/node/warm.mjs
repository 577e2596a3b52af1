// What a pooled shim does while it waits: it loads and runs once whatever its function's first moment would otherwise pay for.
// Nothing here knows or touches any code of a tenant's, or writes any output.

import { rehearse } from "./rehearsal.mjs";

/** Of each style: enough for V8 to have compiled and warmed what an assignment and a call run through. */
const rounds = 3;

/** What every function needs. @param {() => boolean} over */
export async function warm(over) {
  await Promise.all([import("./compile-cache.mjs"), import("./web.mjs"), import("./event.mjs")]);
  if (process.platform === "linux" && !over()) await rehearse(rounds, over);
}

/** What some functions need: as much work again. @param {() => boolean} over */
export async function warmMore(over) {
  await Promise.all([import("./node-style.mjs"), import("./server.mjs")]);
  if (over()) return;
  process.getBuiltinModule("node:http").createServer();
  process.getBuiltinModule("node:async_hooks");
  // Node's own fetch and its classes take 30 ms to load at their first use.
  if (!over()) await fetch("data:,");
}
