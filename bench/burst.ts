// Crowds at functions that sleep: one function called a hundred times at once, a hundred functions called once at once.

import { join } from "node:path";
import { createBareEngine, engineHere } from "./bare-engine.ts";
import { folderOf, removeDirectory, startDaemon, type Daemon } from "../test/daemon/fixture.ts";
import { median } from "./load.ts";
import { inMs, type Row } from "./row.ts";
import { settled } from "./settled.ts";

const crowd = 100;
const rounds = 3;
const sameMs = 500;
const differentMs = { pooled: 2_000, alone: 5_000 };
/** 1 GiB of them, and none. */
const pools = { pooled: 1024, alone: 0 } as const;

const names = Array.from({ length: crowd }, (_, i) => `f${i}`);
const app = `functions:
  same: { source: ./waits, public: true, memoryMb: 128, max: ${crowd} }
${names.map((name) => `  ${name}: { source: ./hello, public: true, memoryMb: 128 }`).join("\n")}
`;

export async function bursts(): Promise<Row[]> {
  const folder = folderOf({
    "ebb.yaml": app,
    "waits/index.mjs":
      "export default async () => (await new Promise((done) => setTimeout(done, 10)), new Response('hello'));\n",
    "hello/index.mjs": "export default () => new Response('hello');\n",
    "server/index.mjs":
      'import { createServer } from "node:http";\ncreateServer((q, s) => s.end("hello")).listen(process.env.PORT);\n',
  });
  try {
    const pooled = await measure(folder, pools.pooled);
    const alone = await measure(folder, pools.alone);
    const { engine, tookMs } = await bareCrowd(join(folder, "server"));
    const floor = `${inMs(tookMs, 0)} (as many bare ${engine} runs of a Node server at once)`;
    return [
      row(`${crowd} requests at once to one cold function of concurrency 1 that waits 10 ms`, sameMs, pooled.same),
      row(`${crowd} cold functions called at once, with a pool of 1 GiB`, differentMs.pooled, pooled.different, floor),
      row("the same without a pool", differentMs.alone, alone.different, floor),
    ];
  } finally {
    removeDirectory(folder);
  }
}

interface Crowds {
  readonly same: number[];
  readonly different: number[];
}

async function measure(folder: string, poolMib: number): Promise<Crowds> {
  const daemon = await startDaemon({ args: ["--pool", String(poolMib)] });
  try {
    const deployed = await daemon.ebb(["deploy", folder]);
    if (deployed.code !== 0) throw new Error(deployed.stderr);
    const taken: Crowds = { same: [], different: [] };
    // The first crowd of each is what the pool learns from; it is not counted.
    for (let round = 0; round <= rounds; round++) {
      const different = await together(daemon, names);
      const same = await together(
        daemon,
        names.map(() => "same"),
      );
      if (round === 0) continue;
      taken.different.push(different);
      taken.same.push(same);
    }
    return taken;
  } finally {
    await daemon.stop();
    removeDirectory(daemon.directory);
  }
}

/** As many bare engines started at once; until the last of them has answered, ms. What the machine can do at all. */
async function bareCrowd(code: string): Promise<{ readonly engine: string; readonly tookMs: number }> {
  const engine = await engineHere();
  const options = { engine: engine.path, node: process.execPath, code, entry: "index.mjs" };
  const crowds: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const bare = names.map(() => createBareEngine(options));
    try {
      const all = await Promise.all(bare.map((one) => one.launch()));
      crowds.push(Math.max(...all.map(({ tookMs }) => tookMs)));
      await Promise.all(all.map((one) => one.end()));
    } finally {
      for (const one of bare) one.remove();
    }
  }
  return { engine: engine.name, tookMs: median(crowds) };
}

/** Calls all of them at once, from zero; answers how long the last one took, ms. */
async function together(daemon: Daemon, workloads: readonly string[]): Promise<number> {
  for (const workload of ["same", ...names]) await daemon.client.workloads.restart("default", workload);
  await settled(daemon);
  const began = performance.now();
  const answers = await Promise.all(workloads.map((workload) => daemon.fetch(`${workload}.localhost`, "/")));
  const tookMs = performance.now() - began;
  const wrong = answers.find(({ status, text }) => status !== 200 || text !== "hello");
  if (wrong) throw new Error(`a call in a crowd answered ${wrong.status}: ${wrong.text}`);
  return tookMs;
}

function row(number: string, targetMs: number, times: readonly number[], floor = "–"): Row {
  return {
    number,
    target: `≤ ${inMs(targetMs, 0)}`,
    floor,
    seen: `all answered after ${inMs(median(times), 0)} (worst of ${times.length} crowds ${inMs(Math.max(...times), 0)})`,
    held: Math.max(...times) <= targetMs,
  };
}
