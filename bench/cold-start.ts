// Cold start from zero, without a pool: what the client waits for, against a bare engine's start of the same server, in turn.

import { createBareEngine } from "./bare-engine.ts";
import { enginesHere } from "#sandbox/oci/engine.ts";
import { median, percentile } from "./load.ts";
import { inMs, type Row } from "./row.ts";
import type { World } from "./world.ts";

const targetRatio = 1.5;

export async function coldStart(world: World, rounds: number): Promise<Row[]> {
  const [engine] = await enginesHere();
  if (!engine) throw new Error("there is no OCI engine here");
  const bare = createBareEngine({
    engine: engine.path,
    node: process.execPath,
    code: world.code,
    entry: world.entry,
  });
  const bareMs: number[] = [];
  const serverMs: number[] = [];
  const webMs: number[] = [];
  const through = async (workload: string, times: number[]): Promise<void> => {
    await world.empty();
    const began = performance.now();
    await world.call(workload);
    times.push(performance.now() - began);
    await world.empty();
  };
  const turns = [
    async () => void bareMs.push(await bare.start()),
    () => through("cold", serverMs),
    () => through("cold-web", webMs),
  ];
  try {
    // Not counted: the first of each finds cold caches.
    for (const turn of turns) await turn();
    for (const times of [bareMs, serverMs, webMs]) times.length = 0;
    for (let round = 0; round < rounds; round++)
      for (let index = 0; index < turns.length; index++) await turns[(index + round) % turns.length]?.();
  } finally {
    bare.remove();
  }
  const floor = median(bareMs);
  const row = (number: string, times: readonly number[]): Row => ({
    number,
    target: `≤ ${targetRatio}x`,
    floor: `${inMs(floor)} (${engine.name} run)`,
    seen: `${(median(times) / floor).toFixed(2)}x (${spread(times)})`,
    held: median(times) <= floor * targetRatio,
  });
  return [
    row("cold start from zero, no pool: a bare engine's start of the same Node server, p50", serverMs),
    row("the same for a function of one handler (no server of its own)", webMs),
  ];
}

function spread(times: readonly number[]): string {
  const ascending = times.toSorted((a, b) => a - b);
  return `p50 ${inMs(median(times))}, p90 ${inMs(percentile(ascending, 90))}, worst ${inMs(percentile(ascending, 100))}, n=${times.length}`;
}
