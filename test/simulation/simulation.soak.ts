// The long form of the simulation: many seeds, thousands of functions. EBB_SEED=N starts at (and so repeats) one of them.

import { test } from "node:test";
import { tell } from "./story.ts";

const first = Number(process.env["EBB_SEED"] ?? 1000);

for (let seed = first; seed < first + 300; seed++)
  test(`seed ${seed}: no request is lost, no limit is passed, all goes back to zero`, async () => {
    const memoryMb = [2048, 4096, 24_576][seed % 3]!;
    await tell({ seed, functions: 60, events: 1_000, memoryMb, poolMb: seed % 4 < 2 ? 240 : 0 });
  });

for (let seed = first; seed < first + 5; seed++)
  test(`seed ${seed}: five thousand functions on a machine without room for them`, async () => {
    await tell({ seed, functions: 5_000, events: 10_000, memoryMb: 16_384 });
  });
