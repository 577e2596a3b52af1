// What a pooled shim does while it waits: it loads and runs once whatever its function's first moment would otherwise pay for.

import { rehearse } from "./rehearsal.mjs";

/** Of each style: enough for V8 to have compiled and warmed what an assignment and a call run through. */
const rounds = 4;

/** Every shape may come; nothing here knows or touches any code of a tenant's, or writes any output. @param {() => boolean} over */
export async function warm(over) {
  await Promise.all([import("./node-style.mjs"), import("./server.mjs"), import("./web.mjs"), import("./event.mjs")]);
  if (over()) return;
  process.getBuiltinModule("node:http").createServer();
  process.getBuiltinModule("node:async_hooks");
  if (process.platform === "linux") await rehearse(rounds, over);
  // Node's own fetch and its classes take 30 ms to load at their first use.
  if (!over()) await fetch("data:,");
}
