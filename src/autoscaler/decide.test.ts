// The scaling decision as timelines: what is reported, when, and how many are wanted then; and what holds for every load.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { decide, freshMemory, type ScalingMemory, type ScalingSettings } from "./decide.ts";
import { requestsEach } from "#model/workload.ts";
import type { Load } from "./door.ts";

const machine = { concurrentStarts: 4, typicalStartMs: 150 };
const usual: ScalingSettings = { concurrency: 1, min: 0, max: 20, idleSeconds: 60 };
const startUs = 1_000_000_000;

type Seen = Partial<Omit<Load, "revision">>;
/** [seconds, what is reported, wanted, when to decide again in seconds (left out: not checked; null: never)] */
type Row = readonly [number, Seen, number, (number | null)?];

function loadOf(seen: Seen): Load {
  const load = { waiting: 0, active: 0, ready: 0, starting: 0, lastActiveUs: null, executionMs: null, startMs: null };
  // The decision does not read the revision: settings come apart.
  return { ...load, ...seen } as Load;
}

function timeline(name: string, settings: Partial<ScalingSettings>, rows: readonly Row[]): void {
  test(name, () => {
    let memory: ScalingMemory = freshMemory;
    for (const [seconds, seen, wanted, again] of rows) {
      const decision = decide(loadOf(seen), { ...usual, ...settings }, machine, memory, startUs + seconds * 1e6);
      memory = decision.memory;
      const at = `at ${seconds} s: ${decision.reasons.join("; ")}`;
      assert.equal(decision.wanted, wanted, at);
      assert.ok(decision.reasons.length > 0, at);
      if (again !== undefined)
        assert.equal(decision.decideAgainAtUs, again === null ? null : startUs + again * 1e6, `decides again, ${at}`);
    }
  });
}

timeline("one request starts one instance, which goes when it has been idle for its time", {}, [
  [0, {}, 0, null],
  [1, { waiting: 1 }, 1, null],
  [1.1, { active: 1, ready: 1 }, 1, null],
  [1.2, { ready: 1 }, 1, 61.2],
  [61.1, { ready: 1 }, 1, 61.2],
  [61.2, { ready: 1 }, 0, null],
]);

timeline("a request in the idle time begins it anew", {}, [
  [0, { active: 1, ready: 1 }, 1],
  [1, { ready: 1 }, 1, 61],
  [50, { active: 1, ready: 1 }, 1, null],
  [51, { ready: 1 }, 1, 111],
]);

timeline("idle time 0: gone as soon as it has answered", { idleSeconds: 0 }, [
  [0, { waiting: 2 }, 2],
  [1, { active: 2, ready: 2 }, 2],
  [2, { active: 1, ready: 2 }, 1, null],
  [3, { ready: 1 }, 0, null],
]);

timeline("min is held without any load, max whatever the load", { min: 2, max: 3 }, [
  [0, {}, 2, null],
  [1, { waiting: 50, ready: 2 }, 3],
  [2, { active: 3, waiting: 47, ready: 3 }, 3],
  [3, { ready: 3 }, 3, 63],
  [63, { ready: 3 }, 2, null],
]);

timeline("one is there, and no more, while a call is expected; the reason says why", { expecting: "it is due" }, [
  [0, {}, 1, null],
  [1, { ready: 1 }, 1, null],
  [2, { active: 1, waiting: 1, ready: 1 }, 2],
  [3, { ready: 2 }, 2, 63],
  [63, { ready: 2 }, 1, null],
]);

timeline("max 0 is none, whatever is expected", { expecting: "it is due", max: 0 }, [[0, {}, 0, null]]);

timeline("a first burst, of which nothing is known, gets an instance for each up to max", {}, [
  [0, { waiting: 1 }, 1],
  [0, { waiting: 5, starting: 1 }, 5],
  [0, { waiting: 100, starting: 4 }, 20],
]);

timeline("once it is known that one instance drains the queue, no more are wanted than are on their way", {}, [
  [0, { waiting: 100 }, 20],
  [0.1, { waiting: 95, active: 1, ready: 1, starting: 3, executionMs: 1, startMs: 100 }, 4],
  [0.2, { ready: 4, executionMs: 1, startMs: 100 }, 4],
]);

timeline("slots are counted, not requests, above concurrency 1", { concurrency: 80, max: 5 }, [
  [0, { waiting: 80 }, 1],
  [0, { waiting: 81 }, 2],
  [1, { active: 160, ready: 2 }, 2],
  [2, { active: 100, waiting: 0, ready: 2 }, 2],
]);

const wide = { concurrency: 80, scaling: { requests: 40 } } as const;

timeline("more in flight than an instance is for gets another one when it lasts as long as a start takes", wide, [
  [0, { waiting: 1, startMs: 200 }, 1],
  [1, { active: 41, ready: 1, startMs: 200 }, 1, 1.2],
  [1.1, { active: 40, ready: 1, startMs: 200 }, 1, null],
  [2, { active: 41, ready: 1, startMs: 200 }, 1, 2.2],
  [2.2, { active: 60, ready: 1, startMs: 200 }, 2],
  [2.3, { active: 79, ready: 1, starting: 1, startMs: 200 }, 2],
  [2.4, { active: 80, waiting: 1, ready: 1, starting: 1, startMs: 200 }, 3],
  [3, { active: 60, ready: 3, startMs: 200 }, 3],
  [70, { active: 0, ready: 2, startMs: 200 }, 2],
  [130, { active: 0, ready: 2, startMs: 200 }, 0, null],
]);

const pressed = { needed: 3, reason: "70% of CPU used" };
timeline(
  "what instances use adds some while something runs, within max, and keeps none when nothing does",
  { pressed, max: 2, concurrency: 80 },
  [
    [0, { ready: 0 }, 0, null],
    [1, { waiting: 1 }, 2],
    [2, { active: 1, ready: 1, starting: 1 }, 2],
    [3, { ready: 2 }, 2, 63],
    [63, { ready: 2 }, 0, null],
  ],
);

timeline(
  "an instance on its way that will drain the queue before another could be ready is waited for",
  { concurrency: 100 },
  [
    [0, { waiting: 1, executionMs: 10, startMs: 300 }, 1],
    [0.01, { waiting: 11, starting: 1, executionMs: 10, startMs: 300 }, 1],
    // Ready in 200 ms, and in the next 100 ms it takes a thousand.
    [0.11, { waiting: 111, starting: 1, executionMs: 10, startMs: 300 }, 1],
    [0.3, { waiting: 300, starting: 1, executionMs: 10, startMs: 300 }, 1],
    // It takes longer than starts do: nobody knows how long.
    [0.4, { waiting: 400, starting: 1, executionMs: 10, startMs: 300 }, 4],
  ],
);

timeline("an instance that is stuck does not count as one that drains the queue", {}, [
  [0, { active: 1, waiting: 1, ready: 1, executionMs: 5, startMs: 100 }, 1],
  // Usually 5 ms: by now it takes longer than a start.
  [0.3, { active: 1, waiting: 1, ready: 1, executionMs: 5, startMs: 100 }, 2],
]);

timeline("a queue that moves but never empties gets one more instance at a time", {}, [
  [0, { active: 1, waiting: 5, ready: 1, executionMs: 10, startMs: 100 }, 1, 0.15],
  [0.14, { active: 1, waiting: 4, ready: 1, executionMs: 10, startMs: 100 }, 1],
  [0.15, { active: 1, waiting: 3, ready: 1, executionMs: 10, startMs: 100 }, 2],
]);

timeline("a surplus goes by halves while the workload is in use", { idleSeconds: 40 }, [
  [0, { active: 16, ready: 16 }, 16],
  [1, { active: 2, ready: 16 }, 16, 41],
  [41, { active: 2, ready: 16 }, 9, 51],
  [51, { active: 2, ready: 9 }, 5],
  [61, { active: 2, ready: 5 }, 3],
  [71, { active: 2, ready: 3 }, 2, null],
]);

timeline("an instance that is lost while idle is not replaced", {}, [
  [0, { active: 2, ready: 2 }, 2],
  [1, { ready: 2 }, 2],
  [2, { ready: 0 }, 0],
]);

const settingsOf = fc.record({
  concurrency: fc.integer({ min: 1, max: 100 }),
  min: fc.integer({ min: 0, max: 5 }),
  max: fc.integer({ min: 5, max: 200 }),
  idleSeconds: fc.integer({ min: 0, max: 600 }),
  expecting: fc.option(fc.constant("a call is expected"), { freq: 4 }),
  scaling: fc.record({ requests: fc.integer({ min: 1, max: 150 }) }),
  pressed: fc.option(fc.record({ needed: fc.integer({ min: 0, max: 300 }), reason: fc.constant("it is used") }), {
    freq: 2,
  }),
});
const seenOf = fc.record({
  waiting: fc.integer({ min: 0, max: 1000 }),
  active: fc.integer({ min: 0, max: 1000 }),
  ready: fc.integer({ min: 0, max: 200 }),
  starting: fc.integer({ min: 0, max: 20 }),
  executionMs: fc.option(fc.double({ min: 0, max: 1e6, noNaN: true })),
  startMs: fc.option(fc.double({ min: 0, max: 1e5, noNaN: true })),
  afterUs: fc.integer({ min: 0, max: 100_000_000 }),
});

test("whatever is reported: within min and max, room for what is active, somebody for those that wait, at most a slot each", () => {
  fc.assert(
    fc.property(settingsOf, fc.array(seenOf, { maxLength: 30 }), (settings, reports) => {
      let memory = freshMemory;
      let nowUs = startUs;
      for (const seen of reports) {
        nowUs += seen.afterUs;
        const { wanted, decideAgainAtUs, memory: next } = decide(loadOf(seen), settings, machine, memory, nowUs);
        memory = next;
        const current = seen.ready + seen.starting;
        const busy = seen.active + seen.waiting > 0;
        const aimed = Math.ceil((seen.active + seen.waiting) / requestsEach(settings));
        const slots = Math.max(aimed, busy ? Math.min(settings.max, settings.pressed?.needed ?? 0) : 0);
        assert.ok(wanted >= Math.min(settings.max, busy ? (settings.pressed?.needed ?? 0) : 0), "what they use counts");
        assert.ok(Number.isInteger(wanted) && wanted >= settings.min && wanted <= settings.max);
        assert.ok(wanted >= Math.min(settings.max, Math.ceil(seen.active / settings.concurrency)));
        assert.ok(seen.waiting === 0 || wanted > 0 || settings.max === 0);
        const expected = settings.expecting === null ? 0 : 1;
        assert.ok(wanted >= expected, "one is there for the call that is expected");
        assert.ok(wanted <= Math.max(settings.min, expected, slots, current), "starts nothing that has nothing to do");
        assert.ok(decideAgainAtUs === null || decideAgainAtUs > nowUs, "the next decision lies ahead");
      }
    }),
    { numRuns: 300 },
  );
});

test("whatever came before: without load, deciding when told to ends at min, and then never again", () => {
  fc.assert(
    fc.property(settingsOf, fc.array(seenOf, { maxLength: 30 }), (settings, reports) => {
      let memory = freshMemory;
      let nowUs = startUs;
      let ready = 0;
      for (const seen of reports) {
        nowUs += seen.afterUs;
        const decision = decide(loadOf({ ...seen, ready, starting: 0 }), settings, machine, memory, nowUs);
        memory = decision.memory;
        ready = decision.wanted;
      }
      const endUs = nowUs + settings.idleSeconds * 1e6;
      for (let turn = 0; turn < 300; turn++) {
        const decision = decide(loadOf({ ready }), settings, machine, memory, nowUs);
        memory = decision.memory;
        ready = decision.wanted;
        if (decision.decideAgainAtUs === null) {
          assert.equal(ready, Math.max(settings.min, settings.expecting === null ? 0 : 1));
          return;
        }
        assert.ok(decision.decideAgainAtUs <= endUs, "later than the idle time");
        nowUs = decision.decideAgainAtUs;
      }
      assert.fail("it never ends");
    }),
    { numRuns: 300 },
  );
});
