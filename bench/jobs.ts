// Jobs: how long it is from asking for a run to its first line, and how many runs of a program that does nothing get done.

import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { imageOf, layerOf, tarOf, writeLayout } from "#images/images.testing.ts";
import type { Engine } from "#sandbox/oci/engine.ts";
import { folderOf, removeDirectory, startDaemon, type Daemon } from "../test/daemon/fixture.ts";
import { engineHere } from "./bare-engine.ts";
import { createBareRun } from "./bare-run.ts";
import { median, percentile } from "./load.ts";
import { inMs, type Row } from "./row.ts";

const firstLineMs = 150;
const leastRate = 0.8;
/** Queues of both, in turn: a neighbour's load falls on either. */
const queues = 2;
const environment = ["PATH=/bin"];

/** `runs`: how many are queued at once. */
export async function jobs(rounds: number, runs: number): Promise<Row[]> {
  const engine = await engineHere();
  const tar = await tarOf([
    { name: "bin/busybox", mode: 0o755, content: readFileSync("/bin/busybox") },
    ...["sh", "true", "echo"].map((name) => ({ name: `bin/${name}`, type: "symlink" as const, linkname: "busybox" })),
  ]);
  const image = imageOf([await layerOf(tar, "none")], { config: { Env: environment } });
  const app = folderOf({
    "ebb.yaml": `jobs:
  line: { image: ./image, command: [echo, hello], memoryMb: 32, egress: none }
  code: { source: ./code, command: [echo, hello], memoryMb: 32, egress: none }
  "true": { image: ./image, command: ["true"], memoryMb: 32, egress: none }
`,
    "code/nothing": "",
  });
  writeLayout(join(app, "image"), image);
  const daemon = await startDaemon();
  try {
    const deployed = await daemon.ebb(["deploy", app]);
    if (deployed.code !== 0) throw new Error(deployed.stderr);
    return [...(await firstLines(daemon, engine, tar, rounds)), await rate(daemon, engine, tar, runs)];
  } finally {
    await daemon.stop();
    removeDirectory(daemon.directory);
    removeDirectory(app);
  }
}

async function firstLines(daemon: Daemon, engine: Engine, tar: Buffer, rounds: number): Promise<Row[]> {
  const bare = createBareRun(engine.path, [tar], ["echo", "hello"], environment);
  const line = await follower(daemon, "line");
  const code = await follower(daemon, "code");
  const times = { bare: [] as number[], line: [] as number[], code: [] as number[] };
  const turns = [
    async () => void times.bare.push(await bare.firstLine()),
    async () => void times.line.push(await line.next()),
    async () => void times.code.push(await code.next()),
  ];
  try {
    for (let round = 0; round <= rounds; round++) {
      for (const turn of round % 2 === 0 ? turns : turns.toReversed()) await turn();
      // The first of each finds cold caches.
      if (round === 0) for (const of of Object.values(times)) of.length = 0;
    }
  } finally {
    line.stop();
    code.stop();
    await bare.remove();
  }
  const floor = median(times.bare);
  const row = (number: string, of: readonly number[]): Row => {
    const p90 = percentile(
      of.toSorted((a, b) => a - b),
      90,
    );
    return {
      number,
      target: `≤ ${inMs(firstLineMs, 0)}`,
      floor: `${inMs(floor)} (${engine.name} run of the same image, on the host's network)`,
      seen: `p50 ${inMs(median(of))} (${(median(of) / floor).toFixed(2)}x), p90 ${inMs(p90)}, n=${of.length}`,
      held: median(of) <= firstLineMs,
    };
  };
  return [
    row("job of an image, from asking for a run to its first line", times.line),
    row("the same of code", times.code),
  ];
}

interface Follower {
  /** Milliseconds from asking for a run until its line is here, and the run has ended. */
  next(): Promise<number>;
  stop(): void;
}

/** Somebody who reads the job's log as it comes. */
async function follower(daemon: Daemon, job: string): Promise<Follower> {
  const ended = new AbortController();
  const lines = daemon.client.followLogs("default", { workload: job }, ended.signal);
  return {
    async next() {
      const line = lines.next();
      const began = performance.now();
      const { id } = await daemon.client.runs.start("default", job);
      await line;
      const tookMs = performance.now() - began;
      await endOf(daemon, id);
      return tookMs;
    },
    stop() {
      ended.abort();
      lines.next().catch(() => undefined);
    },
  };
}

async function endOf(daemon: Daemon, id: string): Promise<void> {
  for (;;) {
    const run = await daemon.client.runs.show("default", id, 60);
    if (run.ended === null) continue;
    if (run.state === "succeeded") return;
    throw new Error(`a run ended ${run.state}: ${run.message}`);
  }
}

/** Asked together where all but a few have ended: whoever asks of each takes a tenth of the processors from the runs. */
async function allEnded(daemon: Daemon, ids: readonly string[]): Promise<void> {
  await endOf(daemon, ids.at(-1)!);
  const rows = await daemon.client.runs.list("default", "true", { limit: Math.min(1_000, ids.length) });
  const succeeded = new Set(rows.filter(({ state }) => state === "succeeded").map(({ id }) => id));
  for (const id of ids) if (!succeeded.has(id)) await endOf(daemon, id);
}

/** From the first that is asked for until the last has ended, beside as many by as many shells as there are cores. */
async function rate(daemon: Daemon, engine: Engine, tar: Buffer, runs: number): Promise<Row> {
  const bare = createBareRun(engine.path, [tar], ["true"], environment);
  const atOnce = cpus().length;
  const times = { bare: 0, one: 0, ebb: 0 };
  const queued = async (): Promise<void> => {
    const began = performance.now();
    const ids: string[] = [];
    for (let n = 0; n < runs; n++) ids.push((await daemon.client.runs.start("default", "true")).id);
    await allEnded(daemon, ids);
    times.ebb += performance.now() - began;
  };
  const turns = [
    async () => void (times.bare += await bare.many(runs, atOnce)),
    async () => void (times.one += await bare.many(runs, 1)),
    queued,
  ];
  try {
    for (let n = 0; n < queues; n++) for (const turn of n % 2 === 0 ? turns : turns.toReversed()) await turn();
  } finally {
    await bare.remove();
  }
  const perSecond = (ms: number): number => (queues * runs * 1_000) / ms;
  const shareOf = (ms: number): string => `${((ms / times.ebb) * 100).toFixed(0)}%`;
  return {
    number: `${runs} queued runs of \`true\``,
    target: `≥ ${leastRate * 100}% of the floor`,
    floor: `${perSecond(times.one).toFixed(1)} a second (${engine.name} run, one after the other; ${atOnce} at a time ${perSecond(times.bare).toFixed(1)})`,
    seen: `${perSecond(times.ebb).toFixed(1)} a second, ${shareOf(times.one)} (${shareOf(times.bare)} of ${atOnce} at a time)`,
    held: times.one / times.ebb >= leastRate,
  };
}
