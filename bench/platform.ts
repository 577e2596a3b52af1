// What ebb itself takes: memory and CPU at rest, the main loop's delay under a burst, the time to start with much deployed.

import { removeDirectory, startDaemon } from "../test/daemon/fixture.ts";
import { median, percentile } from "./load.ts";
import { cpuMs, ownProcesses, pssMiB } from "./processes.ts";
import { inMs, type Row } from "./row.ts";
import { seedFunctions } from "./seed.ts";
import type { World } from "./world.ts";

const idleMiB = 120;
/** Ebb calls itself at rest after 10 s, takes some more to give memory back, and V8 unmaps what it pooled 8 s later. */
const settleMs = 25_000;
const watchedMs = 10_000;
/** Below what a clock of 10 ms ticks can tell from nothing, for the threads of two processes. */
const noCpuMs = 50;
const loopDelayMs = 5;
const burst = 100;
const startMs = 2_000;
const startRounds = 5;

/** At rest after work: what a daemon that has served keeps. */
export async function atRest(world: World): Promise<Row> {
  for (const workload of ["warm", "web", "json", "many"]) await world.daemon.json(["restart", workload]);
  await world.empty();
  const own = ownProcesses(world.daemon.process.pid ?? 0);
  await sleep(settleMs);
  const before = cpuMs(own);
  await sleep(watchedMs);
  const usedMs = cpuMs(own) - before;
  const each = own.map((pid) => pssMiB([pid]));
  const together = each.reduce((sum, mib) => sum + mib, 0);
  return {
    number: "ebb's own processes (daemon, spawner) at rest after work",
    target: `≤ ${idleMiB} MiB PSS, no CPU`,
    floor: "–",
    seen: `${together.toFixed(0)} MiB PSS (${each.map((mib) => mib.toFixed(0)).join(" + ")}), ${usedMs} ms CPU in ${watchedMs / 1000} s`,
    held: together <= idleMiB && usedMs <= noCpuMs,
  };
}

/** Measured inside the daemon over the first seconds, shorter than the starts take: time at rest would flatter the percentile. */
export async function loopDelay(world: World): Promise<Row> {
  const seconds = 5;
  const measured = world.ask<{ p50Ms: number; p99Ms: number; maxMs: number; samples: number }>(
    `/api/v1/status/loop-delay?seconds=${seconds}`,
  );
  const began = performance.now();
  const calls = await Promise.allSettled(Array.from({ length: burst }, () => world.call("many")));
  const tookMs = performance.now() - began;
  const instances = await world.instances("many");
  const delay = await measured;
  const answered = calls.filter((call) => call.status === "fulfilled").length;
  return {
    number: `main loop's delay while ${burst} requests at once start ${burst} instances, p99`,
    target: `≤ ${inMs(loopDelayMs, 0)}`,
    floor: "–",
    seen: `${inMs(delay.p99Ms)} (p50 ${inMs(delay.p50Ms)}, worst ${inMs(delay.maxMs)}, n=${delay.samples}; ${answered} answered by ${instances} instances, the last after ${inMs(tookMs, 0)})`,
    held: delay.p99Ms <= loopDelayMs && answered === burst && instances === burst,
  };
}

export async function startWithThousand(): Promise<Row> {
  const directory = await seedFunctions(1000);
  const times: number[] = [];
  try {
    for (let round = 0; round <= startRounds; round++) {
      const began = performance.now();
      const daemon = await startDaemon({ directory });
      // The first proves the isolation and assembles the runtimes' roots: once in a data directory's life.
      if (round > 0) times.push(performance.now() - began);
      await daemon.stop();
    }
  } finally {
    removeDirectory(directory);
  }
  const ascending = times.toSorted((a, b) => a - b);
  return {
    number: "`ebb up` of an existing data directory with 1,000 functions, spawn to ready, p50",
    target: `≤ ${inMs(startMs, 0)}`,
    floor: "–",
    seen: `${inMs(median(times), 0)} (worst ${inMs(percentile(ascending, 100), 0)}, n=${times.length})`,
    held: median(times) <= startMs,
  };
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
