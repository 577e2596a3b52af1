// Loaded into a daemon by a test (NODE_OPTIONS --import): lets the test end its worker threads. Nothing of it is in ebb.
// A line `store` or `telemetry` on the Unix socket EBB_TEST_CONTROL terminates that worker; the answer is `done`.

import { rmSync } from "node:fs";
import { createServer } from "node:net";
import { syncBuiltinESMExports } from "node:module";

const threads = process.getBuiltinModule("node:worker_threads");
const path = process.env.EBB_TEST_CONTROL;
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
      const ended = Promise.resolve(named.get(String(data).trim())?.terminate());
      void ended.then(() => socket.end("done\n"));
    });
  })
    .listen(path)
    .unref();
}
