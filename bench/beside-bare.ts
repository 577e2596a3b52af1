// Cold starts in turn with a bare engine's start of the same server: one method for all that is compared with that floor.

import { createBareEngine, engineHere } from "./bare-engine.ts";
import { median } from "./load.ts";
import type { World } from "./world.ts";

export interface BesideBare<Name extends string> {
  /** The engine's name, and the median of its bare start, ms. */
  readonly engine: string;
  readonly floorMs: number;
  /** Of each of the others, in the order of the rounds. */
  readonly timesMs: Readonly<Record<Name, readonly number[]>>;
}

/** `starts` answer how long one took, ms. Their order changes with each round; the first of each finds cold caches and is not counted. */
export async function besideBare<Name extends string>(
  world: World,
  rounds: number,
  starts: Readonly<Record<Name, () => Promise<number>>>,
): Promise<BesideBare<Name>> {
  const engine = await engineHere();
  const bare = createBareEngine({ engine: engine.path, node: process.execPath, code: world.code, entry: world.entry });
  const names = Object.keys(starts) as Name[];
  const bareMs: number[] = [];
  const timesMs = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Name, number[]>;
  const turns = [
    async () => void bareMs.push(await bare.start()),
    ...names.map((name) => async () => void timesMs[name].push(await starts[name]())),
  ];
  try {
    for (const turn of turns) await turn();
    for (const times of [bareMs, ...Object.values<number[]>(timesMs)]) times.length = 0;
    for (let round = 0; round < rounds; round++)
      for (let index = 0; index < turns.length; index++) await turns[(index + round) % turns.length]?.();
  } finally {
    bare.remove();
  }
  return { engine: engine.name, floorMs: median(bareMs), timesMs };
}
