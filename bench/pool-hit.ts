// Cold start that takes a sandbox from the pool: what the client waits for, in turn with a bare pool's and a bare engine's start.

import { setTimeout as sleep } from "node:timers/promises";
import { eventually } from "../test/daemon/fixture.ts";
import { engineHere } from "./bare-engine.ts";
import { createBarePool } from "./bare-pool.ts";
import { besideBare, type BesideBare } from "./beside-bare.ts";
import { median, percentile } from "./load.ts";
import { inMs, type Row } from "./row.ts";
import type { World } from "./world.ts";

const targets = { p50Ms: 3.5, p99Ms: 15 };
/** A shim that is up warms up for a moment more; who calls a function of his own by hand waits longer between two calls. */
const settledMs = 700;

export async function poolHit(world: World, rounds: number): Promise<Row[]> {
  const through = async (workload: string): Promise<number> => {
    await poolIsFull(world);
    const began = performance.now();
    await world.call(workload);
    return performance.now() - began;
  };
  const { engine, floorMs, timesMs } = await besideBarePool(world, rounds, {
    Node: () => through("cold-web"),
    Python: () => through("cold-python"),
  });
  const { bare, ...languages } = timesMs;
  const bareMs = median(bare);
  return Object.entries(languages).map(([language, times]) => {
    const ascending = times.toSorted((a, b) => a - b);
    const [p50, p90, p99] = [median(ascending), percentile(ascending, 90), percentile(ascending, 99)];
    return {
      number: `cold start from zero, taken from the pool, ${language}`,
      target: `≤ ${targets.p50Ms} ms p50, ≤ ${targets.p99Ms} ms p99`,
      floor: `${inMs(bareMs)} (a Node sandbox that ${engine} started ahead, behind node:http; ${engine} run of a Node server: ${inMs(floorMs)})`,
      seen: `p50 ${inMs(p50)} (${(p50 / bareMs).toFixed(1)}x), p90 ${inMs(p90)}, p99 ${inMs(p99)}, n=${ascending.length}`,
      held: p50 <= targets.p50Ms && p99 <= targets.p99Ms,
    };
  });
}

/** In turn with both floors: of a start from nothing, and (`bare`) of one that takes what was started ahead. */
async function besideBarePool<Name extends string>(
  world: World,
  rounds: number,
  starts: Readonly<Record<Name, () => Promise<number>>>,
): Promise<BesideBare<Name | "bare">> {
  const pool = await createBarePool((await engineHere()).path, process.execPath);
  try {
    return await besideBare<Name | "bare">(world, rounds, { bare: () => pool.hit(settledMs), ...starts });
  } finally {
    await pool.remove();
  }
}

/** It is, and nothing runs, and has not for a moment. */
export async function poolIsFull(world: World): Promise<void> {
  await eventually("the pool is full, and nothing runs", async () => {
    const { pool, instances } = await world.ask<Status>("/api/v1/status");
    return pool.sandboxes >= poolKinds && instances.running + instances.starting === 0;
  });
  await sleep(settledMs);
}

/** Node and Python, and the two of other sizes that a world has. */
const poolKinds = 3;

interface Status {
  readonly pool: { readonly sandboxes: number };
  readonly instances: { readonly running: number; readonly starting: number };
}
