// Calls that race with the end of the idle time: over activator, autoscaler and fleet as they are, HTTP and all, in virtual time.

import assert from "node:assert/strict";
import { keyOf, type ServingRevision } from "#model/workload.ts";
import { Stack } from "./stack.ts";
import { revisionOf } from "./world.ts";

/** "At the configured idle time": so much later than that nothing of the instance is left, and so much earlier nothing has gone. */
const toleranceMs = 100;
const functions = 60;
const idleTimes = [0, 1, 5, 60];

interface Racer {
  readonly revision: ServingRevision;
  /** null: left to ebb, which learns from the races. */
  readonly idleMs: number | null;
  /** Calls that it sends yet. */
  left: number;
  inFlight: number;
  lastAnswerUs: number;
}

export interface Races {
  readonly calls: number;
  /** Calls that found the instance still there, and those that came too late for it. */
  readonly won: number;
  readonly lost: number;
  /** When nothing of a function was left, after its last answer and less its idle time: the earliest and the latest, ms. */
  readonly wentMs: { readonly earliest: number; readonly latest: number; readonly count: number };
}

/** So many calls, each one sent when the instance of the last one is about to go, or goes; throws where one is lost. */
export async function race(seed: number, calls: number): Promise<Races> {
  let [won, lost] = [0, 0];
  const wentMs = { earliest: Infinity, latest: -Infinity, count: 0 };
  const racers = new Map<string, Racer>();
  const stack: Stack = new Stack(seed, 131_072, {
    calm: true,
    keepAlive: "histogram",
    told: (fact) => {
      if (fact.kind !== "instance_stopped") return;
      const { revision, idleMs, lastAnswerUs } = racers.get(keyOf(fact))!;
      // What a crowd of three has left over goes at its own time; the last one's is the function's.
      const isLast = stack.fleet.instances(revision).every(({ state }) => state === "starting");
      if (idleMs === null || !isLast) return;
      const afterMs = (stack.clock.monotonicUs() - lastAnswerUs) / 1_000 - idleMs;
      wentMs.earliest = Math.min(wentMs.earliest, afterMs);
      wentMs.latest = Math.max(wentMs.latest, afterMs);
      wentMs.count++;
    },
  });
  const { chance, clock } = stack;

  const call = (racer: Racer): void => {
    const { ready } = stack.activator.load(racer.revision);
    if (ready > 0) won++;
    else lost++;
    racer.inFlight++;
    stack.call(racer.revision, (error) => {
      if (error !== null) return;
      racer.inFlight--;
      racer.lastAnswerUs = clock.monotonicUs();
      if (racer.inFlight === 0) next(racer);
    });
  };
  const next = (racer: Racer): void => {
    const count = Math.min(racer.left, chance() < 0.1 ? 3 : 1);
    if (count === 0) return;
    racer.left -= count;
    const afterMs = Math.max(0, (racer.idleMs ?? 100_000 + 12_000 * chance()) + offsetMs(chance));
    const go = (): void => {
      for (let i = 0; i < count; i++) call(racer);
    };
    // Timers of one moment run in the order of their making: half of the calls are sent before ebb's timer is made, half after it.
    if (chance() < 0.5) clock.after(afterMs, go);
    else clock.after(afterMs / 2, () => clock.after(afterMs - afterMs / 2, go));
  };

  for (let index = 0; index < functions; index++) {
    // One in five says nothing of its idle time.
    const toEbb = index % 5 === 4;
    const idleSeconds = toEbb ? 60 : idleTimes[index % idleTimes.length]!;
    const concurrency = index % 3 === 2 ? 8 : 1;
    const revision: ServingRevision = {
      ...revisionOf(`f${index}`, { idleSeconds, concurrency }),
      settingSources: { idleSeconds: toEbb ? "default" : "app file" },
    };
    const idleMs = toEbb ? null : idleSeconds * 1_000;
    const left = Math.floor(calls / functions) + (index < calls % functions ? 1 : 0);
    const racer: Racer = { revision, idleMs, left, inFlight: 0, lastAnswerUs: 0 };
    racers.set(keyOf(revision), racer);
    stack.deploy(revision);
    next(racer);
  }
  for (let owed = calls; owed > 0;) {
    // Longer than any of them lets pass between an answer and its next call.
    await stack.run(180_000);
    const before = owed;
    owed = [...racers.values()].reduce((sum, { left, inFlight }) => sum + left + inFlight, 0);
    assert.ok(
      owed < before,
      `seed ${seed}: ${owed} of ${calls} calls have no answer, or were never sent for want of one`,
    );
  }
  // Longer than any plan: what is left to ebb goes too.
  await stack.run(5 * 3_600_000);

  for (const [id, ends] of stack.ends) {
    assert.deepEqual(ends, ["answered"], `seed ${seed}: ${id}`);
    assert.ok(stack.metered.has(id), `seed ${seed}: ${id} was not metered to its end`);
  }
  assert.equal(stack.ends.size, calls);
  assert.equal(stack.driver.living, 0, `seed ${seed}: sandboxes are left`);
  assert.equal(stack.clock.pending(), 0, `seed ${seed}: timers are left on an idle platform`);
  assert.ok(wentMs.earliest >= -toleranceMs && wentMs.latest <= toleranceMs, `went at ${JSON.stringify(wentMs)}`);
  return { calls, won, lost, wentMs };
}

/** Before and after the end of the idle time: in the same microsecond, within the stop of the instance, or well apart. */
function offsetMs(chance: () => number): number {
  const how = chance();
  if (how < 0.2) return 0;
  if (how < 0.5) return 0.01 * (chance() - 0.5);
  if (how < 0.8) return 10 * (chance() - 0.3);
  return 200 * (chance() - 0.5);
}
