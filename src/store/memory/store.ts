// The whole door over the memory driver, on one thread: what simulations and other rooms' tests use.

import type { Mirror, Store } from "../door.ts";
import type { StoreDriver } from "../driver.ts";
import { MapMirror } from "../mirror.ts";
import { eachPart, loadAll } from "../parts.ts";
import { createMemoryDriver } from "./driver.ts";

export function createMemoryStore(driver: StoreDriver = createMemoryDriver()): {
  readonly store: Store;
  readonly mirror: Mirror;
  readonly driver: StoreDriver;
} {
  const mirror = new MapMirror();
  const store: Store = {
    async start() {
      await driver.open();
      const refill = mirror.refill();
      await eachPart(
        (after) => driver.load(after),
        (part) => refill.add(part),
      );
      refill.done();
    },
    stop: () => driver.close(),
    load: () => loadAll((after) => driver.load(after)),
    async apply(change) {
      mirror.apply(change.mutations, await driver.apply(change));
    },
    audit: (entry) => driver.audit(entry),
    audits: (query) => driver.audits(query),
    revisions: (key) => driver.revisions(key),
    runs: (query) => driver.runs(query),
    openRuns: () => driver.openRuns(),
    updateRuns: (runs) => driver.updateRuns(runs),
    contentDigests: async () => new Set(await driver.contentDigests()),
    invocations: (query) => driver.invocations(query),
    usage: (query) => driver.usage(query),
    retention: () => driver.retention(),
  };
  return { store, mirror, driver };
}
