// Loaded into a daemon by a test (NODE_OPTIONS --import): lets the test end its worker threads. Nothing of it is in ebb.
// A line `store` or `telemetry` on the Unix socket EBB_TEST_CONTROL terminates that worker; `stall store` makes it wait in the
// kernel for 30 s, as for a disk. The answer is `done`.

import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { createServer } from "node:net";
import { syncBuiltinESMExports } from "node:module";

const threads = process.getBuiltinModule("node:worker_threads");
const path = process.env.EBB_TEST_CONTROL;
const stalls = new threads.BroadcastChannel("ebb-test-stalls");
stalls.unref();
if (!threads.isMainThread)
  stalls.addEventListener("message", ({ data }) => {
    if (data !== `stall ${threads.threadName}`) return;
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    stalls.postMessage("stalled");
    execFileSync("sleep", ["30"]);
  });
// The command line starts with the same options; only what becomes a daemon is controlled.
if (path && threads.isMainThread && process.argv.includes("up")) {
  /** @type {Map<string | undefined, import("node:worker_threads").Worker>} */
  const named = new Map();
  threads.Worker = class extends threads.Worker {
    /**
     * @param {string | URL} file
     * @param {import("node:worker_threads").WorkerOptions} [options]
     */
    constructor(file, options) {
      super(file, options);
      named.set(options?.name, this);
    }
  };
  syncBuiltinESMExports();
  rmSync(path, { force: true }); // of one that was killed
  createServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", (data) => {
      const name = String(data).trim();
      if (name.startsWith("stall ")) {
        stalls.addEventListener("message", () => socket.end("done\n"), { once: true });
        // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
        return stalls.postMessage(name);
      }
      void Promise.resolve(named.get(name)?.terminate()).then(() => socket.end("done\n"));
    });
  })
    .listen(path)
    .unref();
}
