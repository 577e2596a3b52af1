// Much of everything: a hundred thousand deployed functions, and hundreds of instances that wait for their next call.

import { setTimeout as sleep } from "node:timers/promises";
import { eventually, folderOf, removeDirectory, startDaemon, type Daemon } from "../test/daemon/fixture.ts";
import { load, median, percentile } from "./load.ts";
import { childrenOf, cpuMs, ownProcesses, pssMiB } from "./processes.ts";
import { inMs, type Row } from "./row.ts";
import { seedFunctions } from "./seed.ts";
import { createWorld, functionsOfWorld, type World } from "./world.ts";

const functions = 100_000;
const startMs = 5_000;
const startRounds = 5;
/** Ratios below are of the same code in the same run: what differs is how much is deployed. */
const sameRatio = 1.2;
const coldRounds = 15;
const warmRounds = 5;
const warmMs = 1_000;
/** Ebb has given back what its start has left behind. */
const settleMs = 25_000;

const warmInstances = 300;
const instanceMb = 64;
const startsWithinMs = 600_000;
const stopMs = 10_000;
const watchedMs = 10_000;
/** Below what a clock of ticks can tell from nothing. */
const noCpuMs = 50;

/** `ebb up` with a hundred thousand functions, and calls there beside calls of an ebb that has a handful. */
export async function manyFunctions(): Promise<Row[]> {
  const directory = await seedFunctions(functions - functionsOfWorld);
  try {
    const times: number[] = [];
    let atRestMiB = 0;
    for (let round = 0; round <= startRounds; round++) {
      const began = performance.now();
      const daemon = await startDaemon({ directory });
      // The first proves the isolation and assembles the runtimes' roots: once in a data directory's life.
      if (round > 0) times.push(performance.now() - began);
      if (round === startRounds) {
        await sleep(settleMs);
        atRestMiB = pssMiB(ownProcesses(daemon.process.pid ?? 0));
      }
      await daemon.stop();
    }
    return [startRow(times, atRestMiB), ...(await beside(directory))];
  } finally {
    removeDirectory(directory);
  }
}

function startRow(times: readonly number[], atRestMiB: number): Row {
  return {
    number: `\`ebb up\` of an existing data directory with ${grouped(functions)} functions, spawn to ready, p50`,
    target: `≤ ${inMs(startMs, 0)}`,
    floor: "–",
    seen: `${inMs(median(times), 0)} (worst ${inMs(Math.max(...times), 0)}, n=${times.length}; daemon and spawner at rest: ${atRestMiB.toFixed(0)} MiB PSS)`,
    held: median(times) <= startMs,
  };
}

async function beside(directory: string): Promise<Row[]> {
  const few = await createWorld();
  try {
    const many = await createWorld(0, directory);
    try {
      return [await coldBeside(few, many), await warmBeside(few, many)];
    } finally {
      await many.remove();
    }
  } finally {
    await few.remove();
  }
}

async function coldBeside(few: World, many: World): Promise<Row> {
  const [ofFew, ofMany]: [number[], number[]] = [[], []];
  const one = async (world: World, times: number[]): Promise<void> => {
    await world.empty();
    const began = performance.now();
    await world.call("cold-web");
    times.push(performance.now() - began);
  };
  await one(few, []);
  await one(many, []);
  for (let round = 0; round < coldRounds; round++) {
    if (round % 2 === 0) await one(few, ofFew);
    await one(many, ofMany);
    if (round % 2 === 1) await one(few, ofFew);
  }
  return sameRow("a cold start from zero, no pool", median(ofFew), median(ofMany), ofMany.length);
}

async function warmBeside(few: World, many: World): Promise<Row> {
  const [ofFew, ofMany]: [number[], number[]] = [[], []];
  let samples = 0;
  const one = async ({ daemon }: World, medians: number[]): Promise<void> => {
    const options = { connections: 1, durationMs: warmMs, host: "web.localhost" };
    const { latenciesMs, failures } = await load({ port: daemon.port }, options);
    if (failures > 0) throw new Error(`${failures} calls failed`);
    samples += latenciesMs.length;
    medians.push(percentile(latenciesMs, 50));
  };
  await one(few, []);
  await one(many, []);
  samples = 0;
  for (let round = 0; round < warmRounds; round++) {
    await one(few, ofFew);
    await one(many, ofMany);
  }
  return sameRow("a warm call", median(ofFew), median(ofMany), samples);
}

function sameRow(what: string, fewMs: number, manyMs: number, count: number): Row {
  const ratio = manyMs / fewMs;
  return {
    number: `${what}, with ${grouped(functions)} functions deployed, beside an ebb that has ${functionsOfWorld}, p50`,
    target: `≤ ${sameRatio}x`,
    floor: inMs(fewMs, 2),
    seen: `${ratio.toFixed(2)}x (${inMs(manyMs, 2)}, n=${count})`,
    held: ratio <= sameRatio,
  };
}

const app = `
functions:
  warm: { source: ., public: true, memoryMb: ${instanceMb}, min: ${warmInstances}, max: ${warmInstances} }
`;
const handler =
  "export default async () => (await new Promise((done) => setTimeout(done, 100)), new Response('hello'));\n";

/** Held by `min`: each is started without a call, and stays. Nothing is evicted for another: all of them fit. */
export async function manyInstances(): Promise<Row> {
  const folder = folderOf({ "ebb.yaml": app, "index.mjs": handler });
  const daemon = await startDaemon();
  try {
    const deployed = await daemon.ebb(["deploy", folder]);
    if (deployed.code !== 0) throw new Error(deployed.stderr);
    await eventually(
      `${warmInstances} instances are ready`,
      async () => (await ready(daemon)) === warmInstances,
      startsWithinMs,
    );
    const calls = await Promise.all(
      Array.from({ length: warmInstances }, () => daemon.fetch("warm.localhost", "/").then(({ status }) => status)),
    );
    const answered = calls.filter((status) => status === 200).length;
    await sleep(settleMs);
    const own = ownProcesses(daemon.process.pid ?? 0);
    const sandboxes = own.flatMap(descendantsOf).filter((pid) => !own.includes(pid));
    const before = cpuMs(own);
    await sleep(watchedMs);
    const usedMs = cpuMs(own) - before;
    const [instancesMiB, ownMiB] = [pssMiB(sandboxes), pssMiB(own)];
    const count = await ready(daemon);
    const began = performance.now();
    await daemon.stop();
    const stoppedMs = performance.now() - began;
    const seen = [
      `${count}, ${answered} calls at once answered`,
      `${(instancesMiB / count).toFixed(1)} MiB PSS each with its engine (${(instancesMiB / 1_024).toFixed(1)} GiB in all)`,
      `ebb itself ${ownMiB.toFixed(0)} MiB, ${usedMs} ms CPU in ${watchedMs / 1_000} s at rest`,
      `all gone ${inMs(stoppedMs, 0)} after SIGTERM`,
    ];
    return {
      number: `warm Node instances at once, of ${instanceMb} MiB each`,
      target: `≥ ${warmInstances}, gone within ${stopMs / 1_000} s of a SIGTERM`,
      floor: "–",
      seen: seen.join("; "),
      held: count >= warmInstances && answered === warmInstances && stoppedMs <= stopMs && usedMs <= noCpuMs,
    };
  } finally {
    await daemon.stop();
    removeDirectory(daemon.directory);
    removeDirectory(folder);
  }
}

async function ready(daemon: Daemon): Promise<number> {
  const headers = { authorization: `Bearer ${daemon.token}` };
  const { text } = await daemon.fetch(null, "/api/v1/status", { headers });
  return (JSON.parse(text) as { instances: { running: number } }).instances.running;
}

function descendantsOf(pid: number): number[] {
  const children = childrenOf(pid);
  return children.concat(children.flatMap(descendantsOf));
}

function grouped(count: number): string {
  return count.toLocaleString("en");
}
