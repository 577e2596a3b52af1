// The keeper works while something is written, sleeps otherwise, and lets old records go in small steps.

import assert from "node:assert/strict";
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { afterEach, beforeEach, describe, it, mock } from "node:test";
import { journalLimits, lifecycle, recordLimits } from "#model/limits.ts";
import { packRecords } from "#model/record-block.ts";
import type { UsageTotal } from "#model/usage.ts";
import { createMemoryDriver } from "#store/memory/driver.ts";
import { record, total } from "#store/fixtures/things.ts";
import type { Meter } from "./door.ts";
import { createKeeper, type Keeper } from "./keeper.ts";
import { createMeter } from "./meter.ts";
import {
  atOnce,
  beginMark,
  dataDirectory,
  endMark,
  HandClock,
  newLink,
  revisionOf,
  MarksById,
} from "./fixtures/rig.ts";
import { segmentsIn } from "./segment.ts";
import { JournalShared } from "./shared.ts";

const day = 86_400_000;

describe("keeper", () => {
  let place: ReturnType<typeof dataDirectory>;
  let clock: HandClock;
  let ledger: ReturnType<typeof createMemoryDriver>;
  let keeper: Keeper;
  let meter: Meter;
  let failures: string[];
  let shared: SharedArrayBuffer;
  let wakes: number;
  const segmentBytes = 8_192;

  beforeEach(async () => {
    place = dataDirectory();
    clock = new HandClock();
    ledger = createMemoryDriver();
    failures = [];
    wakes = 0;
    const wake = (): void => (wakes++, keeper.wake());
    const link = { ...newLink(), wake };
    shared = link.shared;
    const failed = (where: string): number => failures.push(where);
    keeper = createKeeper({ directory: place.journal, shared, ledger, clock, failed, segmentBytes });
    await keeper.start();
    const { directory } = place;
    meter = createMeter({
      directory,
      link,
      mirror: { project: () => null },
      clock,
      tell: () => {},
      defer: atOnce,
      segmentBytes,
    });
    await meter.start();
  });
  afterEach(async () => {
    await meter.stop();
    await keeper.stop();
    place.remove();
  });
  const run = (id: string): void => {
    const usage = { cpuNs: null, memoryPeakBytes: null };
    const marks = new MarksById(meter.instance({ id: "i", revision: revisionOf(), usage: () => usage }));
    assert.equal(marks.begin(beginMark(id, { timeMs: clock.wallMs() })), null);
    marks.end(endMark(id));
    marks.close();
  };
  /** Lets time pass, and what was started in it finish. */
  const settle = async (us: number): Promise<void> => {
    for (let passed = 0; passed < us; passed += 200_000) {
      clock.pass(200_000);
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  const ids = async (): Promise<string[]> =>
    (await ledger.invocations({ project: "default", limit: 10 })).map((one) => one.id);

  it("is woken once by the marks after a silence, behind the first call, and syncs as soon as if it had been at once", async () => {
    await settle(5_000_000);
    new JournalShared(shared).sleep();
    const before = wakes;
    for (let n = 0; n < 10; n++) run(`a${n}`);
    assert.equal(wakes, before);
    clock.pass(journalLimits.wakeAfterMs * 1_000);
    assert.equal(wakes, before + 1);
    const synced = mock.method(fs, "fdatasyncSync", () => {});
    syncBuiltinESMExports();
    try {
      clock.pass((lifecycle.fsyncEveryMs - journalLimits.wakeAfterMs) * 1_000);
      assert.equal(synced.mock.callCount(), 1);
    } finally {
      synced.mock.restore();
      syncBuiltinESMExports();
    }
  });

  it("loads within a second, then sleeps without a timer, and wakes with the next mark", async () => {
    run("a");
    await settle(1_400_000);
    assert.deepEqual(await ids(), ["a"]);
    await settle(1_000_000);
    assert.ok(clock.timers <= 1, "only the meter's own");
    await settle(2_000_000);
    assert.equal(clock.timers, 0);
    run("b");
    await settle(1_400_000);
    assert.deepEqual((await ids()).toSorted(), ["a", "b"]);
    assert.deepEqual(failures, []);
  });

  it("makes the next segment ahead, and deletes what is loaded", async () => {
    await settle(400_000);
    assert.deepEqual(segmentsIn(place.journal), [1, 2]);
    for (let n = 0; n < 300; n++) {
      run(`id-${n}`);
      if (n % 10 === 0) await settle(200_000);
    }
    await keeper.load();
    const current = new JournalShared(shared).written().segment;
    assert.ok(current > 5);
    await settle(400_000);
    assert.deepEqual(segmentsIn(place.journal), [current, current + 1]);
  });

  it("tries again when the ledger refuses, says so once, and loses nothing", async () => {
    const healthy = ledger.commit.bind(ledger);
    ledger.commit = () => Promise.reject(new Error("disk full"));
    run("a");
    await settle(5_000_000);
    assert.deepEqual(failures, ["metering: the journal cannot be loaded"]);
    ledger.commit = healthy;
    await settle(2_000_000);
    assert.deepEqual(await ids(), ["a"]);
  });

  it("lets one old day of records go an hour, in small steps, and keeps the totals", async () => {
    const old = clock.wallMs() - 30 * day;
    const many = recordLimits.deletedPerStep + 5;
    const records = Array.from({ length: many }, (_, n) => record(`old-${n}`, { timeMs: old }));
    records.push(record("next", { timeMs: old + day }));
    const position = { segment: 1, offsetBytes: 0 };
    const deleteRecords = ledger.deleteRecords.bind(ledger);
    const steps: number[] = [];
    ledger.deleteRecords = async (of) => {
      const deleted = await deleteRecords(of);
      steps.push(deleted);
      return deleted;
    };
    await ledger.commit({
      blocks: packRecords(records),
      totals: [total(old)],
      position,
      state: emptyState,
      damagedBytes: 0,
    });
    run("new");
    await settle(3_000_000);
    assert.deepEqual((await ids()).toSorted(), ["new", "next"]);
    assert.deepEqual(steps, [recordLimits.deletedPerStep, 5]);
    run("newer");
    await settle(3_000_000);
    assert.equal((await ids()).length, 3, "not twice within an hour");
    clock.pass(recordLimits.passEveryMs * 1_000);
    run("newest");
    await settle(3_000_000);
    assert.deepEqual((await ids()).toSorted(), ["new", "newer", "newest"]);
    assert.equal((await ledger.totalHours())?.oldestMs, old);
  });

  it("lets old records go although a client that asks all the time has everything loaded before", async () => {
    const old = clock.wallMs() - 30 * day;
    const records = [record("old", { timeMs: old }), record("next", { timeMs: old + day })];
    const position = { segment: 1, offsetBytes: 0 };
    await ledger.commit({ blocks: packRecords(records), totals: [], position, state: emptyState, damagedBytes: 0 });
    for (let n = 0; n < 10; n++) {
      run(`new-${n}`);
      await keeper.load();
      await settle(200_000);
    }
    assert.ok(!(await ledger.invocations({ project: "default", limit: 100 })).some(({ id }) => id === "old"));
    await settle(3_000_000);
    assert.equal(clock.timers, 0);
  });

  it("lets old totals go in small steps too, a day of them at a time", async () => {
    const old = clock.wallMs() - 1_000 * day;
    const many = recordLimits.deletedPerStep + 5;
    const ofDay = (hourMs: number, count: number): UsageTotal[] =>
      Array.from({ length: count }, (_, n) => total(hourMs, { workload: `w${n}` }));
    const totals = [...ofDay(old, many), ...ofDay(old + 2 * day, 3), total(clock.wallMs())];
    const deleteTotals = ledger.deleteTotals.bind(ledger);
    const steps: number[] = [];
    ledger.deleteTotals = async (before) => {
      const deleted = await deleteTotals(before);
      steps.push(deleted);
      return deleted;
    };
    const position = { segment: 1, offsetBytes: 0 };
    await ledger.commit({ blocks: [], totals, position, state: emptyState, damagedBytes: 0 });
    run("new");
    await settle(3_000_000);
    assert.deepEqual(steps, [recordLimits.deletedPerStep, 5, 0]);
    assert.equal((await ledger.totalHours())?.oldestMs, old + 2 * day);
  });
});

const emptyState = JSON.stringify({
  version: 1,
  clock: { wallMs: 0, atUs: 0 },
  lastMarkUs: 0,
  instances: [],
  provisions: [],
});
