// `npm run bench`: every number that SPECIFICATION.md promises, as ratios in one run, printed as its table. Method: README.md.

import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { installation } from "#config.ts";
import { bursts } from "./burst.ts";
import { coldStart } from "./cold-start.ts";
import { atRest, loopDelay, startWithThousand } from "./platform.ts";
import { redeploy } from "./redeploy.ts";
import { poolHit } from "./pool-hit.ts";
import type { Row } from "./row.ts";
import { manyFunctions, manyInstances } from "./scale.ts";
import { throughput, warmOverhead } from "./warm-path.ts";
import { createWorld } from "./world.ts";

/** Of each cold start; everything else has rounds enough. */
const rounds = Number(process.env["BENCH_ROUNDS"] ?? 25);
if (!Number.isInteger(rounds) || rounds < 1) throw new RangeError("BENCH_ROUNDS is a number of rounds, 1 or more");

/** For sandboxes that are started ahead, where they are measured. */
const poolMib = 256;

execFileSync("/bin/sh", [join(installation, "bench/hybrid-cgroups.sh")], { stdio: "inherit" });

const rows: Row[] = [];
const measure = async (what: string, measured: () => Promise<Row | Row[]>): Promise<void> => {
  console.error(`bench: ${what} …`);
  rows.push(...[await measured()].flat());
};

const world = await createWorld();
try {
  await measure("cold start", () => coldStart(world, rounds));
  await measure("warm overhead", () => warmOverhead(world));
  await measure("throughput", () => throughput(world));
  await measure("redeploy", () => redeploy(world));
  await measure("loop delay", () => loopDelay(world));
  await measure("at rest", () => atRest(world));
} finally {
  await world.remove();
}
const pooled = await createWorld(poolMib);
try {
  await measure("cold start from the pool", () => poolHit(pooled, rounds));
} finally {
  await pooled.remove();
}
await measure("bursts", bursts);
await measure("start with 1,000 functions", startWithThousand);
await measure("100,000 functions", manyFunctions);
await measure("300 warm instances", manyInstances);

console.log("| number | target | floor in this run | seen | held |\n|---|---|---|---|---|");
for (const { number, target, floor, seen, held } of rows)
  console.log(`| ${number} | ${target} | ${floor} | ${seen} | ${held ? "yes" : "**no**"} |`);
process.exitCode = rows.every((row) => row.held) ? 0 : 1;
