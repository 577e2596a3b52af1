// What pauses make of how long an instance is kept and when one is expected: tables, and what holds for every history.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { functionDefaults, keepAliveLimits } from "#model/limits.ts";
import {
  newHistory,
  pauseMaxUs,
  pauseMinUs,
  planPause,
  remember,
  standing,
  whyExpecting,
  type PauseHistory,
  type PausePlan,
} from "./keep-alive.ts";

const defaultUs = functionDefaults.idleSeconds * 1e6;

function historyOf(...seconds: readonly number[]): PauseHistory {
  const history = newHistory();
  for (const each of seconds) remember(history, each * 1e6);
  return history;
}

function times(count: number, seconds: number): number[] {
  return Array.from({ length: count }, () => seconds);
}

/** [keep at least, at most, expected from at most, until at least], seconds. */
function planned(name: string, pauses: readonly number[], check: (plan: PausePlan | null) => void): void {
  test(name, () => check(planPause(historyOf(...pauses))));
}

planned("of seven pauses nothing is concluded", times(7, 300), (plan) => assert.equal(plan, null));

planned(
  "one that is called every five minutes goes at once, and is there again for the next call",
  times(20, 300),
  (plan) => {
    assert.equal(plan?.keepUs, pauseMinUs);
    assert.ok(plan.expected!.fromUs > 240e6 && plan.expected!.fromUs <= 300e6);
    assert.ok(plan.expected!.untilUs > 300e6 && plan.expected!.untilUs < 360e6);
  },
);

planned("one whose pauses are all over within the default time is kept for that", times(200, 10), (plan) =>
  assert.deepEqual(plan, { keepUs: defaultUs, expected: null }),
);

planned(
  "after many short pauses, a few longer ones are too few to leave the default by",
  [...times(200, 2), ...times(7, 900)],
  (plan) => assert.deepEqual(plan, { keepUs: defaultUs, expected: null }),
);

planned(
  "one that is often called a little after the default time is kept for longer",
  Array.from({ length: 50 }, (_, i) => 5 + 1.7 * i),
  (plan) => {
    assert.ok(plan !== null && plan.keepUs >= 89e6 && plan.keepUs < 110e6);
    assert.equal(plan.expected, null);
  },
);

planned(
  "calls in rows, and a long time between the rows: kept through the row, and not for the time between",
  [...times(60, 5), ...Array.from({ length: 30 }, (_, i) => 1_000 + 400 * i)],
  (plan) => {
    assert.ok(plan !== null && plan.keepUs >= 5e6 && plan.keepUs < 8e6);
    assert.equal(plan.expected, null);
  },
);

planned(
  "what is as likely at one time as at another for hours is not waited for",
  Array.from({ length: 100 }, (_, i) => 100 + 130 * i),
  (plan) => {
    assert.ok(plan !== null && plan.keepUs <= defaultUs);
    assert.equal(plan.expected, null);
  },
);

planned("what comes once a day is beyond the horizon, and is not waited for", times(30, 86_000), (plan) =>
  assert.deepEqual(plan, { keepUs: pauseMinUs, expected: null }),
);

test("old pauses fade: one that is called otherwise than before is kept otherwise after some time", () => {
  const history = historyOf(...times(1_000, 300));
  for (let i = 0; i < 600; i++) remember(history, 20e6);
  const plan = planPause(history);
  assert.ok(plan !== null && plan.keepUs >= 20e6);
  assert.ok(history.seen <= keepAliveLimits.pausesSeen);
});

test("the reason names the pauses that were over in that time", () => {
  const history = historyOf(...times(18, 300), ...times(2, 1_000));
  const { fromUs, untilUs } = planPause(history)!.expected!;
  assert.match(
    whyExpecting(history, fromUs, untilUs),
    /^a call is expected: 18 of the last 20 pauses ended after 2\d\d to 3\d\d s$/,
  );
});

test("a pause goes through its plan: kept, away, expecting so early that it can start, and over", () => {
  const plan: PausePlan = { keepUs: 2e6, expected: { fromUs: 100e6, untilUs: 120e6 } };
  const leadUs = 300_000;
  const rows: Array<readonly [number, string, number | null]> = [
    [0, "kept", 2],
    [1.999999, "kept", 2],
    [2, "away", 99.7],
    [99.699999, "away", 99.7],
    [99.7, "expecting", 120],
    [119.999999, "expecting", 120],
    [120, "over", null],
    [9_999, "over", null],
  ];
  for (const [seconds, phase, until] of rows)
    assert.deepEqual(
      standing(plan, Math.round(seconds * 1e6), leadUs),
      { phase, untilUs: until === null ? null : Math.round(until * 1e6) },
      `at ${seconds} s`,
    );
  assert.deepEqual(standing({ keepUs: 2e6, expected: null }, 2e6, leadUs), { phase: "over", untilUs: null });
});

/** From a tenth of a second to a day: more short ones than long ones, and some to the same second. */
const pauseOf = fc.oneof(
  fc.double({ min: -1, max: 5, noNaN: true }).map((exponent) => 10 ** exponent),
  fc.constantFrom(1, 59.9, 60, 60.1, 300, 14_400, 86_400),
);
const pausesOf = fc.array(pauseOf, { maxLength: 600 });
/** With times at which calls come again and again, as real ones have. */
const manyPausesOf = fc
  .tuple(
    fc.array(pauseOf, { minLength: 1, maxLength: 4 }),
    fc.array(fc.nat({ max: 9 }), { minLength: 12, maxLength: 300 }),
  )
  .map(([usual, rolls]) => rolls.map((roll, at) => usual[roll % usual.length]! * (1 + 0.01 * ((at * 7) % (1 + roll)))));

test("whatever the pauses were: no plan is beyond its bounds, and each of them ends", () => {
  fc.assert(
    fc.property(fc.oneof(pausesOf, manyPausesOf), fc.integer({ min: 0, max: 60_000_000 }), (pauses, leadUs) => {
      const history = historyOf(...pauses);
      const counted = history.counts.reduce((sum, count) => sum + count, history.longer);
      assert.equal(counted, history.seen);
      assert.ok(history.seen <= keepAliveLimits.pausesSeen);
      const plan = planPause(history);
      if (plan === null) return;
      assert.ok(plan.keepUs >= pauseMinUs && plan.keepUs <= keepAliveLimits.keepMaxMs * 1_000);
      if (plan.expected !== null) {
        const { fromUs, untilUs } = plan.expected;
        assert.ok(fromUs > plan.keepUs && untilUs > fromUs && untilUs <= pauseMaxUs);
        assert.ok(untilUs - fromUs <= keepAliveLimits.keepMaxMs * 1_000);
      }
      let atUs = 0;
      const phases: string[] = [];
      for (let turn = 0; turn < 5; turn++) {
        const { phase, untilUs } = standing(plan, atUs, leadUs);
        phases.push(phase);
        if (untilUs === null) break;
        assert.ok(untilUs > atUs, "the next decision lies ahead");
        atUs = untilUs;
      }
      assert.equal(phases.at(-1), "over");
      assert.ok(atUs <= pauseMaxUs);
    }),
    { numRuns: 500 },
  );
});

test("whatever the pauses were: the default is left only for what was seen often enough", () => {
  fc.assert(
    fc.property(fc.oneof(pausesOf, manyPausesOf), (pauses) => {
      const history = historyOf(...pauses);
      const plan = planPause(history);
      // Counts are smoothed by half a step to each side: a step is left for the edge.
      const lasted = (us: number): number => pauses.filter((seconds) => seconds * 1e6 >= us * 0.94).length;
      if (plan === null) return;
      if (plan.keepUs !== defaultUs) assert.ok(lasted(Math.min(defaultUs, plan.keepUs)) >= keepAliveLimits.evidence);
      if (plan.expected !== null) assert.ok(lasted(plan.expected.fromUs) >= keepAliveLimits.evidence);
    }),
    { numRuns: 500 },
  );
});

test("whatever the pauses were: no other plan is worth more", () => {
  let plans = 0;
  const { coldStartWorthMs, startWorthMs, evidence, keepMaxMs, stepsPerOctave } = keepAliveLimits;
  const below = Math.floor(Math.log2(defaultUs / (keepAliveLimits.pauseMinMs * 1_000)) * stepsPerOctave);
  const edgeMs = (at: number): number => Math.round(defaultUs * 2 ** ((at - below) / stepsPerOctave)) / 1_000;
  fc.assert(
    fc.property(manyPausesOf, (pauses) => {
      const history = historyOf(...pauses);
      const plan = planPause(history);
      if (plan === null) return;
      plans++;
      const { counts, longer } = history;
      const steps = counts.length;
      const ended = Array.from(counts, (count, at) => count / 2 + ((counts[at - 1] ?? 0) + (counts[at + 1] ?? 0)) / 4);
      const lasted = (at: number): number => ended.slice(at).reduce((sum, each) => sum + each, longer);
      const left = Array.from({ length: steps + 1 }, (_, at) => lasted(at));
      /** Of an instance that is there from the beginning until each edge. */
      const until = [0];
      for (let at = 0; at < steps; at++) {
        const lengthMs = edgeMs(at + 1) - edgeMs(at);
        until.push(until[at]! + coldStartWorthMs * ended[at]! - (lengthMs * (left[at]! + left[at + 1]!)) / 2);
      }
      const worthOf = (keep: number, from: number, to: number): number =>
        until[keep]! + (from < 0 ? 0 : until[to]! - until[from]! - startWorthMs * left[from]!);
      const all = counts.reduce((sum, count, at) => sum + (at >= below ? count : 0), longer);
      let best = -Infinity;
      for (let keep = 0; keep < steps && edgeMs(keep) <= keepMaxMs; keep++) {
        if (keep < below ? left[keep]! < evidence : keep > below && all < evidence) continue;
        best = Math.max(best, worthOf(keep, -1, -1));
        for (let from = keep + 1; from < steps && left[from]! >= evidence; from++)
          for (let to = from + 1; to <= steps; to++) best = Math.max(best, worthOf(keep, from, to));
      }
      const at = (us: number): number => Math.round(below + Math.log2(us / defaultUs) * stepsPerOctave);
      const { keepUs, expected } = plan;
      // One that was cut to the longest time is worth less than the best, and allowed to be.
      if (expected !== null && expected.untilUs - expected.fromUs === keepMaxMs * 1_000) return;
      const worth =
        expected === null
          ? worthOf(at(keepUs), -1, -1)
          : worthOf(at(keepUs), at(expected.fromUs), at(expected.untilUs));
      assert.ok(worth >= best - 1e-6 * Math.abs(best) - 1e-3, `worth ${worth}, another ${best}`);
    }),
    { numRuns: 60 },
  );
  assert.ok(plans > 30, `of 60 histories ${plans} were enough for a plan`);
});
