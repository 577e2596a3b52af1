// The long form of the whole path in virtual time. EBB_SEED=N starts at (and so repeats) one of the seeds.

import { test } from "node:test";
import { tellStack } from "./stack.ts";

const first = Number(process.env["EBB_SEED"] ?? 1000);

for (let seed = first; seed < first + 150; seed++)
  test(`seed ${seed}: each call ends once and is metered once, and nothing is left`, async () => {
    await tellStack(seed, 1_000);
  });
