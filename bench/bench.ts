// `npm run bench`: every number that SPECIFICATION.md promises, as ratios in one run, printed as its table.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { installation } from "#config.ts";
import { eventually, folderOf, removeDirectory, startDaemon, type Daemon } from "../test/daemon/fixture.ts";
import { createBareEngine } from "./bare-engine.ts";
import { load, median, percentile, type LoadResult, type Target } from "./load.ts";
import { cpuMs, ownProcesses, pssMiB } from "./processes.ts";
import { seedFunctions } from "./seed.ts";

interface Row {
  readonly number: string;
  readonly target: string;
  readonly floor: string;
  readonly seen: string;
  readonly held: boolean;
}

const rounds = Number(process.env["BENCH_ROUNDS"] ?? 15);
const rows: Row[] = [];
const handler = 'import { createServer } from "node:http";\ncreateServer((q, s) => s.end("hello")).listen(process.env.PORT);\n';
const code = folderOf({
  "ebb.yaml": [
    "functions:",
    "  cold: { source: ./server, public: true, memoryMb: 128, idleSeconds: 0 }",
    "  warm: { source: ./server, public: true, memoryMb: 128, concurrency: 100, idleSeconds: 600 }",
    "  web: { source: ./web, public: true, memoryMb: 128, concurrency: 100, max: 1, idleSeconds: 600 }",
    "  many: { source: ./web, public: true, memoryMb: 64, max: 100, idleSeconds: 600 }",
    "",
  ].join("\n"),
  "server/index.mjs": handler,
  "web/index.mjs": "export default () => new Response('hello');\n",
});

execFileSync("/bin/sh", [join(installation, "bench/hybrid-cgroups.sh")], { stdio: "inherit" });
const daemon = await startDaemon();
try {
  const deployed = await daemon.ebb(["deploy", code]);
  if (deployed.code !== 0) throw new Error(deployed.stderr);
  await coldStart();
  await warm();
  await throughput();
  await idle();
  await loopDelay();
} finally {
  await daemon.stop();
  removeDirectory(daemon.directory);
  removeDirectory(code);
}
await startWithThousand();
print();

/** From zero, no pool: the request's own time against the bare engine's, in turn. */
async function coldStart(): Promise<void> {
  const engine = ["/usr/bin/crun", "/usr/sbin/crun"].find((path) => execFileSync("/bin/ls", ["-d", path], { stdio: ["ignore", "pipe", "ignore"] }).length > 0);
  const bare = createBareEngine(engine ?? "/usr/bin/crun", process.execPath);
  const bareMs: number[] = [];
  const ebbMs: number[] = [];
  for (let round = 0; round < rounds; round++) {
    bareMs.push(await bare.start());
    await asleep(daemon, "cold");
    const began = performance.now();
    const answer = await daemon.fetch("cold.localhost", "/");
    ebbMs.push(performance.now() - began);
    if (answer.status !== 200) throw new Error(answer.text);
  }
  bare.remove();
  const sorted = ebbMs.toSorted((a, b) => a - b);
  const ratio = median(ebbMs) / median(bareMs);
  rows.push({
    number: "cold start from zero, no pool, full sandbox: p50 against a bare `crun run` of the same server",
    target: "≤ 1.5x",
    floor: `${median(bareMs).toFixed(1)} ms`,
    seen: `${ratio.toFixed(2)}x (p50 ${median(ebbMs).toFixed(1)} ms, worst ${percentile(sorted, 100).toFixed(1)} ms of ${rounds})`,
    held: ratio <= 1.5,
  });
}

async function asleep(of: Daemon, name: string): Promise<void> {
  await eventually(`${name} is asleep`, async () =>
    (await of.json<Array<{ name: string; instances: number }>>(["ls"])).some((row) => row.name === name && row.instances === 0),
  );
}

/** The same server, called directly over TCP and through ebb, one connection, in turn. */
async function warm(): Promise<void> {
  const direct = spawn(process.execPath, [join(code, "server/index.mjs")], { env: { PORT: "0" }, stdio: ["ignore", "pipe", "inherit"] });
  try {
    const port = await portOf(direct.pid ?? 0);
    await daemon.fetch("warm.localhost", "/");
    const [bare, through] = await alternate({ port }, { port: daemon.port }, "warm.localhost", 1, 1500);
    const over = (percent: number): number => percentile(through.latenciesMs, percent) - percentile(bare.latenciesMs, percent);
    rows.push({
      number: "warm overhead over the same server called directly, one connection: p50",
      target: "≤ 0.25 ms",
      floor: `${(percentile(bare.latenciesMs, 50) * 1000).toFixed(0)} µs`,
      seen: `+${over(50).toFixed(3)} ms (p99 +${over(99).toFixed(3)} ms; ${through.failures} failures)`,
      held: over(50) <= 0.25 && through.failures === 0,
    });
  } finally {
    direct.kill("SIGKILL");
    await once(direct, "exit");
  }
}

/** The same function called directly over its socket, and through ebb, 32 connections, in turn. */
async function throughput(): Promise<void> {
  await daemon.fetch("web.localhost", "/");
  const path = await socketOf("web");
  const [direct, through] = await alternate({ path }, { port: daemon.port }, "web.localhost", 32, 2500);
  const share = through.requestsPerSecond / direct.requestsPerSecond;
  rows.push({
    number: "throughput at 32 connections, of the same function called directly over its socket",
    target: "≥ 25%",
    floor: `${Math.round(direct.requestsPerSecond)} req/s`,
    seen: `${(share * 100).toFixed(0)}% (${Math.round(through.requestsPerSecond)} req/s, p99 ${percentile(through.latenciesMs, 99).toFixed(1)} ms; ${through.failures} failures)`,
    held: share >= 0.25 && through.failures === 0,
  });
}

/** Two targets in turn, the order reversed each round; the medians' round of each. */
async function alternate(a: Target, b: Target, host: string, connections: number, durationMs: number): Promise<[LoadResult, LoadResult]> {
  const results: [LoadResult[], LoadResult[]] = [[], []];
  const one = async (index: 0 | 1): Promise<void> => {
    results[index].push(await load(index === 0 ? a : b, { connections, durationMs, host }));
  };
  await load(a, { connections, durationMs: 500, host });
  await load(b, { connections, durationMs: 500, host });
  for (let round = 0; round < 5; round++) {
    await one(round % 2 === 0 ? 0 : 1);
    await one(round % 2 === 0 ? 1 : 0);
  }
  const middle = (all: LoadResult[]): LoadResult => {
    const sorted = all.toSorted((x, y) => x.requestsPerSecond - y.requestsPerSecond)[Math.floor(all.length / 2)];
    if (!sorted) throw new Error("no round was run");
    return sorted;
  };
  return [middle(results[0]), middle(results[1])];
}

async function idle(): Promise<void> {
  for (const name of ["cold", "warm", "web", "many"]) await daemon.ebb(["restart", name]);
  for (const name of ["warm", "web", "many"]) await asleep(daemon, name);
  const own = ownProcesses(daemon.process.pid ?? 0);
  await new Promise((resolve) => setTimeout(resolve, 2000));
  const before = cpuMs(own);
  await new Promise((resolve) => setTimeout(resolve, 10_000));
  const used = cpuMs(own) - before;
  const pss = pssMiB(own);
  rows.push({
    number: "ebb's own processes, idle",
    target: "≤ 150 MiB PSS, no CPU",
    floor: "–",
    seen: `${pss.toFixed(0)} MiB PSS in ${own.length} processes, ${used} ms CPU in 10 s`,
    held: pss <= 150 && used <= 50,
  });
}

/** The main loop's own delay, measured inside the daemon, while a hundred instances start. */
async function loopDelay(): Promise<void> {
  const measured = fetch(`${daemon.url}/api/v1/platform/loop-delay?seconds=20`, { headers: { authorization: `Bearer ${daemon.token}` } });
  const began = performance.now();
  const answers = await Promise.all(Array.from({ length: 100 }, () => daemon.fetch("many.localhost", "/")));
  const burstMs = performance.now() - began;
  const response = await measured;
  const delay = (await response.json()) as { p50Ms: number; p99Ms: number; maxMs: number };
  const instances = (await daemon.json<Array<{ name: string; instances: number }>>(["ls"])).find((row) => row.name === "many")?.instances ?? 0;
  rows.push({
    number: "main loop's delay while a burst of 100 requests starts instances: p99",
    target: "≤ 5 ms",
    floor: "–",
    seen: `${delay.p99Ms.toFixed(1)} ms (max ${delay.maxMs.toFixed(1)}; ${answers.filter((answer) => answer.status === 200).length} of 100 answered in ${(burstMs / 1000).toFixed(1)} s by ${instances} instances)`,
    held: delay.p99Ms <= 5 && answers.every((answer) => answer.status === 200),
  });
}

async function startWithThousand(): Promise<void> {
  const directory = await seedFunctions(1000);
  const times: number[] = [];
  for (let round = 0; round < 3; round++) {
    const began = performance.now();
    const started = await startDaemon({ directory });
    times.push(performance.now() - began);
    await started.stop();
  }
  removeDirectory(directory);
  rows.push({
    number: "`ebb up` of an existing data directory with 1,000 functions, to ready",
    target: "≤ 2 s",
    floor: "–",
    seen: `${(median(times) / 1000).toFixed(2)} s`,
    held: median(times) <= 2000,
  });
}

/** The Unix socket of the one instance of a workload: found among the daemon's runtime files, as only root can. */
async function socketOf(workload: string): Promise<string> {
  const shown = await daemon.json<{ instances: Array<{ id: string; socket?: string }> }>(["show", workload]);
  const sockets = readdirSync("/run/ebb", { recursive: true, withFileTypes: true }).filter((entry) => entry.isSocket());
  for (const entry of sockets) {
    const path = join(entry.parentPath, entry.name);
    const answer = await load({ path }, { connections: 1, durationMs: 1, host: "web.localhost" }).catch(() => null);
    if (answer && answer.failures === 0 && shown.instances.length === 1 && entry.parentPath.length > 0 && (await isInstance(path))) return path;
  }
  throw new Error(`no socket of ${workload} was found`);
}

/** Only one function is awake besides `warm`, whose server answers with another header. */
async function isInstance(path: string): Promise<boolean> {
  const { request } = await import("node:http");
  return new Promise((resolve) => {
    const asking = request({ socketPath: path, path: "/" }, (response) => {
      response.resume();
      resolve(response.headers["content-type"]?.startsWith("text/plain") ?? false);
    });
    asking.on("error", () => resolve(false));
    asking.end();
  });
}

/** The TCP port that a process listens on, from /proc. */
async function portOf(pid: number): Promise<number> {
  return eventually("the server listens", async () => {
    const listening = execFileSync("/bin/sh", ["-c", "exec ss -Hltnp"], { encoding: "utf8" });
    const line = listening.split("\n").find((text) => text.includes(`pid=${pid},`));
    return Promise.resolve(Number(/:(\d+)\s/.exec(line ?? "")?.[1] ?? 0));
  });
}

function print(): void {
  console.log("\n| number | target | floor in this run | seen | held |\n|---|---|---|---|---|");
  for (const row of rows) console.log(`| ${row.number} | ${row.target} | ${row.floor} | ${row.seen} | ${row.held ? "yes" : "**no**"} |`);
}
