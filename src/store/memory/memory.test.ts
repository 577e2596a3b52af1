// The store in memory passes the suite.

import { storeSuite } from "../suite.ts";
import { createMemoryStore } from "./store.ts";

storeSuite("memory", async () => {
  const { store, mirror, driver } = createMemoryStore();
  await store.start();
  return { store, mirror, ledger: driver, close: () => store.stop() };
});
