// Meter, store and the worker between them, as the daemon wires them.

import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { systemClock } from "#model/clock.ts";
import { EbbError } from "#model/errors.ts";
import type { Fact } from "#model/fact.ts";
import { newInvocationId } from "#model/ids.ts";
import type { Meter } from "#metering/door.ts";
import { createMeter } from "#metering/meter.ts";
import { atOnce, beginMark, endMark, revisionOf, MarksById } from "#metering/fixtures/rig.ts";
import { journalDirectory, segmentsIn } from "#metering/segment.ts";
import { createStore } from "#store/client.ts";
import type { Store } from "#store/door.ts";

const fatal = (reason: string): never => assert.fail(reason);

describe("meter and store together", () => {
  let directory: string;
  let worker: Worker;
  let store: Store;
  let meter: Meter;
  let facts: Fact[];
  const segmentBytes = 128 * 1024;
  const usage = { cpuNs: 5, memoryPeakBytes: null };

  const tell = (fact: Fact): number => facts.push(fact);
  const start = async (): Promise<void> => {
    const clock = systemClock;
    const created = createStore({
      directory,
      clock,
      tell,
      fatal,
      segmentBytes,
      startWorker: (workerData) => (worker = new Worker(new URL("./store.ts", import.meta.url), { workerData })),
    });
    store = created.store;
    await store.start();
    meter = createMeter({
      directory,
      link: created.journal,
      mirror: created.mirror,
      clock,
      tell,
      defer: atOnce,
      segmentBytes,
    });
    await meter.start();
  };
  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), "ebb-both-"));
    facts = [];
    await start();
  });
  afterEach(async () => {
    await meter.stop();
    await store.stop();
    rmSync(directory, { recursive: true, force: true });
  });
  const run = (count: number): string[] => {
    const marks = new MarksById(meter.instance({ id: "i1", revision: revisionOf(), usage: () => usage }));
    const ids = Array.from({ length: count }, () => newInvocationId(Date.now()));
    for (const id of ids) {
      assert.equal(marks.begin(beginMark(id)), null);
      marks.end(endMark(id));
    }
    marks.close();
    return ids;
  };
  const recorded = async (): Promise<Set<string>> => {
    const records = await store.invocations({ project: "default", limit: 10_000 });
    const ids = new Set(records.map((record) => record.id));
    assert.equal(ids.size, records.length);
    return ids;
  };

  it("answers a query with everything that has ended before it was asked", async () => {
    assert.deepEqual(await recorded(), new Set());
    for (let round = 1; round <= 3; round++) {
      run(50);
      assert.equal((await recorded()).size, 50 * round);
    }
    const [total] = await store.usage({ project: "default", sinceMs: 0, untilMs: Number.MAX_SAFE_INTEGER });
    assert.equal(total?.requests, 150);
  });

  it("loads by itself, makes segments ahead, and deletes what is loaded", async () => {
    run(5_000);
    const journal = journalDirectory(directory);
    const newest = segmentsIn(journal).at(-1)!;
    const deadline = Date.now() + 10_000;
    const done = (): boolean => segmentsIn(journal).length <= 2 && segmentsIn(journal)[0]! >= newest;
    // The newest may be one made ahead: then it takes some more until it is written to, and what was before it goes.
    for (; !done() && Date.now() < deadline; run(10)) await delay(20);
    assert.ok(segmentsIn(journal).length <= 2, segmentsIn(journal).join());
    assert.ok(segmentsIn(journal)[0]! >= newest);
    assert.deepEqual(facts, []);
  });

  it("loses nothing and counts nothing twice when the worker dies under load", async () => {
    const ids: string[] = [];
    let refused = 0;
    const query = async (): Promise<void> => {
      try {
        await recorded();
      } catch (error) {
        assert.ok(error instanceof EbbError && error.code === "store_unavailable", String(error));
        refused++;
      }
    };
    for (let round = 0; round < 40; round++) {
      ids.push(...run(100));
      const asked = query();
      if (round === 10 || round === 25) await worker.terminate();
      else if (round % 4 === 0) await asked;
      await asked;
      await delay(1);
    }
    assert.ok(refused > 0);
    const deadline = Date.now() + 10_000;
    let all = new Set<string>();
    while (Date.now() < deadline)
      try {
        all = await recorded();
        break;
      } catch {
        await delay(10);
      }
    assert.deepEqual(all, new Set(ids));
    assert.deepEqual(
      facts.map((fact) => fact.kind),
      ["worker_restarted", "worker_restarted"],
    );
  });

  it("meters on when somebody has deleted the journal's files", async () => {
    const ids = run(20);
    assert.deepEqual(await recorded(), new Set(ids));
    await meter.stop();
    await store.stop();
    rmSync(journalDirectory(directory), { recursive: true });
    await start();
    ids.push(...run(20));
    assert.deepEqual(await recorded(), new Set(ids));
  });

  it("has everything in the store after an orderly stop, and goes on after the next start", async () => {
    const ids = run(100);
    await meter.stop();
    await store.stop();
    assert.ok(!existsSync(join(directory, "pid")));
    await start();
    ids.push(...run(10));
    assert.deepEqual(await recorded(), new Set(ids));
  });
});
