// What a pooled shim does while it waits: loads whatever its function's first moment would otherwise pay for.

/** Every shape may come; nothing here knows or touches any code of a tenant's. */
export async function warm() {
  await Promise.all([
    import("./assign.mjs"),
    import("./connections.mjs"),
    import("./web.mjs"),
    import("./event.mjs"),
    import("./node-style.mjs"),
    import("./server.mjs"),
  ]);
  process.getBuiltinModule("node:http").createServer();
  // Node's fetch and its classes take 30 ms to load at their first use.
  await fetch("data:,");
  process.getBuiltinModule("node:async_hooks");
  await import("node:url");
}
