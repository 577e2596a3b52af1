// From nothing to a thousand requests a second: a load that does not wait for answers comes to a function that sleeps.

import { folderOf, removeDirectory, startDaemon } from "../test/daemon/fixture.ts";
import { percentile } from "./load.ts";
import { openLoop, type OpenLoopResult } from "./open-loop.ts";
import { inMs, type Row } from "./row.ts";
import { settled } from "./settled.ts";

const perSecond = 1_000;
const durationMs = 5_000;
const rounds = 3;
const worstMs = 300;
const poolMib = 1024;

/** What waits 10 ms runs ten at a time at a thousand a second: many in one instance, as its author would have it, or one (the default). */
const app = `functions:
  many: { source: ./waits, public: true, memoryMb: 128, concurrency: 100 }
  one: { source: ./waits, public: true, memoryMb: 128 }
`;
const waits =
  "export default async () => (await new Promise((done) => setTimeout(done, 10)), new Response('hello'));\n";

export async function surge(): Promise<Row[]> {
  const folder = folderOf({ "ebb.yaml": app, "waits/index.mjs": waits });
  const daemon = await startDaemon({ args: ["--pool", String(poolMib)] });
  try {
    const deployed = await daemon.ebb(["deploy", folder]);
    if (deployed.code !== 0) throw new Error(deployed.stderr);
    const surges = async (workload: string): Promise<OpenLoopResult[]> => {
      const results: OpenLoopResult[] = [];
      // The first is what the pool and the autoscaler learn from; it is not counted.
      for (let round = 0; round <= rounds; round++) {
        await daemon.json(["restart", workload]);
        await settled(daemon);
        const target = { port: daemon.port };
        const result = await openLoop(target, { perSecond, durationMs, host: `${workload}.localhost` });
        if (round > 0) results.push(result);
      }
      return results;
    };
    return [
      row(
        `0 to ${perSecond} requests a second to a cold function of concurrency 100 that waits 10 ms`,
        await surges("many"),
      ),
      row("the same with concurrency 1", await surges("one")),
    ];
  } finally {
    await daemon.stop();
    removeDirectory(daemon.directory);
    removeDirectory(folder);
  }
}

function row(number: string, results: readonly OpenLoopResult[]): Row {
  const times = Float64Array.from(results.flatMap(({ latenciesMs }) => [...latenciesMs])).toSorted();
  const failures = results.reduce((sum, { failed }) => sum + failed, 0);
  const lateMs = Math.max(...results.map(({ sentLateMs }) => sentLateMs));
  const worst = percentile(times, 100);
  return {
    number: `${number}, from when each was due`,
    target: `no error, worst ≤ ${inMs(worstMs, 0)}`,
    floor: "–",
    seen: `${failures} errors, worst ${inMs(worst, 0)} (p50 ${inMs(percentile(times, 50))}, p99 ${inMs(percentile(times, 99))}, n=${times.length}; the client itself was late by ${inMs(lateMs, 0)} at most)`,
    held: failures === 0 && worst <= worstMs,
  };
}
