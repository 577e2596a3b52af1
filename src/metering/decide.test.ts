// Admission by rate, and what retention may throw away.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import * as fc from "fast-check";
import { recordLimits } from "#model/limits.ts";
import { decideRate, decideRetention, type Bucket } from "./decide.ts";

const day = 86_400_000;
const days = (project: string, ...of: number[]): { project: string; dayMs: number; records: number }[] =>
  of.map((n) => ({ project, dayMs: n * day, records: 10 }));

describe("rate", () => {
  it("admits a burst of a second's worth and then the rate, whatever the arrivals", () => {
    const gaps = fc.array(fc.integer({ min: 0, max: 400_000 }), { maxLength: 300 });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 100 }), gaps, (rate, arrivals) => {
        let bucket: Bucket | null = null;
        let nowUs = 0;
        let admitted = 0;
        for (const gap of arrivals) {
          nowUs += gap;
          const decision = decideRate(bucket, rate, nowUs);
          bucket = decision.bucket;
          if (decision.admitted) admitted++;
          else {
            const later = decideRate(bucket, rate, nowUs + decision.retryAfterUs + 1);
            assert.ok(later.admitted, "it is admitted when it was told to come back");
          }
          assert.ok(admitted <= rate + (rate * nowUs) / 1_000_000 + 1e-6);
        }
      }),
    );
  });

  it("does not refuse what comes slower than the rate", () => {
    let bucket: Bucket | null = null;
    for (let n = 0; n < 100; n++) {
      const decision = decideRate(bucket, 10, n * 100_001);
      assert.ok(decision.admitted);
      bucket = decision.bucket;
    }
  });

  it("holds a clock that steps back, a rate below one a second, and a rate of none", () => {
    const first = decideRate(null, 0.5, 1_000_000);
    assert.ok(first.admitted);
    const back = decideRate(first.bucket, 0.5, 0);
    assert.equal(back.admitted, false);
    assert.equal(back.retryAfterUs, 2_000_000);
    assert.equal(decideRate({ tokens: 0, filledUs: 0 }, 0, 10 ** 12).admitted, false);
  });
});

describe("retention", () => {
  const keptDays = recordLimits.keptDays;

  it("keeps everything while it is young and small", () => {
    const decision = decideRetention(days("p", 100, 101, 100 + keptDays), null);
    assert.deepEqual(decision, { delete: [], totalsBeforeMs: null });
  });

  it("lets the oldest day of each project go, one a pass, by the newest record of all", () => {
    const decision = decideRetention([...days("p", 100, 101, 120), ...days("idle", 90)], null);
    assert.deepEqual(
      decision.delete.map(({ project, dayMs, records }) => [project, dayMs / day, records]),
      [
        ["p", 100, 10],
        ["idle", 90, 10],
      ],
    );
  });

  it("takes one day even if a record says that it is 2099", () => {
    const of = days("p", 100, 101, 102, 40_000);
    assert.deepEqual(
      decideRetention(of, null).delete.map(({ dayMs }) => dayMs / day),
      [100],
    );
  });

  it("takes from the oldest day just what is more than the project's space", () => {
    const most = Math.floor(recordLimits.keptBytesPerProject / recordLimits.recordBytes);
    const of = [
      { project: "p", dayMs: day, records: 1_000 },
      { project: "p", dayMs: 2 * day, records: most - 400 },
    ];
    assert.equal(decideRetention(of, null).delete[0]?.records, 600);
    const inOneDay = [{ project: "p", dayMs: day, records: most + 7 }];
    assert.equal(decideRetention(inOneDay, null).delete[0]?.records, 7);
  });

  it("keeps totals 25 months, and takes a day's worth of older ones", () => {
    const newestMs = Date.UTC(2026, 5, 15, 10);
    const keptFromMs = Date.UTC(2024, 4, 1);
    assert.equal(decideRetention([], { oldestMs: keptFromMs, newestMs }).totalsBeforeMs, null);
    const old = Date.UTC(2023, 0, 1);
    assert.equal(decideRetention([], { oldestMs: old, newestMs }).totalsBeforeMs, old + day);
    const justOld = keptFromMs - 3_600_000;
    assert.equal(decideRetention([], { oldestMs: justOld, newestMs }).totalsBeforeMs, keptFromMs);
  });
});
