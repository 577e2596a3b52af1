// The same hello function on other people's systems and on ebb: measured in turn in one run, by one client. Method: README.md.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, release, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { installation } from "#config.ts";
import { load, type LoadResult } from "./load.ts";
import { wordsOf, type Absent, type Contender, type Served } from "./peers/contender.ts";
import { ebbWithoutPool, ebbWithPool } from "./peers/ebb.ts";
import { bareNode, npmPeers } from "./peers/npm-peers.ts";
import { peerPackages } from "./peers/packages.ts";
import { podman } from "./peers/podman.ts";
import { connections, longTable, shortTable, turnsOf, withBlock, type Measured } from "./peers/table.ts";
import { createWorld, type World } from "./world.ts";

const warmRounds = 5;
const warmUpMs = 2_000;
const hangsMs = 30_000;
const durationsMs = { one: 1_000, many: 1_500 };
const poolMib = 256;
const npmNames = "functions-framework, serverless-offline, workerd, miniflare";

export interface Comparison {
  /** For docs/comparison.md, and for README.md. */
  readonly long: string;
  readonly short: string;
}

/** `rounds`: of cold starts. */
export async function comparePeers(rounds: number): Promise<Comparison> {
  const folder = mkdtempSync(join(tmpdir(), "ebb-bench-peers-"));
  const worlds: World[] = [];
  const world = async (poolMib: number): Promise<World> => {
    const created = await createWorld(poolMib);
    worlds.push(created);
    return created;
  };
  const absent: Absent[] = [];
  try {
    const measured = await measure(
      [
        bareNode(folder),
        ...(await orAbsent(npmNames, async () => npmPeers(await peerPackages()), absent)),
        ...(await orAbsent("`podman run`", async () => [await podman(folderIn(folder, "podman"))], absent)),
        ebbWithPool(await world(poolMib)),
        ebbWithoutPool(await world(0)),
      ],
      rounds,
      absent,
    );
    return { long: `${circumstances()}\n\n${longTable(measured, absent)}`, short: shortTable(measured, absent) };
  } finally {
    for (const each of worlds) await each.remove();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Into the pages that show it. */
export function writeComparison({ long, short }: Comparison): void {
  for (const [page, name, block] of [
    ["docs/comparison.md", "peers", long],
    ["README.md", "peers in short", short],
  ] as const) {
    const path = join(installation, page);
    writeFileSync(path, withBlock(readFileSync(path, "utf8"), name, block));
  }
}

async function measure(all: readonly Contender[], rounds: number, absent: Absent[]): Promise<Measured[]> {
  const left = new Map(all.map((contender): [Contender, Measured] => [contender, measuredOf(contender)]));
  // One that fails is left out, and its row says why: the others' figures are none of its business.
  const turn = async (contender: Contender, taken: (its: Measured) => Promise<unknown>): Promise<void> => {
    const its = left.get(contender);
    if (!its) return;
    await taken(its).catch((error: unknown) => {
      if (contender.ours) throw error;
      console.error(`bench: left out: ${contender.name}: ${wordsOf(error)}`);
      left.delete(contender);
      absent.push({ name: contender.name, reason: wordsOf(error) });
    });
  };
  console.error("bench: peers, cold starts …");
  // The first finds cold caches, and is not counted.
  for (const contender of all) await turn(contender, () => contender.coldStart());
  for (let round = 0; round < rounds; round++)
    for (const contender of turnsOf(all, round))
      await turn(contender, async ({ coldMs }) => coldMs.push(await contender.coldStart()));
  console.error("bench: peers, warm …");
  const served = new Map<Contender, Served>();
  const loaded = (contender: Contender, many: number, durationMs: number): Promise<LoadResult> => {
    const { port, host } = served.get(contender)!;
    return inTime(load({ port }, { connections: many, durationMs, host }), durationMs + hangsMs);
  };
  try {
    for (const contender of all) await turn(contender, async () => served.set(contender, await contender.serve()));
    // Not counted: until V8 has compiled what is hot.
    for (const contender of all) await turn(contender, () => loaded(contender, connections, warmUpMs));
    for (let round = 0; round < warmRounds; round++)
      for (const contender of turnsOf(all, round))
        await turn(contender, async ({ one, many }) => {
          one.push(await loaded(contender, 1, durationsMs.one));
          many.push(await loaded(contender, connections, durationsMs.many));
        });
  } finally {
    await Promise.all([...served.values()].map((each) => each.stop()));
  }
  return [...left.values()];
}

/** A peer that answers no more is left out; it does not hold up the rest. */
async function inTime<T>(wanted: Promise<T>, withinMs: number): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`it stopped answering for ${hangsMs / 1000} s`)), withinMs);
  return Promise.race([wanted, late]).finally(() => clearTimeout(timer));
}

function measuredOf({ name, version, isolates }: Contender): Measured {
  return { name, version, isolates, coldMs: [], one: [], many: [] };
}

async function orAbsent(name: string, made: () => Promise<Contender[]>, absent: Absent[]): Promise<Contender[]> {
  try {
    return await made();
  } catch (error) {
    console.error(`bench: left out: ${name}: ${wordsOf(error)}`);
    absent.push({ name, reason: wordsOf(error) });
    return [];
  }
}

function folderIn(folder: string, name: string): string {
  const path = join(folder, name);
  mkdirSync(path);
  return path;
}

/** Where and when: figures are of one run. */
function circumstances(): string {
  const [cpu] = cpus();
  const system = /^PRETTY_NAME="?([^"\n]*)/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1] ?? process.platform;
  const gib = Math.round(totalmem() / 1024 ** 3);
  return `Measured on ${new Date().toISOString().slice(0, 10)}: ${cpus().length} cores (${cpu?.model.trim() ?? "unknown"}), ${gib} GiB, ${system}, kernel ${release().split("-")[0]}.`;
}
