// The meter writes marks that come out of the loader as records: each once, to the microsecond.

import assert from "node:assert/strict";
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { afterEach, beforeEach, describe, it, mock } from "node:test";
import { EbbError } from "#model/errors.ts";
import type { Fact } from "#model/fact.ts";
import type { Project } from "#model/workload.ts";
import type { Marked, Meter } from "./door.ts";
import { Loader } from "./loader.ts";
import { createMeter } from "./meter.ts";
import {
  atOnce,
  beginMark,
  dataDirectory,
  endMark,
  HandClock,
  MemoryLedger,
  newLink,
  revisionOf,
  MarksById,
} from "./fixtures/rig.ts";
import { segmentsIn } from "./segment.ts";
import { JournalShared } from "./shared.ts";

describe("meter", () => {
  let place: ReturnType<typeof dataDirectory>;
  let clock: HandClock;
  let ledger: MemoryLedger;
  let link: ReturnType<typeof newLink>;
  let facts: Fact[];
  let meter: Meter;
  let loader: Loader;
  let rate: number | null;
  let defer: (run: () => void) => void;
  const usage = { cpuNs: 0 as number | null, memoryPeakBytes: null };

  const project = (name: string): Project => ({
    name,
    createdMs: 1,
    quotas: { memoryMb: null, instances: null, ratePerSecond: rate },
  });
  const tell = (fact: Fact): number => facts.push(fact);
  const open = (segmentBytes?: number): void => {
    link = newLink();
    const size = segmentBytes === undefined ? {} : { segmentBytes };
    meter = createMeter({ directory: place.directory, link, mirror: { project }, clock, tell, defer, ...size });
    loader = new Loader({ directory: place.journal, shared: new JournalShared(link.shared), ledger });
  };
  beforeEach(() => {
    place = dataDirectory();
    clock = new HandClock();
    ledger = new MemoryLedger();
    facts = [];
    rate = null;
    defer = atOnce;
    usage.cpuNs = 0;
    open(1024 * 1024);
  });
  afterEach(async () => {
    await meter.stop();
    await loader.close();
    place.remove();
  });
  const instance = (id = "i1", min = 0): MarksById =>
    new MarksById(meter.instance({ id, revision: revisionOf("default", "hello", min), usage: () => ({ ...usage }) }));

  it("makes one record of a begin and an end", async () => {
    await meter.start();
    const marks = instance();
    usage.cpuNs = 1_000;
    assert.equal(marks.begin(beginMark("a", { cold: true, startUs: 40_000, queuedUs: 12 })), null);
    clock.pass(1_234);
    usage.cpuNs = 701_000;
    marks.end(endMark("a", { status: 503, outcome: "error", bytesOut: 9 }));
    await loader.load();
    assert.deepEqual(ledger.records, [
      {
        id: "a",
        project: "default",
        workload: "hello",
        revision: 3,
        instance: "i1",
        trigger: "http",
        timeMs: Date.UTC(2026, 0, 1),
        cold: true,
        queuedUs: 12,
        startUs: 40_000,
        executionUs: 1_234,
        billedUs: 2_000,
        memoryMb: 256,
        cpuNs: 700_000,
        bytesIn: 3,
        bytesOut: 9,
        status: 503,
        outcome: "error",
      },
    ]);
    assert.equal(ledger.sum("memoryMbUs"), 2_000 * 256);
    assert.equal(ledger.sum("errors"), 1);
    assert.deepEqual(facts, []);
  });

  it("counts what is burnt between two invocations once: as the second's within a millisecond, as idle time's after it", async () => {
    await meter.start();
    const marks = instance();
    for (const [id, gapUs, counted] of [
      ["a", 0, false],
      ["b", 900, false],
      ["c", 500_000, false],
      ["d", 900, true],
    ] as const) {
      clock.pass(gapUs);
      usage.cpuNs! += 3_000_000;
      if (counted) marks.meter.released();
      marks.begin(beginMark(id));
      clock.pass(1_000);
      usage.cpuNs! += 1_000_000;
      marks.end(endMark(id));
    }
    await loader.load();
    const cpuNs = ledger.records.map((record) => record.cpuNs);
    assert.deepEqual(cpuNs, [1_000_000, 4_000_000, 1_000_000, 1_000_000]);
    // Idle before c and before d: all but the first millisecond's.
    assert.equal(ledger.sum("cpuNs"), 7_000_000 + 2 * 2_000_000);
  });

  it("has no timer while nothing is active, and one mark a second while something is", async () => {
    await meter.start();
    assert.equal(clock.timers, 0);
    const marks = instance();
    marks.begin(beginMark("a"));
    clock.pass(3_500_000);
    await loader.load();
    assert.equal(clock.timers, 1);
    marks.end(endMark("a"));
    clock.pass(1_000_000);
    assert.equal(clock.timers, 0);
    await meter.stop();
    await meter.start();
    await loader.load();
    assert.equal(ledger.records[0]?.billedUs, 3_500_000);
  });

  it("bills what a killed daemon left up to its last mark", async () => {
    await meter.start();
    const marks = instance();
    marks.begin(beginMark("a"));
    marks.begin(beginMark("b"));
    marks.answered({ id: "b", status: 204, bytesIn: 0, bytesOut: 0 });
    clock.pass(2_700_000);
    open();
    await meter.start();
    await loader.load();
    assert.deepEqual(
      ledger.records.map((one) => [one.id, one.outcome, one.status, one.billedUs]),
      [
        ["a", "interrupted", null, 1_000_000],
        ["b", "interrupted", 204, 1_000_000],
      ],
    );
  });

  it("goes on where the loader stopped, also with invocations open, and counts nothing twice", async () => {
    await meter.start();
    const marks = instance();
    marks.begin(beginMark("a"));
    clock.pass(400);
    await loader.load();
    await loader.close();
    loader = new Loader({ directory: place.journal, shared: new JournalShared(link.shared), ledger });
    clock.pass(300);
    marks.end(endMark("a"));
    ledger.failNext = new Error("disk");
    await assert.rejects(loader.load(), /disk/);
    await loader.load();
    await loader.load();
    assert.deepEqual(
      ledger.records.map((one) => [one.id, one.executionUs]),
      [["a", 700]],
    );
    assert.equal(ledger.sum("requests"), 1);
  });

  it("rolls over many segments without losing a mark, with ends far behind their begins", async () => {
    open(4_096);
    await meter.start();
    const marks = Array.from({ length: 5 }, (_, n) => instance(`i${n}`));
    const ids: string[] = [];
    for (let n = 0; n < 500; n++) {
      clock.pass(10);
      ids.push(`id-${n}`);
      assert.equal(marks[n % 5]!.begin(beginMark(`id-${n}`)), null);
      if (n >= 20) marks[(n - 20) % 5]!.end(endMark(`id-${n - 20}`));
    }
    for (let n = 480; n < 500; n++) marks[n % 5]!.end(endMark(`id-${n}`));
    assert.ok(segmentsIn(place.journal).length > 10);
    await loader.load();
    assert.deepEqual(ledger.records.map((one) => one.id).toSorted(), ids.toSorted());
    assert.ok(ledger.records.every((one) => one.outcome === "ok"));
    assert.equal(ledger.damagedBytes, 0);
  });

  it("refuses what comes twice or too late, and says so", async () => {
    await meter.start();
    const marks = instance();
    assert.equal(marks.begin(beginMark("a")), null);
    marks.end(endMark("a"));
    marks.end(endMark("a"));
    assert.equal(facts.length, 1);
    marks.close();
    marks.close();
    assert.equal(marks.begin(beginMark("b"))?.code, "internal");
    await loader.load();
    assert.equal(ledger.records.length, 1);
  });

  it("interrupts what is still active when its instance is closed, and keeps what was answered", async () => {
    await meter.start();
    const marks = instance();
    marks.begin(beginMark("a"));
    marks.answered({ id: "a", status: 200, bytesIn: 1, bytesOut: 2 });
    marks.close();
    await loader.load();
    assert.deepEqual(
      ledger.records.map((one) => [one.outcome, one.status, one.bytesOut]),
      [["interrupted", 200, 2]],
    );
  });

  it("counts what an instance burns while nothing is active in it, up to its release, and not as anybody's call", async () => {
    await meter.start();
    const marks = instance();
    marks.begin(beginMark("a"));
    usage.cpuNs = 5_000_000;
    marks.end(endMark("a"));
    clock.pass(30_000_000);
    usage.cpuNs = 905_000_000;
    marks.released();
    marks.close();
    await loader.load();
    assert.equal(ledger.records[0]?.cpuNs, 5_000_000);
    // All but the first millisecond of its idle time: docs/decisions/idle-cpu.md.
    assert.equal(ledger.sum("cpuNs"), 904_000_000);
  });

  it("records what ran nowhere", async () => {
    await meter.start();
    const end = endMark("a", { outcome: "refused", status: 429 });
    meter.refused({ project: "default", workload: "hello", revision: null, mark: beginMark("a"), end });
    await loader.load();
    const only = ledger.records[0]!;
    assert.deepEqual([only.outcome, only.billedUs, only.revision, only.instance], ["refused", 0, null, null]);
    assert.equal(only.status, 429);
  });

  it("counts the idle time of min instances each minute, also when the daemon is killed", async () => {
    await meter.start();
    instance("i1", 1);
    clock.pass(150_000_000);
    assert.equal(clock.timers, 1);
    open();
    await meter.start();
    await loader.load();
    assert.equal(ledger.sum("provisionedUs"), 120_000_000);
    assert.equal(ledger.sum("billedUs"), 0);
  });

  it("admits by the project's rate, as it is now", async () => {
    assert.equal(meter.admit("p", 0), null);
    rate = 2;
    assert.equal(meter.admit("p", 0), null);
    assert.equal(meter.admit("p", 0), null);
    const refusal = meter.admit("p", 0);
    assert.ok(refusal instanceof EbbError);
    assert.equal(refusal.code, "rate_limited");
    assert.equal(refusal.retryAfterSeconds, 1);
    assert.equal(meter.admit("q", 0), null);
    assert.equal(meter.admit("p", 500_000), null);
    rate = null;
    for (let n = 0; n < 100; n++) assert.equal(meter.admit("p", 500_000), null);
  });

  describe("the marks of a turn", () => {
    let turn: (() => void)[];
    const told: string[] = [];
    const waiting = (name: string): Marked => ({
      marked: (problem) => told.push(problem === null ? name : `${name} ${problem.code}`),
    });
    beforeEach(async () => {
      turn = [];
      told.length = 0;
      defer = (run) => turn.push(run);
      open();
      await meter.start();
    });
    const endTurn = (): void => {
      for (const run of turn.splice(0)) run();
    };
    const position = (): number => new JournalShared(link.shared).written().position;

    it("are written together at its end, and whoever waits for one is told then, in their order", async () => {
      endTurn();
      const before = position();
      const marks = instance();
      assert.equal(marks.begin(beginMark("a"), waiting("begin a")), null);
      assert.equal(marks.begin(beginMark("b"), waiting("begin b")), null);
      assert.equal(position(), before);
      assert.deepEqual(told, []);
      assert.equal(turn.length, 1);
      endTurn();
      assert.ok(position() > before);
      assert.deepEqual(told.splice(0), ["begin a", "begin b"]);
      marks.end(endMark("a"), waiting("end a"));
      marks.answered({ id: "b", status: 200, bytesIn: 0, bytesOut: 0 }, waiting("answered b"));
      assert.deepEqual(told, []);
      meter.flush();
      assert.deepEqual(told.splice(0), ["end a", "answered b"]);
      endTurn();
      assert.deepEqual(told, []);
      await loader.load();
      assert.deepEqual(
        ledger.records.map((one) => one.id),
        ["a"],
      );
    });

    it("that the disk refuses begin nothing, keep every end, and are made up for by the next turn", async () => {
      const marks = instance();
      marks.begin(beginMark("a"), waiting("begin a"));
      endTurn();
      told.length = 0;
      const write = mock.method(fs, "writeSync", () => {
        throw Object.assign(new Error("EIO: i/o error, write"), { code: "EIO" });
      });
      syncBuiltinESMExports();
      const other = instance("i2");
      other.begin(beginMark("b"), waiting("begin b"));
      marks.end(endMark("a"), waiting("end a"));
      endTurn();
      assert.deepEqual(told.splice(0), ["begin b storage_full", "end a storage_full"]);
      assert.deepEqual(
        facts.map((fact) => fact.kind === "defect" && fact.where),
        ["metering: a mark is late"],
      );
      write.mock.restore();
      syncBuiltinESMExports();
      // What was refused is not half begun: it can begin again.
      assert.equal(other.begin(beginMark("b"), waiting("begin b")), null);
      endTurn();
      assert.deepEqual(told, ["begin b"]);
      other.end(endMark("b"));
      endTurn();
      await loader.load();
      assert.deepEqual(
        ledger.records.map((one) => [one.id, one.instance, one.outcome]),
        [
          ["a", "i1", "ok"],
          ["b", "i2", "ok"],
        ],
      );
      assert.equal(ledger.damagedBytes, 0);
    });

    it("of which the disk took a part are not believed after a kill", async () => {
      const marks = instance();
      marks.begin(beginMark("before"));
      endTurn();
      const { writeSync } = fs;
      let torn = false;
      const write = mock.method(fs, "writeSync", ((
        fd: number,
        bytes: Buffer,
        offset: number,
        length: number,
        at: number,
      ) => {
        if (torn) return writeSync(fd, bytes, offset, length, at);
        if (offset > 0) {
          torn = true;
          throw Object.assign(new Error("EIO: i/o error, write"), { code: "EIO" });
        }
        return writeSync(fd, bytes, offset, length - 10, at);
      }) as typeof fs.writeSync);
      syncBuiltinESMExports();
      marks.begin(beginMark("b"), waiting("b"));
      marks.begin(beginMark("c"), waiting("c"));
      endTurn();
      write.mock.restore();
      syncBuiltinESMExports();
      assert.deepEqual(told, ["b storage_full", "c storage_full"]);
      // Killed here; the next daemon finds what is in the file.
      open();
      defer = atOnce;
      await meter.start();
      await loader.load();
      assert.deepEqual(
        ledger.records.map((one) => one.id),
        ["before"],
      );
    });

    it("that are more than the buffer holds are written in between, none lost and none twice", async () => {
      const marks = Array.from({ length: 40 }, (_, n) => instance(`i${n}`));
      for (let n = 0; n < 4_000; n++) assert.equal(marks[n % 40]!.begin(beginMark(`id-${n}`), waiting(`${n}`)), null);
      endTurn();
      assert.equal(told.length, 4_000);
      for (let n = 0; n < 4_000; n++) marks[n % 40]!.end(endMark(`id-${n}`));
      endTurn();
      await loader.load();
      assert.equal(new Set(ledger.records.map((one) => one.id)).size, 4_000);
      assert.equal(ledger.records.length, 4_000);
    });
  });
});
