// The whole path in virtual time, a few seeds: activator, autoscaler and fleet together, with HTTP to the fake driver.

import { test } from "node:test";
import { tellStack } from "./stack.ts";

const first = Number(process.env["EBB_SEED"] ?? 1);

for (let seed = first; seed < first + 3; seed++)
  test(`each call ends once and is metered once, and nothing is left (seed ${seed})`, async () => {
    await tellStack(seed, 300);
  });
