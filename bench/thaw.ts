// What a call pays for a paused instance: against the same function whose instance has been idle for as long and was not paused, in turn.

import { eventually, folderOf, removeDirectory, startDaemon, type Daemon } from "../test/daemon/fixture.ts";
import { median, percentile } from "./load.ts";
import { inMs, type Row } from "./row.ts";

const targetMs = 1;
/** `min` keeps an instance from being paused. */
const app = `functions:
  paused: { source: ., public: true, memoryMb: 128, max: 1, idleSeconds: 600 }
  idle: { source: ., public: true, memoryMb: 128, max: 1, idleSeconds: 600, min: 1 }
`;
const workloads = ["paused", "idle"] as const;

export async function thaw(rounds: number): Promise<Row> {
  const folder = folderOf({ "ebb.yaml": app, "index.mjs": "export default () => new Response('hello');\n" });
  const daemon = await startDaemon({ args: ["--pause", "1"] });
  const timesMs = { paused: [] as number[], idle: [] as number[] };
  try {
    const deployed = await daemon.ebb(["deploy", folder]);
    if (deployed.code !== 0) throw new Error(deployed.stderr);
    // The first calls are cold ones, and the next compile what is hot: neither is counted.
    const warmUps = 3;
    for (let round = -warmUps; round < rounds; round++) {
      await eventually("what was called is paused", async () => round === -warmUps || (await pausedOf(daemon)) === 1);
      for (const workload of round % 2 === 0 ? workloads : workloads.toReversed()) {
        const tookMs = await call(daemon, workload);
        if (round >= 0) timesMs[workload].push(tookMs);
      }
    }
  } finally {
    await daemon.stop();
    for (const path of [daemon.directory, folder]) removeDirectory(path);
  }
  const over = median(timesMs.paused) - median(timesMs.idle);
  const p90 = (times: readonly number[]): number =>
    percentile(
      times.toSorted((a, b) => a - b),
      90,
    );
  return {
    number: "a call of a paused instance over one of an instance that is idle for as long and not paused, p50",
    target: `< ${inMs(targetMs, 0)}`,
    floor: inMs(median(timesMs.idle), 2),
    seen: `${over < 0 ? "" : "+"}${inMs(over, 2)} (p50 ${inMs(median(timesMs.paused), 2)}; p90 ${inMs(p90(timesMs.paused), 2)} over ${inMs(p90(timesMs.idle), 2)}, n=${rounds})`,
    held: over < targetMs,
  };
}

/** Of all workloads: no call is hidden behind the question. */
async function pausedOf(daemon: Daemon): Promise<number> {
  const { text } = await daemon.fetch(null, "/api/v1/projects/default/workloads", {
    headers: { authorization: `Bearer ${daemon.token}` },
  });
  return (JSON.parse(text) as { paused: number }[]).reduce((sum, row) => sum + row.paused, 0);
}

async function call(daemon: Daemon, workload: string): Promise<number> {
  const began = performance.now();
  const { status, text } = await daemon.fetch(`${workload}.localhost`, "/");
  if (status !== 200 || text !== "hello") throw new Error(`${workload} answered ${status}: ${text}`);
  return performance.now() - began;
}
