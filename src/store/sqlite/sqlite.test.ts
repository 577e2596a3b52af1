// The embedded store, in its real worker thread, passes the suite.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "#model/clock.ts";
import { createStore } from "../client.ts";
import { storeSuite } from "../suite.ts";
import { createSqliteDriver } from "./driver.ts";

const fatal = (reason: string): never => {
  throw new Error(reason);
};

storeSuite("sqlite in its worker", async () => {
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
});
