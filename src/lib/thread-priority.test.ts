// A thread that yields is the only one of its process that does.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { Worker } from "node:worker_threads";

/** Of each thread of this process: proc_pid_stat(5), field 19. */
function nicenesses(): Map<string, number> {
  return new Map(
    readdirSync("/proc/self/task").map((id) => {
      const stat = readFileSync(`/proc/self/task/${id}/stat`, "latin1");
      return [id, Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[16])];
    }),
  );
}

test(
  "a worker that yields has less weight, and the main thread what it had",
  { skip: process.platform !== "linux" },
  async () => {
    const before = nicenesses();
    const worker = new Worker(
      `const { parentPort } = require("node:worker_threads");
     import(${JSON.stringify(new URL("./thread-priority.ts", import.meta.url).href)}).then(({ yieldToMain }) => {
       yieldToMain();
       parentPort.postMessage("yields");
     });
     parentPort.on("message", () => parentPort.close());`,
      { eval: true },
    );
    try {
      await once(worker, "message");
      const now = nicenesses();
      for (const [id, niceness] of before) if (now.has(id)) assert.equal(now.get(id), niceness, `thread ${id}`);
      const main = before.get(String(process.pid))!;
      assert.equal([...now].filter(([id, niceness]) => !before.has(id) && niceness === main + 5).length, 1);
    } finally {
      await worker.terminate();
    }
  },
);
