// What instances use, as so many instances: tables, what holds for every sample, and a simulated load on simulated CPUs.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { decide, freshMemory, type ScalingMemory } from "./decide.ts";
import type { Load } from "./door.ts";
import { noPressure, pressureOf, type Pressure, type PressureMemory, type ScaledByUse } from "./pressure.ts";

const bounds = { cpu: 1, cpuStrict: false, memoryMb: 100 };
const startUs = 1_000_000_000;

/** CPU seconds used so far, of each instance, at so many seconds. */
function looks(rows: ReadonlyArray<readonly [number, readonly number[]]>, cpuPercent = 50, of = bounds): Pressure {
  let memory: PressureMemory = noPressure;
  let last: Pressure | null = null;
  for (const [seconds, used] of rows) {
    const samples = used.map((cpu, i) => ({ instance: `i${i}`, cpuNs: cpu * 1e9, memoryBytes: null }));
    const at = { atUs: startUs + seconds * 1e6, awake: used.length, of: samples };
    last = pressureOf(at, { cpuPercent }, of, 8, memory);
    memory = last.memory;
  }
  return last!;
}

const steady = (cpus: number, seconds: number): Array<readonly [number, readonly number[]]> =>
  Array.from({ length: seconds + 1 }, (_, at) => [at, [at * cpus]] as const);

for (const [name, rows, percent, needed] of [
  ["what its start took does not count", [[0, [30]]], 0, 1],
  ["what an instance may use is aimed at twice over: two", steady(1, 10), 100, 2],
  ["half of it is as it should be", steady(0.5, 10), 50, 1],
  ["a little above it is not worth a start", steady(0.54, 10), 54, 1],
  ["above that it is", steady(0.56, 10), 56, 2],
  ["one second alone is not believed whole", steady(1, 1), 50, 1],
  ["what was before a long silence is forgotten", [...steady(1, 10), [70, [10.1]]] as const, 0, 1],
  ["a counter that began anew is one that says nothing", [...steady(1, 10), [11, [0]]] as const, 100, 2],
] as const)
  test(`CPU: ${name}`, () => {
    const found = looks(rows);
    assert.deepEqual([found.percent, found.pressed?.needed], [percent, needed]);
  });

test("CPU: a percentage is of what the instance may use at most", () => {
  assert.equal(looks(steady(1, 10), 50, { ...bounds, cpu: 2 }).percent, 50);
  assert.equal(looks(steady(0.25, 10), 50, { ...bounds, cpu: 0.25, cpuStrict: true }).percent, 100);
  assert.equal(looks(steady(8, 10), 50, { ...bounds, cpu: 64 }).percent, 100, "the machine has eight");
});

test("memory: what they hold, each with its bound; those that were not looked at are as the others", () => {
  const MiB = 1024 * 1024;
  const at = (held: ReadonlyArray<number | null>, awake = held.length): Pressure =>
    pressureOf(
      { atUs: startUs, awake, of: held.map((mb, i) => ({ instance: `i${i}`, cpuNs: 0, memoryBytes: mb && mb * MiB })) },
      { memoryPercent: 60 },
      bounds,
      8,
      noPressure,
    );
  assert.equal(at([80]).pressed?.needed, 2);
  assert.equal(at([80]).pressed?.reason, "80% of memory used in 1 instance, 60% is aimed at");
  assert.equal(at([65]).pressed?.needed, 1, "within a tenth");
  assert.equal(at([80, 20]).pressed?.needed, 2);
  assert.equal(at([20, 20, 20]).pressed?.needed, 1);
  assert.equal(at([90, 90], 10).pressed?.needed, 15);
  assert.equal(at([null]).pressed, null, "who knows nothing asks for nothing");
});

test("whatever is sampled: at least one, none for less than is aimed at, and as many as bring the average down to it", () => {
  const sampled = fc.array(fc.record({ cpuNs: fc.nat(1e12), memoryBytes: fc.nat(200 * 1024 * 1024) }), {
    minLength: 1,
    maxLength: 40,
  });
  const target: fc.Arbitrary<ScaledByUse> = fc.oneof(
    fc.record({ cpuPercent: fc.integer({ min: 5, max: 95 }) }),
    fc.record({ memoryPercent: fc.integer({ min: 5, max: 95 }) }),
  );
  fc.assert(
    fc.property(sampled, sampled, target, fc.nat(100), fc.nat(1e7), (before, now, scaling, more, afterUs) => {
      const named = (used: typeof now): Array<(typeof now)[number] & { instance: string }> =>
        used.map((one, i) => ({ ...one, instance: `i${i}` }));
      const first = pressureOf(
        { atUs: startUs, awake: before.length, of: named(before) },
        scaling,
        bounds,
        8,
        noPressure,
      );
      const awake = now.length + more;
      const samples = { atUs: startUs + afterUs, awake, of: named(now) };
      const { pressed, percent, memory } = pressureOf(samples, scaling, bounds, 8, first.memory);
      assert.ok(pressed !== null && percent !== null && percent >= 0);
      assert.ok(Number.isInteger(pressed.needed) && pressed.needed >= 1);
      assert.ok(memory.size <= now.length, "nobody is remembered who is not there");
      const aimed = "cpuPercent" in scaling ? scaling.cpuPercent : scaling.memoryPercent;
      // The percentage that is told is rounded.
      if (percent < aimed) assert.ok(pressed.needed <= awake, "less than is aimed at asks for no more");
      if (percent > aimed * 1.1 + 1) assert.ok(pressed.needed > awake, "more than is aimed at asks for more");
      assert.ok(pressed.needed >= Math.min(awake, Math.floor((awake * (percent - 1)) / aimed)));
    }),
    { numRuns: 300 },
  );
});

/** A load of so many CPUs, spread over instances of one CPU, each a second in starting; decided each second, as it is in earnest. */
function simulate(cpusOf: (second: number) => number, seconds: number): { counts: number[]; changes: number } {
  const settings = { concurrency: 80, min: 0, max: 20, idleSeconds: 60, scaling: { cpuPercent: 60 } };
  const machine = { concurrentStarts: 3, typicalStartMs: 1_000 };
  const used = new Map<string, number>();
  let [ready, starting, born, changes] = [[] as string[], 0, 0, 0];
  let memory: ScalingMemory = freshMemory;
  let pressure: PressureMemory = noPressure;
  const counts: number[] = [];
  for (let second = 0; second < seconds; second++) {
    const nowUs = startUs + second * 1e6;
    for (; starting > 0; starting--) ready.push(`i${born++}`);
    const cpus = cpusOf(second);
    for (const one of ready) used.set(one, (used.get(one) ?? 0) + Math.min(1, cpus / ready.length));
    const busy = cpus > 0;
    const samples = ready.map((instance) => ({ instance, cpuNs: (used.get(instance) ?? 0) * 1e9, memoryBytes: null }));
    const found = busy
      ? pressureOf({ atUs: nowUs, awake: ready.length, of: samples }, settings.scaling, bounds, 64, pressure)
      : null;
    if (found) pressure = found.memory;
    const seen = {
      ready: ready.length,
      starting,
      active: busy && ready.length > 0 ? 8 : 0,
      waiting: busy && ready.length === 0 ? 1 : 0,
    };
    const load = { ...seen, lastActiveUs: null, executionMs: 50, startMs: 1_000 } as unknown as Load;
    const decision = decide(load, { ...settings, pressed: found?.pressed ?? null }, machine, memory, nowUs);
    memory = decision.memory;
    const current = ready.length + starting;
    if (decision.wanted !== current) changes++;
    starting += Math.max(0, decision.wanted - current);
    ready = ready.slice(0, decision.wanted);
    counts.push(decision.wanted);
  }
  return { counts, changes };
}

test("a steady load finds its number within seconds and stays there; when it ends, all go", () => {
  const { counts, changes } = simulate((second) => (second < 300 ? 3 : 0), 420);
  assert.equal(counts[0], 1, "the first request starts one");
  const settled = counts.slice(20, 299);
  assert.ok(Math.min(...settled) >= 5 && Math.max(...settled) <= 6, `3 CPUs at 60% are five: ${settled[0]}`);
  assert.equal(new Set(settled).size, 1, "it does not waver");
  assert.ok(changes < 15, `${changes} changes`);
  assert.equal(counts.at(-1), 0);
  assert.equal(counts[299 + 62], 0, "an idle time after the last");
});

test("a load that wavers keeps its instances; one that falls gives them back while it goes on", () => {
  const wavering = simulate((second) => (second % 2 === 0 ? 2 : 1.6), 300);
  assert.equal(new Set(wavering.counts.slice(20)).size, 1);
  const falling = simulate((second) => (second < 120 ? 6 : 0.5), 600).counts;
  assert.ok(falling[100]! >= 10);
  assert.equal(falling.at(-1), 1);
});

test("more than all may do ends at max, and is told", () => {
  assert.equal(simulate(() => 50, 60).counts.at(-1), 20);
});
