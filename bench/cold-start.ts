// Cold start from zero, without a pool: what the client waits for, against a bare engine's start of the same server, in turn.

import { besideBare } from "./beside-bare.ts";
import { median, percentile } from "./load.ts";
import { inMs, type Row } from "./row.ts";
import type { World } from "./world.ts";

const targetRatio = 1.5;

export async function coldStart(world: World, rounds: number): Promise<Row[]> {
  const through = async (workload: string): Promise<number> => {
    await world.empty();
    const began = performance.now();
    await world.call(workload);
    const tookMs = performance.now() - began;
    await world.empty();
    return tookMs;
  };
  const { engine, floorMs, timesMs } = await besideBare(world, rounds, {
    server: () => through("cold"),
    web: () => through("cold-web"),
  });
  const row = (number: string, times: readonly number[]): Row => ({
    number,
    target: `≤ ${targetRatio}x`,
    floor: `${inMs(floorMs)} (${engine} run)`,
    seen: `${(median(times) / floorMs).toFixed(2)}x (${spread(times)})`,
    held: median(times) <= floorMs * targetRatio,
  });
  return [
    row("cold start from zero, no pool: a bare engine's start of the same Node server, p50", timesMs.server),
    row("the same for a function of one handler (no server of its own)", timesMs.web),
  ];
}

function spread(times: readonly number[]): string {
  const ascending = times.toSorted((a, b) => a - b);
  return `p50 ${inMs(median(times))}, p90 ${inMs(percentile(ascending, 90))}, worst ${inMs(percentile(ascending, 100))}, n=${times.length}`;
}
