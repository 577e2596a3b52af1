// Cold starts of a function with 30 MB of dependencies, from the pool: as its files are, with what its load check compiled, and bundled.

import { execFile } from "node:child_process";
import { cpSync, existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { eventually, folderOf, removeDirectory, startDaemon, type Daemon } from "../test/daemon/fixture.ts";
import { median, percentile } from "./load.ts";
import { inMs, type Row } from "./row.ts";

const poolMib = 128;
/** As in pool-hit.ts. */
const settledMs = 700;
const fetchMs = 300_000;
/** Of the same start without. */
const targets = { cached: 0.85, bundled: 0.6 };

/** Not ebb's own: fetched when this is measured, and kept beside npm's other caches. */
const packages = {
  "@aws-sdk/client-s3": "3.1175.0",
  "@aws-sdk/client-dynamodb": "3.1169.0",
  "@aws-sdk/lib-dynamodb": "3.1169.0",
  "@aws-sdk/client-sqs": "3.1175.0",
};

/** Answers the CPU time of its process so far, so that what a neighbour takes of the wall's time can be told from it. */
const answer =
  "export default () => { const { user, system } = process.cpuUsage(); return Response.json((user + system) / 1000); };\n";
const sdk = `import { S3Client } from "@aws-sdk/client-s3";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { DynamoDBDocumentClient } from "@aws-sdk/lib-dynamodb";
import { SQSClient } from "@aws-sdk/client-sqs";
const region = "eu-west-1";
export const clients = [new S3Client({ region }), DynamoDBDocumentClient.from(new DynamoDBClient({ region })), new SQSClient({ region })];
${answer}`;

const common = "public: true, memoryMb: 256, idleSeconds: 0";
const plain = 'env: { NODE_DISABLE_COMPILE_CACHE: "1" }';
const app = `functions:
  nothing: { source: ./nothing, ${common} }
  plain: { source: ./sdk, ${common}, ${plain} }
  cached: { source: ./sdk, ${common} }
  bundled: { source: ./sdk, ${common}, bundle: true }
`;
const workloads = ["nothing", "plain", "cached", "bundled"] as const;
type Workload = (typeof workloads)[number];

export async function loadTime(rounds: number): Promise<Row[]> {
  const folder = folderOf({ "ebb.yaml": app, "nothing/index.mjs": answer, "sdk/index.mjs": sdk });
  let daemon: Daemon | null = null;
  try {
    const missing = await fetchPackages(join(folder, "sdk"));
    if (missing !== null) return rowsOf(null, missing);
    daemon = await startDaemon({ args: ["--pool", String(poolMib)] });
    const deployed = await daemon.ebb(["deploy", folder]);
    if (deployed.code !== 0) throw new Error(deployed.stderr);
    return rowsOf(await measure(daemon, rounds), "");
  } finally {
    await daemon?.stop();
    if (daemon) removeDirectory(daemon.directory);
    removeDirectory(folder);
  }
}

/** Puts node_modules into the folder; answers why it cannot, in a sentence. */
async function fetchPackages(folder: string): Promise<string | null> {
  const cache = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "ebb");
  const versions = Object.values(packages).join("-");
  const kept = join(cache, `bench-aws-sdk-${versions}`);
  if (!existsSync(kept)) {
    const unfinished = `${kept}.${process.pid}`;
    mkdirSync(unfinished, { recursive: true });
    try {
      writeFileSync(join(unfinished, "package.json"), JSON.stringify({ private: true, dependencies: packages }));
      const args = ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--silent"];
      await promisify(execFile)("npm", args, { cwd: unfinished, timeout: fetchMs });
      renameSync(unfinished, kept);
    } catch (error) {
      rmSync(unfinished, { recursive: true, force: true });
      const words = error instanceof Error ? (error.message.trim().split("\n")[0] ?? "") : String(error);
      return `the packages cannot be fetched (${words.slice(0, 120)})`;
    }
  }
  cpSync(join(kept, "node_modules"), join(folder, "node_modules"), { recursive: true, verbatimSymlinks: true });
  return null;
}

interface Start {
  readonly tookMs: number;
  readonly cpuMs: number;
}

type Measured = Readonly<Record<Workload, readonly Start[]>>;

async function measure(daemon: Daemon, rounds: number): Promise<Measured> {
  const start = async (workload: Workload): Promise<Start> => {
    await eventually("the pool is full, and nothing runs", async () => {
      const { text } = await daemon.fetch(null, "/api/v1/status", {
        headers: { authorization: `Bearer ${daemon.token}` },
      });
      const { pool, instances } = JSON.parse(text) as Status;
      return pool.sandboxes >= 1 && instances.running + instances.starting === 0;
    });
    await sleep(settledMs);
    const began = performance.now();
    const { status, text } = await daemon.fetch(`${workload}.localhost`, "/");
    const tookMs = performance.now() - began;
    if (status !== 200) throw new Error(`${workload} answered ${status}: ${text}`);
    return { tookMs, cpuMs: JSON.parse(text) as number };
  };
  const starts = Object.fromEntries(workloads.map((name) => [name, [] as Start[]])) as Record<Workload, Start[]>;
  for (const workload of workloads) await start(workload);
  for (let round = 0; round < rounds; round++)
    for (let index = 0; index < workloads.length; index++) {
      const workload = workloads[(index + round) % workloads.length]!;
      starts[workload].push(await start(workload));
    }
  return starts;
}

function rowsOf(measured: Measured | null, missing: string): Row[] {
  const row = (number: string, workload: Workload, target: number): Row => {
    const head = { number, target: `≤ ${target}x` };
    if (measured === null) return { ...head, floor: "–", seen: `not measured: ${missing}`, held: false };
    const floorMs = median(measured.plain.map(({ tookMs }) => tookMs));
    const times = measured[workload].map(({ tookMs }) => tookMs).toSorted((a, b) => a - b);
    const p50 = median(times);
    return {
      ...head,
      floor: `${inMs(floorMs)}, ${inMs(cpuOf(measured, "plain"), 0)} CPU (from its files)`,
      seen: `${(p50 / floorMs).toFixed(2)}x (p50 ${inMs(p50)}, p90 ${inMs(percentile(times, 90))}, ${inMs(cpuOf(measured, workload), 0)} CPU, n=${times.length})`,
      held: p50 <= floorMs * target,
    };
  };
  return [
    row(
      "cold start from the pool, AWS SDK (30 MB of packages), with what its load check compiled, p50",
      "cached",
      targets.cached,
    ),
    row("the same, bundled", "bundled", targets.bundled),
  ];
}

/** What loading costs: less what a function that loads nothing has used by then. */
function cpuOf(measured: Measured, workload: Workload): number {
  const cpu = (of: Workload): number => median(measured[of].map(({ cpuMs }) => cpuMs));
  return cpu(workload) - cpu("nothing");
}

interface Status {
  readonly pool: { readonly sandboxes: number };
  readonly instances: { readonly running: number; readonly starting: number };
}
