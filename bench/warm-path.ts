// What ebb costs a warm call: latency on one connection, throughput on 32, each against the same server called directly, in turn.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually } from "../test/daemon/fixture.ts";
import { load, median, percentile, type LoadResult, type Target } from "./load.ts";
import { openLoop, type OpenLoopResult } from "./open-loop.ts";
import { inMs, type Row } from "./row.ts";
import type { World } from "./world.ts";

const overheadMs = 0.1;
const overheadP99Ms = 1;
const share = 0.4;
const rounds = 5;

interface Compared {
  readonly direct: readonly LoadResult[];
  readonly through: readonly LoadResult[];
}

/** The server outside of any sandbox, over a Unix socket as instances have it; one connection. */
export async function warmOverhead(world: World): Promise<Row> {
  const folder = mkdtempSync(join(tmpdir(), "ebb-bench-"));
  const path = join(folder, "s");
  const server = spawn(process.execPath, [join(world.code, world.entry)], {
    env: { PORT: path },
    stdio: ["ignore", "ignore", "inherit"],
  });
  try {
    await eventually("the server listens", () => Promise.resolve(existsSync(path)));
    await world.call("warm");
    const { direct, through } = await compare(
      { path },
      { port: world.daemon.port },
      { host: "warm.localhost" },
      1,
      1_500,
    );
    const at = (results: readonly LoadResult[], percent: number): number =>
      median(results.map((result) => percentile(result.latenciesMs, percent)));
    const over = (percent: number): number => at(through, percent) - at(direct, percent);
    const failed = failures(direct) + failures(through);
    return {
      number: "warm overhead over the same server called directly, one connection, p50",
      target: `≤ ${inMs(overheadMs, 2)}`,
      floor: inMs(at(direct, 50), 3),
      seen: `+${inMs(over(50), 3)} (p99 +${inMs(over(99), 3)}, ${failed} failures, n=${count(through)})`,
      held: over(50) <= overheadMs && failed === 0,
    };
  } finally {
    server.kill("SIGKILL");
    await once(server, "exit");
    rmSync(folder, { recursive: true, force: true });
  }
}

/** On 32 connections, and then half of what ebb did on as many, which are open before; and what has a body. */
export async function throughput(world: World): Promise<Row[]> {
  const gets = await onMany(
    world,
    "web",
    "throughput on 32 connections, of the same function called directly over its socket",
  );
  const half = await atHalfLoad({ path: gets.path }, { port: world.daemon.port }, Math.round(gets.perSecond / 2));
  const posted = "the same of POSTs with 200 bytes of JSON, which the function reads";
  return [gets.row, half, (await onMany(world, "json", posted, postedBody)).row];
}

const postedBody = JSON.stringify({ greeting: "hello", more: "x".repeat(168) });

interface OnMany {
  readonly row: Row;
  readonly perSecond: number;
  /** Of the instance's socket. */
  readonly path: string;
}

/** The very instance that ebb calls, over its own socket. */
async function onMany(world: World, workload: string, number: string, body?: string): Promise<OnMany> {
  const before = new Set(world.sockets());
  await world.call(workload);
  const path = world.sockets().find((socket) => !before.has(socket));
  if (path === undefined) throw new Error("the instance has no socket");
  const asked = { host: `${workload}.localhost`, ...(body !== undefined && { body }) };
  const { direct, through } = await compare({ path }, { port: world.daemon.port }, asked, 32, 2_500);
  const rate = (results: readonly LoadResult[]): number => median(results.map((result) => result.requestsPerSecond));
  const seen = rate(through) / rate(direct);
  const failed = failures(direct) + failures(through);
  const p99 = median(through.map((result) => percentile(result.latenciesMs, 99)));
  return {
    row: {
      number,
      target: `≥ ${share * 100}%`,
      floor: `${Math.round(rate(direct))}/s`,
      seen: `${(seen * 100).toFixed(1)}% (${Math.round(rate(through))}/s, p99 ${inMs(p99)}, ${failed} failures, n=${count(through)})`,
      held: seen >= share && failed === 0,
    },
    perSecond: rate(through),
    path,
  };
}

const paced = { durationMs: 1_500, host: "web.localhost", connectionsMax: 32 };

async function atHalfLoad(direct: Target, through: Target, perSecond: number): Promise<Row> {
  const results: [OpenLoopResult[], OpenLoopResult[]] = [[], []];
  const targets = [direct, through] as const;
  for (let round = 0; round < rounds; round++)
    for (const index of round % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const))
      results[index].push(await openLoop(targets[index], { ...paced, perSecond }));
  const p99 = (of: readonly OpenLoopResult[]): number =>
    median(of.map(({ latenciesMs }) => percentile(latenciesMs.toSorted(), 99)));
  const [floor, seen] = [p99(results[0]), p99(results[1])];
  const failed = results.flat().reduce((sum, result) => sum + result.failed, 0);
  const sent = results[1].reduce((sum, { latenciesMs }) => sum + latenciesMs.length, 0);
  return {
    number: `warm overhead at half of that, ${perSecond} requests a second, p99 from when each was due`,
    target: `≤ ${inMs(overheadP99Ms, 0)}`,
    floor: inMs(floor),
    seen: `+${inMs(seen - floor)} (p99 ${inMs(seen)}, ${failed} failures, n=${sent})`,
    held: seen - floor <= overheadP99Ms && failed === 0,
  };
}

/** In turn, and who is first changes, so that a neighbour's load falls on both. */
async function compare(
  direct: Target,
  through: Target,
  asked: { readonly host: string; readonly body?: string },
  connections: number,
  durationMs: number,
): Promise<Compared> {
  const results: [LoadResult[], LoadResult[]] = [[], []];
  const targets = [direct, through] as const;
  // Not counted: until V8 has compiled what is hot, on either side.
  for (const target of targets) await load(target, { ...asked, connections, durationMs: 2 * durationMs });
  for (let round = 0; round < rounds; round++)
    for (const index of round % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const))
      results[index].push(await load(targets[index], { ...asked, connections, durationMs }));
  return { direct: results[0], through: results[1] };
}

function failures(results: readonly LoadResult[]): number {
  return results.reduce((sum, result) => sum + result.failures, 0);
}

function count(results: readonly LoadResult[]): number {
  return results.reduce((sum, result) => sum + result.latenciesMs.length, 0);
}
