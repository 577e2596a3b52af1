// One function is flooded in a real ebb: what another's calls and the control API take is counted in the flood's own answers.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { folderOf, removeDirectory, startDaemon, type Daemon } from "./fixture.ts";
import { load } from "../../bench/load.ts";
import { startLoad, type Load } from "./load.ts";

const connections = 200;
/** Between a question and its answer each connection of the flood may be answered so often. */
const rounds = 5;
const calls = 20;

const code = folderOf({
  "ebb.yaml": `functions:
  flooded: { source: ./hello, public: true, memoryMb: 128, concurrency: 100, max: 2 }
  other: { source: ./hello, public: true, memoryMb: 128 }
  late: { source: ./hello, public: true, memoryMb: 128 }
  small: { source: ./hello, public: true, memoryMb: 64, concurrency: 40, max: 1 }
`,
  "hello/index.mjs": "export default () => new Response('hello');\n",
});

let daemon: Daemon;
let flood: Load;

before(async () => {
  daemon = await startDaemon();
  const { code: exit, stderr } = await daemon.ebb(["deploy", code]);
  assert.equal(exit, 0, stderr);
  for (const workload of ["flooded", "other"]) await answered(workload);
  flood = startLoad({ port: daemon.port, workloads: Array(connections).fill("flooded"), reuse: true });
});
after(async () => {
  // Not there where what comes before it has failed.
  await (flood as Load | undefined)?.stop();
  await daemon.stop();
  removeDirectory(daemon.directory);
  removeDirectory(code);
});

async function answered(workload: string): Promise<void> {
  const { status, text } = await daemon.fetch(`${workload}.localhost`, "/");
  assert.deepEqual([status, text], [200, "hello"]);
}

/** How many answers the flood gets while each of these is waited for, the most first. */
async function floodDuring(ask: () => Promise<void>): Promise<number[]> {
  const counts: number[] = [];
  for (let call = 0; call < calls; call++) {
    const before = flood.complete().length;
    await ask();
    counts.push(flood.complete().length - before);
  }
  return counts.toSorted((a, b) => b - a);
}

test("another function's calls come soon beside the flood, and so does its first instance", async (t) => {
  const counts = await floodDuring(() => answered("other"));
  t.diagnostic(`answers of the flood during one call: ${counts.slice(0, 5).join(", ")} at most`);
  assert.ok(counts[1]! <= rounds * connections, `${counts[1]} answers of the flood during one call`);
  await answered("late");
});

test("the control API answers beside the flood", async (t) => {
  const headers = { authorization: `Bearer ${daemon.token}` };
  const counts = await floodDuring(async () => {
    const { status } = await daemon.fetch(null, "/api/v1/status", { headers });
    assert.equal(status, 200);
  });
  t.diagnostic(`answers of the flood during one question: ${counts.slice(0, 5).join(", ")} at most`);
  assert.ok(counts[1]! <= rounds * connections, `${counts[1]} answers of the flood during one question`);
});

test("the flood itself is answered, all of it", () => {
  const seen = flood.complete();
  assert.ok(seen.length > connections);
  assert.deepEqual([...new Set(seen.map(({ status }) => status))], [200]);
});

test("a function of the least memory answers as many calls as come, and has enough", async () => {
  await flood.stop();
  await answered("small");
  const { latenciesMs, failures } = await load(
    { port: daemon.port },
    { connections: 32, durationMs: 2_000, host: "small.localhost" },
  );
  assert.equal(failures, 0, `of ${latenciesMs.length}`);
});
