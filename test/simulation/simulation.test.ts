// The short form of the simulation: a few seeds of it, seconds in all. The long form is simulation.soak.ts.

import { test } from "node:test";
import { tell } from "./story.ts";

const first = Number(process.env["EBB_SEED"] ?? 1);

for (let seed = first; seed < first + 4; seed++)
  test(`no request is lost, no limit is passed, and all goes back to zero (seed ${seed})`, async () => {
    const memoryMb = seed % 2 === 0 ? 4096 : 24_576;
    await tell({ seed, functions: 40, events: 400, memoryMb, poolMb: seed % 4 < 2 ? 240 : 0 });
  });

test("a thousand functions on one machine that has no room for them all (seed 99)", async () => {
  await tell({ seed: 99, functions: 1_000, events: 1_000, memoryMb: 8192 });
});
