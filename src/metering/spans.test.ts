// The law of billing holds for every order of marks, and for a fold that is saved and resumed anywhere.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import * as fc from "fast-check";
import type { Frame } from "./frame.ts";
import type { InvocationRecord } from "#model/invocation.ts";
import type { UsageTotal } from "#model/usage.ts";
import { SpanFold } from "./spans.ts";

const open: Frame = { kind: "open", bootId: "boot", wallMs: 3_600_000, atUs: 0, epoch: 1 };
const instance = (n: number, min = 0, atUs = 0): Frame => ({
  kind: "instance",
  instance: n,
  atUs,
  id: `i${n}`,
  project: "p",
  workload: "w",
  revision: 1,
  memoryMb: 128,
  min,
});
/** One number for each name, as the meter gives each invocation one. */
const numbers = new Map<string, number>();
function numberOf(id: string): number {
  const known = numbers.get(id) ?? numbers.size + 1;
  numbers.set(id, known);
  return known;
}
const begin = (n: number, id: string, atUs: number, cpuNs: number | null = null): Frame => ({
  kind: "begin",
  instance: n,
  invocation: numberOf(id),
  atUs,
  id,
  trigger: "http",
  timeMs: 3_600_000,
  queuedUs: 0,
  startUs: 0,
  cold: false,
  cpuNs,
});
const answered = (n: number, id: string, atUs: number, status: number, bytesIn = 0, bytesOut = 0): Frame => ({
  kind: "answered",
  instance: n,
  invocation: numberOf(id),
  atUs,
  status,
  bytesIn,
  bytesOut,
});
const end = (n: number, id: string, atUs: number, cpuNs: number | null = null): Frame => ({
  kind: "end",
  instance: n,
  invocation: numberOf(id),
  atUs,
  outcome: "ok",
  status: 200,
  bytesIn: 0,
  bytesOut: 0,
  cpuNs,
});

function fold(frames: readonly Frame[]): {
  records: InvocationRecord[];
  totals: UsageTotal[];
  spansUs: number;
  stray: number;
} {
  const records: InvocationRecord[] = [];
  const folding = new SpanFold(null, (record) => records.push(record));
  for (const frame of [open, ...frames]) folding.apply(frame);
  return { records, totals: folding.takeTotals(), spansUs: folding.closedSpansUs, stray: folding.strayMarks };
}
const billed = (frames: readonly Frame[]): [string, number][] =>
  fold(frames).records.map((record) => [record.id, record.billedUs]);

describe("spans", () => {
  it("bills one invocation its time, rounded up to a millisecond", () => {
    assert.deepEqual(billed([instance(1), begin(1, "a", 10), end(1, "a", 1_211)]), [["a", 2_000]]);
    assert.deepEqual(billed([instance(1), begin(1, "a", 10), end(1, "a", 1_010)]), [["a", 1_000]]);
  });

  it("divides what overlaps, and gives the rounding to the last to end", () => {
    const frames = [instance(1), begin(1, "a", 0), begin(1, "b", 1_000), end(1, "a", 2_000), end(1, "b", 2_500)];
    assert.deepEqual(billed(frames), [
      ["a", 1_500],
      ["b", 1_500],
    ]);
  });

  it("lets nobody win or lose more than a microsecond for each neighbour that came and went", () => {
    const frames: Frame[] = [instance(1), begin(1, "long", 0), begin(1, "too", 0)];
    for (let n = 0; n < 100; n++) frames.push(begin(1, `s${n}`, 200 * n), end(1, `s${n}`, 200 * n + 100));
    frames.push(end(1, "long", 20_000), end(1, "too", 20_000));
    const shares = new Map(billed(frames));
    // 10,000 us shared by three, 10,000 us shared by two.
    const fair = 10_000 / 3 + 10_000 / 2;
    for (const id of ["long", "too"]) assert.ok(Math.abs(shares.get(id)! - fair) <= 100, String(shares.get(id)));
    for (let n = 0; n < 100; n++)
      assert.ok(Math.abs(shares.get(`s${n}`)! - 100 / 3) < 1.5, String(shares.get(`s${n}`)));
  });

  it("starts a new span after an idle time, which nobody is billed", () => {
    const frames = [instance(1), begin(1, "a", 0), end(1, "a", 500), begin(1, "b", 90_000), end(1, "b", 90_500)];
    assert.deepEqual(billed(frames), [
      ["a", 1_000],
      ["b", 1_000],
    ]);
  });

  it("interrupts what a dead daemon left, billed to its instance's last mark, with the status that went out", () => {
    const frames: Frame[] = [
      instance(1),
      begin(1, "a", 0, 100),
      { kind: "alive", instance: 1, atUs: 4_000, cpuNs: 900 },
      instance(2),
      begin(2, "b", 5_000),
      answered(2, "b", 6_500, 201, 7, 8),
      { ...open, atUs: 10 },
    ];
    const { records } = fold(frames);
    assert.deepEqual(
      records.map((one) => [one.id, one.outcome, one.status, one.billedUs, one.executionUs, one.cpuNs, one.bytesOut]),
      [
        ["a", "interrupted", null, 4_000, 4_000, 800, 0],
        ["b", "interrupted", 201, 2_000, 1_500, null, 8],
      ],
    );
  });

  it("counts what an instance burns while nothing is active in it, but for the first millisecond of each such time", () => {
    const ms = 1_000_000;
    const alive = (atUs: number, cpuNs: number): Frame => ({ kind: "alive", instance: 1, atUs, cpuNs });
    const { records, totals } = fold([
      instance(1),
      // The start-up is nobody's.
      begin(1, "a", 0, 80 * ms),
      end(1, "a", 1_000, 82 * ms),
      begin(1, "b", 600_000, 582 * ms),
      end(1, "b", 601_000, 583 * ms),
      alive(700_000, 583.75 * ms),
      alive(800_000, 584.25 * ms),
      alive(900_000, 587 * ms),
      begin(1, "c", 901_000, null),
      end(1, "c", 902_000, 588 * ms),
    ]);
    assert.deepEqual(
      records.map(({ cpuNs }) => cpuNs),
      [2 * ms, 1 * ms, null],
    );
    // 2 of a, 499 of 500 after it, 1 of b, 3 of 4 after it, 1 of c.
    assert.equal(totals[0]?.cpuNs, (2 + 499 + 1 + 3 + 1) * ms);
  });

  it("knows an invocation's CPU only where it ran alone, and the workload's always", () => {
    const alone = fold([instance(1), begin(1, "a", 0, 1_000), end(1, "a", 10, 4_000)]);
    assert.equal(alone.records[0]?.cpuNs, 3_000);
    assert.equal(alone.totals[0]?.cpuNs, 3_000);
    const frames = [instance(1), begin(1, "a", 0, 1_000), begin(1, "b", 5), end(1, "a", 8), end(1, "b", 9, 6_000)];
    const both = fold(frames);
    assert.deepEqual(
      both.records.map((record) => record.cpuNs),
      [null, null],
    );
    assert.equal(both.totals[0]?.cpuNs, 5_000);
  });

  it("counts idle instances up to min as provisioned, and an active one as not idle", () => {
    const frames: Frame[] = [instance(1, 1), instance(2, 1)];
    frames.push({ kind: "tick", atUs: 1_000, wallMs: 3_600_001 }, begin(1, "a", 1_000), end(1, "a", 3_000));
    frames.push({ kind: "close", instance: 1, atUs: 4_000 }, { kind: "close", instance: 2, atUs: 4_500 });
    // To 1,000 one of the two; none while one is active; one again to 4,500.
    const { totals } = fold(frames);
    assert.equal(
      totals.reduce((sum, total) => sum + total.provisionedUs, 0),
      2_500,
    );
    assert.equal(
      totals.reduce((sum, total) => sum + total.provisionedMbUs, 0),
      2_500 * 128,
    );
  });

  it("counts marks that belong to nothing, and bills nothing for them", () => {
    const result = fold([begin(7, "x", 1), instance(1), end(1, "y", 5), begin(1, "a", 6), begin(1, "a", 7)]);
    assert.equal(result.stray, 3);
    assert.deepEqual(result.records, []);
  });

  it("lets the sum of records be the sum of spans, for any marks and wherever the fold was saved", () => {
    const step = fc.record({
      n: fc.integer({ min: 1, max: 3 }),
      id: fc.integer({ min: 0, max: 9 }),
      gapUs: fc.oneof(fc.integer({ min: -5, max: 20 }), fc.integer({ min: 0, max: 5_000_000 })),
      what: fc.constantFrom("begin", "begin", "end", "end", "alive", "close", "answered", "open", "save"),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const result = walk(steps);
        const sum = result.records.reduce((total, record) => total + record.billedUs, 0);
        assert.equal(sum, result.spansUs);
        assert.equal(sum % 1_000, 0);
        assert.equal(result.totals, sum);
        assert.equal(result.records.length, result.begun);
        for (const record of result.records) assert.ok(Number.isSafeInteger(record.billedUs) && record.billedUs >= 0);
        const busyUs = Math.ceil(result.busyUs);
        assert.ok(sum >= busyUs && sum < busyUs + 1_000 * Math.max(1, result.spans), `${sum} for ${busyUs}`);
      }),
      { numRuns: 300 },
    );
  });
});

interface Step {
  readonly n: number;
  readonly id: number;
  readonly gapUs: number;
  readonly what: string;
}

/** Applies random steps and keeps, apart from the fold and simply, what must come out. */
function walk(steps: readonly Step[]): {
  records: InvocationRecord[];
  spansUs: number;
  totals: number;
  begun: number;
  busyUs: number;
  spans: number;
} {
  const result = { records: [] as InvocationRecord[], totals: 0, begun: 0, busyUs: 0, spans: 0 };
  const record = (of: InvocationRecord): number => result.records.push(of);
  let folding = new SpanFold(null, record);
  let spansUs = 0;
  let atUs = 1_000;
  const lastUs = new Map<number, number>();
  const active = new Map<number, Map<string, true>>();
  const startUs = new Map<number, number>();
  const take = (): void => {
    for (const total of folding.takeTotals()) result.totals += total.billedUs;
  };
  const closed = (n: number, us: number): void => {
    if (active.get(n)!.size > 0) {
      result.busyUs += us - startUs.get(n)!;
      result.spans++;
    }
    active.get(n)!.clear();
  };
  const start = (): void => {
    folding.apply({ ...open, atUs });
    for (const n of [1, 2, 3]) {
      folding.apply(instance(n, n - 1, atUs));
      lastUs.set(n, atUs);
      active.set(n, new Map());
    }
  };
  start();
  for (const { n, id, gapUs, what } of [...steps, { n: 1, id: 0, gapUs: 1, what: "open" }]) {
    atUs = Math.max(1_000, atUs + gapUs);
    const us = Math.max(atUs, lastUs.get(n)!);
    const name = `${n}-${id}`;
    const of = active.get(n)!;
    if (what === "save") {
      take();
      spansUs += folding.closedSpansUs;
      folding = new SpanFold(folding.save(), record);
    } else if (what === "open") {
      for (const m of [1, 2, 3]) closed(m, lastUs.get(m)!);
      start();
    } else if (what === "begin") {
      lastUs.set(n, us);
      folding.apply(begin(n, name, atUs));
      if (of.has(name)) continue;
      if (of.size === 0) startUs.set(n, us);
      of.set(name, true);
      result.begun++;
    } else if (what === "end") {
      lastUs.set(n, us);
      folding.apply(end(n, name, atUs));
      if (of.size === 1 && of.has(name)) closed(n, us);
      of.delete(name);
    } else if (what === "close") {
      folding.apply({ kind: "close", instance: n, atUs });
      closed(n, us);
      folding.apply(instance(n, n - 1, us));
      lastUs.set(n, us);
    } else {
      lastUs.set(n, us);
      if (what === "alive") folding.apply({ kind: "alive", instance: n, atUs, cpuNs: null });
      else folding.apply(answered(n, name, atUs, 200));
    }
  }
  take();
  return { ...result, spansUs: spansUs + folding.closedSpansUs };
}
