// `npm run bench`: every number that SPECIFICATION.md promises, as ratios in one run, printed as its table. Method: README.md.

import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { installation } from "#config.ts";
import { bursts } from "./burst.ts";
import { choiceOf } from "./choice.ts";
import { coldStart } from "./cold-start.ts";
import { containers } from "./containers.ts";
import { jobs } from "./jobs.ts";
import { keepAlive } from "./keep-alive.ts";
import { loadTime } from "./load-time.ts";
import { comparePeers, writeComparison } from "./peers.ts";
import { atRest, loopDelay, startWithThousand } from "./platform.ts";
import { redeploy } from "./redeploy.ts";
import { fairness } from "./fairness.ts";
import { poolHit } from "./pool-hit.ts";
import { pull } from "./pull.ts";
import type { Row } from "./row.ts";
import { manyFunctions, manyInstances } from "./scale.ts";
import { surge } from "./surge.ts";
import { thaw } from "./thaw.ts";
import { toZero } from "./to-zero.ts";
import { throughput, warmOverhead } from "./warm-path.ts";
import { createWorld } from "./world.ts";

const choice = choiceOf(process.argv.slice(2));
/** Of each cold start; everything else has rounds enough. */
const rounds = Number(process.env["BENCH_ROUNDS"] ?? 25);
if (!Number.isInteger(rounds) || rounds < 1) throw new RangeError("BENCH_ROUNDS is a number of rounds, 1 or more");

/** Of a job. */
const runs = Number(process.env["BENCH_RUNS"] ?? 1_000);
if (!Number.isInteger(runs) || runs < 1) throw new RangeError("BENCH_RUNS is a number of runs, 1 or more");

/** A peer's can take seconds. */
const peerRounds = Math.ceil(rounds * 0.6);

/** For sandboxes that are started ahead, where they are measured. */
const poolMib = 256;

execFileSync("/bin/sh", [join(installation, "bench/hybrid-cgroups.sh")], { stdio: "inherit" });

const peers = async (): Promise<void> => {
  const comparison = await comparePeers(peerRounds);
  console.log(`\n${comparison.long}\n\n${comparison.short}`);
  if (choice.write) writeComparison(comparison);
};
if (!choice.numbers) {
  await peers();
  process.exit();
}

console.log("| number | target | floor in this run | seen | held |\n|---|---|---|---|---|");
let allHeld = true;
const show = ({ number, target, floor, seen, held }: Row): void => {
  allHeld &&= held !== false;
  console.log(`| ${number} | ${target} | ${floor} | ${seen} | ${held === null ? "–" : held ? "yes" : "**no**"} |`);
};
/** Each row as soon as it is known; what cannot be measured is said in its place, and the others go on. */
const measure = async (what: string, measured: () => Promise<Row | Row[]> | Row[]): Promise<void> => {
  console.error(`bench: ${what} …`);
  try {
    for (const row of [await measured()].flat()) show(row);
  } catch (error) {
    const words = error instanceof Error ? error.message : String(error);
    show({ number: what, target: "–", floor: "–", seen: `not measured: ${words.split("\n")[0]}`, held: false });
  }
};

const world = await createWorld();
try {
  await measure("cold start", () => coldStart(world, rounds));
  await measure("back to zero", () => toZero(world));
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
await measure("thaw", () => thaw(rounds));
await measure("load time", () => loadTime(rounds));
await measure("pull", pull);
await measure("bursts", bursts);
await measure("surge", surge);
await measure("fairness", fairness);
await measure("keep-alive", keepAlive);
await measure("start with 1,000 functions", startWithThousand);
await measure("100,000 functions", manyFunctions);
await measure("300 warm instances", manyInstances);
await measure("containers", () => containers(rounds));
await measure("jobs", () => jobs(rounds, runs));

if (choice.peers) await peers();
process.exitCode = allHeld ? 0 : 1;
