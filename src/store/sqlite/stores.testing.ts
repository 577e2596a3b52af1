// The embedded store as the suite runs it: in its real worker thread, or on the thread of the test.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "#model/clock.ts";
import { createStore } from "../client.ts";
import { createMemoryStore } from "../memory/store.ts";
import type { StoreUnderTest } from "../suite.ts";
import { createSqliteDriver } from "./driver.ts";

const fatal = (reason: string): never => {
  throw new Error(reason);
};

export async function inItsWorker(): Promise<StoreUnderTest> {
  const directory = mkdtempSync(join(tmpdir(), "ebb-store-"));
  const { store, mirror } = createStore({ directory, clock: systemClock, tell: () => {}, fatal });
  await store.start();
  // A second connection to the same file, as the loader's side: WAL lets both.
  const ledger = createSqliteDriver({ directory, nowMs: Date.now });
  await ledger.open();
  return {
    store,
    mirror,
    ledger,
    async close() {
      await ledger.close();
      await store.stop();
      rmSync(directory, { recursive: true });
    },
  };
}

export async function onThisThread(): Promise<StoreUnderTest> {
  const directory = mkdtempSync(join(tmpdir(), "ebb-store-"));
  const { store, mirror, driver } = createMemoryStore(createSqliteDriver({ directory, nowMs: Date.now }));
  await store.start();
  return {
    store,
    mirror,
    ledger: driver,
    async close() {
      await store.stop();
      rmSync(directory, { recursive: true });
    },
  };
}
