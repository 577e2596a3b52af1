// A neighbour on the same disk: writes 64 MiB and syncs, over and over, until it is told to stop; then says how long each sync took.

import { closeSync, fsyncSync, openSync, rmSync, writeSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";

const port = parentPort;
if (!port) throw new Error("a test starts it as a worker");
const block = Buffer.alloc(64 * 1024 * 1024, 7);
/** @type {number[]} */
const took = [];
let going = true;
port.on("message", () => (going = false));
const fd = openSync(workerData, "w");
while (going) {
  writeSync(fd, block, 0, block.length, 0);
  const startedMs = performance.now();
  fsyncSync(fd);
  took.push(performance.now() - startedMs);
  await new Promise((resolve) => setImmediate(resolve));
}
closeSync(fd);
rmSync(workerData);
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
port.postMessage(took);
port.close();
