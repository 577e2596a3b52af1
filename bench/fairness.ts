// Who is not flooded while another is: a second function's calls, and the control API's answers.

import { folderOf, removeDirectory, startDaemon, type Daemon } from "../test/daemon/fixture.ts";
import { load, median, percentile } from "./load.ts";
import { inMs, type Row } from "./row.ts";

const flood = { connections: 200, durationMs: 5_000, host: "flooded.localhost" };
const busy = { connections: 32, durationMs: 10_000, host: "flooded.localhost" };
const aloneMs = 3_000;
const rounds = 3;
/** Of what a call takes alone; every connection of the flood is served once or twice in between. */
const timesAlone = 50;
const apiMs = 50;

const app = `functions:
  flooded: { source: ./hello, public: true, memoryMb: 128, concurrency: 100 }
  other: { source: ./hello, public: true, memoryMb: 128 }
`;

export async function fairness(): Promise<Row[]> {
  const folder = folderOf({ "ebb.yaml": app, "hello/index.mjs": "export default () => new Response('hello');\n" });
  const daemon = await startDaemon();
  try {
    const deployed = await daemon.ebb(["deploy", folder]);
    if (deployed.code !== 0) throw new Error(deployed.stderr);
    return [await neighbour(daemon), await controlApi(daemon)];
  } finally {
    await daemon.stop();
    removeDirectory(daemon.directory);
    removeDirectory(folder);
  }
}

async function neighbour({ port }: Daemon): Promise<Row> {
  const one = { connections: 1, host: "other.localhost" };
  const alone: number[] = [];
  const beside: number[] = [];
  let [failures, calls] = [0, 0];
  // The first is not counted: until V8 has compiled what is hot.
  for (let round = 0; round <= rounds; round++) {
    const quiet = await load({ port }, { ...one, durationMs: aloneMs });
    const [flooded, other] = await Promise.all([
      load({ port }, flood),
      load({ port }, { ...one, durationMs: flood.durationMs }),
    ]);
    if (round === 0) continue;
    alone.push(percentile(quiet.latenciesMs, 99));
    beside.push(percentile(other.latenciesMs, 99));
    failures += quiet.failures + flooded.failures + other.failures;
    calls += other.latenciesMs.length;
  }
  const ratio = median(beside) / median(alone);
  return {
    number: `a function called by one connection while ${flood.connections} flood another one, p99`,
    target: `≤ ${timesAlone}x of alone`,
    floor: inMs(median(alone)),
    seen: `${ratio.toFixed(1)}x (p99 ${inMs(median(beside))}, ${failures} failures, n=${calls})`,
    held: ratio <= timesAlone && failures === 0,
  };
}

async function controlApi(daemon: Daemon): Promise<Row> {
  const times: number[] = [];
  let over = false;
  const headers = { authorization: `Bearer ${daemon.token}`, "content-type": "application/json" };
  const asks = [
    { method: "GET", path: "/api/v1/status" },
    { method: "GET", path: "/api/v1/projects/default/workloads" },
    { method: "PUT", path: "/api/v1/projects/default/secrets/WORD", body: JSON.stringify({ value: "word" }) },
  ];
  const loading = load(daemon, busy).finally(() => (over = true));
  while (!over)
    for (const { path, ...rest } of asks) {
      const began = performance.now();
      const { status, text } = await daemon.fetch(null, path, { ...rest, headers });
      times.push(performance.now() - began);
      if (status >= 300) throw new Error(`${path} answered ${status}: ${text}`);
    }
  const { failures, requestsPerSecond } = await loading;
  const ascending = times.toSorted((a, b) => a - b);
  const p99 = percentile(ascending, 99);
  return {
    number: `the control API (status, list, a secret set) while ${busy.connections} connections load a function, p99`,
    target: `≤ ${inMs(apiMs, 0)}`,
    floor: "–",
    seen: `${inMs(p99)} (p50 ${inMs(percentile(ascending, 50))}, worst ${inMs(percentile(ascending, 100))}, n=${ascending.length}; ${Math.round(requestsPerSecond)}/s, ${failures} failures)`,
    held: p99 <= apiMs && failures === 0,
  };
}
