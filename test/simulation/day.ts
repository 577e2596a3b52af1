// A day of a trace against the autoscaler as it is, with time by hand: how many calls found no instance, and what was kept for the others.

import { VirtualClock } from "#lib/virtual-clock.ts";
import { WorkloadMap, type ServingRevision } from "#model/workload.ts";
import type { KeepAlive } from "#autoscaler/door.ts";
import { createAutoscaler } from "../../src/autoscaler/autoscaler.ts";
import { dayMs, type TracedFunction } from "./trace.ts";
import { revisionOf } from "./world.ts";

export interface DayOptions {
  readonly keepAlive: KeepAlive;
  /** Of every function; left out: the default. */
  readonly idleSeconds?: number;
  readonly startMs?: number;
}

export interface Day {
  readonly calls: number;
  /** Calls that waited for an instance. */
  readonly cold: number;
  readonly starts: number;
  /** Of them, those that nobody waited for when they were made. */
  readonly startsAhead: number;
  /** Memory of instances in which nothing ran, over time. */
  readonly idleGibHours: number;
}

interface Row {
  readonly revision: ServingRevision;
  readonly traced: TracedFunction;
  next: number;
  /** Execution times of calls that wait. */
  readonly waiting: number[];
  active: number;
  ready: number;
  starting: number;
  lastActiveUs: number | null;
  /** Memory is counted up to here. */
  countedUs: number;
}

/**
 * A machine with room for all: an instance starts in `startMs`, and goes at once. So that a day of a few hundred thousand calls takes
 * seconds, nothing here is asynchronous; the fleet as it is has a day in keep-alive.test.ts.
 */
export function runDay(functions: readonly TracedFunction[], options: DayOptions): Day {
  const { keepAlive, idleSeconds = 60, startMs = 150 } = options;
  const clock = new VirtualClock();
  const startUs = clock.monotonicUs();
  const rows = new WorkloadMap<Row>();
  let [calls, cold, starts, startsAhead, idleMibUs] = [0, 0, 0, 0, 0];

  const count = (row: Row): void => {
    const nowUs = clock.monotonicUs();
    const idle = row.ready - row.active + row.starting;
    idleMibUs += idle * row.traced.memoryMb * (nowUs - row.countedUs);
    row.countedUs = nowUs;
  };
  const report = (row: Row): void =>
    autoscaler.report({
      revision: row.revision,
      waiting: row.waiting.length,
      active: row.active,
      ready: row.ready,
      starting: row.starting,
      lastActiveUs: row.lastActiveUs,
      executionMs: null,
      startMs,
    });
  const settle = (row: Row): void => {
    count(row);
    while (row.waiting.length > 0 && row.active < row.ready) run(row, row.waiting.shift()!);
    report(row);
  };
  const run = (row: Row, executionMs: number): void => {
    row.active++;
    clock.after(executionMs, () => {
      count(row);
      row.active--;
      row.lastActiveUs = clock.monotonicUs();
      settle(row);
    });
  };
  const start = (row: Row): void => {
    row.starting++;
    starts++;
    if (row.waiting.length === 0) startsAhead++;
    clock.after(startMs, () => {
      count(row);
      row.starting--;
      row.ready++;
      settle(row);
    });
  };
  const autoscaler = createAutoscaler({
    machine: { concurrentStarts: 3, typicalStartMs: 150 },
    clock,
    keepAlive,
    tell: () => undefined,
    cpus: 8,
    fleet: {
      want: (revision, wanted) => {
        const row = rows.get(revision)!;
        count(row);
        while (row.ready + row.starting < wanted) start(row);
        const ready = Math.max(row.active, Math.min(row.ready, wanted - row.starting));
        if (ready === row.ready) return;
        row.ready = ready;
        report(row);
      },
      expect: () => undefined,
      eased: () => undefined,
      samples: () => ({ awake: 0, of: [] }),
      roomFor: () => true,
      workloadState: (workload) => {
        const { ready = 0, starting = 0 } = rows.get(workload) ?? {};
        return { ready, starting, draining: 0, paused: 0, state: "ready", lastFailure: null, nextStartMs: null };
      },
    },
  });
  autoscaler.start();

  const arrive = (row: Row): void => {
    const { arrivalsMs, executionsMs } = row.traced;
    const executionMs = executionsMs[row.next++]!;
    calls++;
    count(row);
    if (row.active >= row.ready) cold++;
    row.waiting.push(executionMs);
    settle(row);
    schedule(row, arrivalsMs);
  };
  const schedule = (row: Row, arrivalsMs: Float64Array): void => {
    const at = arrivalsMs[row.next];
    if (at !== undefined) clock.after(at - (clock.monotonicUs() - startUs) / 1_000, () => arrive(row));
  };
  for (const traced of functions) {
    const revision: ServingRevision = {
      ...revisionOf(traced.name, { memoryMb: traced.memoryMb, idleSeconds }),
      settingSources: { idleSeconds: "default" },
    };
    const row: Row = {
      revision,
      traced,
      next: 0,
      waiting: [],
      active: 0,
      ready: 0,
      starting: 0,
      lastActiveUs: null,
      countedUs: startUs,
    };
    rows.set(revision, row);
    autoscaler.changed(revision.project, revision.workload, revision);
    schedule(row, traced.arrivalsMs);
  }
  while (clock.step(startUs + dayMs * 1_000));
  for (const row of rows.values()) count(row);
  // The night after: nobody calls, and all of it goes.
  while (clock.step(startUs + 2 * dayMs * 1_000));
  for (const { ready, starting, traced } of rows.values())
    if (ready + starting > 0) throw new Error(`${traced.name} has not gone back to zero`);
  if (clock.pending() > 0) throw new Error("timers are left on an idle platform");

  return { calls, cold, starts, startsAhead, idleGibHours: idleMibUs / 1_024 / 3_600e6 };
}
