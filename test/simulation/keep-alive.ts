// A day of a trace on the simulated machine, autoscaler and fleet as they are: too little memory for all, and keep-alive by histogram.

import assert from "node:assert/strict";
import { settle } from "#lib/virtual-clock.ts";
import type { ServingRevision } from "#model/workload.ts";
import type { Faults } from "./faulty-driver.ts";
import { dayMs, makeDay, type TracedFunction } from "./trace.ts";
import { revisionOf, World } from "./world.ts";

export interface LivedDay {
  readonly calls: number;
  readonly ends: Readonly<Record<string, number>>;
  readonly startedAhead: number;
  readonly evicted: number;
}

/** Longer than any plan, and the idle time after it. */
const nightMs = 5 * 3_600_000;
/** The limits are looked at after so many events, for they look at every instance. */
const checkEvery = 50;

export async function liveDay(seed: number, functions: number, memoryMb: number, faults: Faults): Promise<LivedDay> {
  const world = new World({ seed, faults, memoryMb, keepAlive: "histogram" });
  const startUs = world.clock.monotonicUs();
  const schedule = (revision: ServingRevision, traced: TracedFunction, at: number): void => {
    const arrivalMs = traced.arrivalsMs[at];
    if (arrivalMs === undefined) return;
    world.clock.after(arrivalMs - (world.clock.monotonicUs() - startUs) / 1_000, () => {
      world.crowd.send(revision, traced.executionsMs[at]!, null);
      schedule(revision, traced, at + 1);
    });
  };
  for (const traced of makeDay({ seed, functions })) {
    const { memoryMb: ofOne } = traced;
    const revision: ServingRevision = {
      ...revisionOf(traced.name, { memoryMb: ofOne }),
      settingSources: { idleSeconds: "default" },
    };
    world.deploy(revision);
    schedule(revision, traced, 0);
  }
  await settle();
  for (let event = 1; world.clock.step(startUs + (dayMs + nightMs) * 1_000); event++) {
    await settle();
    if (event % checkEvery === 0) world.checkLimits();
  }
  world.checkZero();
  const ends: Record<string, number> = {};
  for (const { end } of world.crowd.requests) ends[end!] = (ends[end!] ?? 0) + 1;
  let [startedAhead, evicted] = [0, 0];
  for (const fact of world.facts) {
    if (fact.kind === "scaled" && fact.from === 0 && /a call is expected/.test(fact.reasons[0] ?? "")) startedAhead++;
    if (fact.kind === "instance_stopped" && /its memory is needed/.test(fact.reason)) evicted++;
  }
  assert.ok(startedAhead > 0, "nothing was started ahead: the day shows nothing");
  return { calls: world.crowd.requests.length, ends, startedAhead, evicted };
}
