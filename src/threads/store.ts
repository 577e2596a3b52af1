// The store's worker thread: where the embedded driver and the journal's keeper meet. Wiring, no logic.

import { parentPort, workerData } from "node:worker_threads";
import { yieldToMain } from "#lib/thread-priority.ts";
import { systemClock } from "#model/clock.ts";
import { createKeeper } from "#metering/keeper.ts";
import { journalDirectory } from "#metering/segment.ts";
import type { StoreWorkerData } from "#store/protocol.ts";
import { serveStore } from "#store/serve.ts";
import { createSqliteDriver } from "#store/sqlite/driver.ts";

if (!parentPort) throw new Error("the store's worker is started by the daemon, not by hand");
const { directory, shared, segmentBytes } = workerData as StoreWorkerData;
yieldToMain();
const clock = systemClock;
const driver = createSqliteDriver({ directory, nowMs: () => clock.wallMs() });

await serveStore({
  port: parentPort,
  driver,
  keep: (failed) =>
    createKeeper({
      directory: journalDirectory(directory),
      shared,
      ledger: driver,
      clock,
      failed,
      ...(segmentBytes === null ? {} : { segmentBytes }),
    }),
});
