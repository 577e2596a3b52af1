// Each death that DESIGN.md names, under load: daemon, spawner, store worker, telemetry worker; and the clean end.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { after, afterEach, before, beforeEach, test } from "node:test";
import type { WorkloadRow } from "#client/client.ts";
import { logLimits } from "#model/limits.ts";
import { balance, BookReader } from "./books.ts";
import { appOfDeaths, drains, endsByDeathsOf, loadOf, platform, startMortal, type Mortal } from "./deaths.ts";
import { eventually, folderOf, removeDirectory, startDaemon, type Daemon } from "./fixture.ts";
import type { Load } from "./load.ts";
import { livesOf, nothingLeftOf, spawnerOf, tracesOf, type Life } from "./traces.ts";

const code = appOfDeaths();
const control = folderOf({});

let directory: string;
let mortal: Mortal;
let daemon: Daemon;
let life: Life;
let books: BookReader;

async function up(): Promise<void> {
  mortal = await startMortal(control, directory ? { directory } : {});
  ({ daemon, life } = mortal);
  directory = daemon.directory;
}

before(async () => {
  await up();
  books = new BookReader(directory);
  const result = await daemon.ebb(["deploy", code]);
  assert.equal(result.code, 0, result.stderr);
});

/** Of the last one, which begins without a daemon. */
const duringUp = "SIGTERM during up ends it within 10 s and leaves nothing";

/** A test that failed half-way must not take the next ones with it. */
beforeEach(async (t) => {
  if (t.name === duringUp) return;
  if (daemon.process.exitCode !== null || daemon.process.signalCode !== null) await up();
  assert.equal((await daemon.fetch("steady.localhost", "/")).status, 200, daemon.log());
  await daemon.client.usage("default");
  books.read();
});

after(async () => {
  await daemon?.stop();
  for (const folder of [directory, code, control]) removeDirectory(folder);
});

const loads: Load[] = [];
afterEach(async () => {
  await Promise.all(loads.splice(0).map((load) => load.stop()));
});

async function loaded(workloads: readonly string[], pauseMs?: number): Promise<Load> {
  const load = await loadOf(daemon, workloads, pauseMs);
  loads.push(load);
  return load;
}

/** What the clients of this load saw is in the ledger, once each. */
async function balanced(load: Load, atRisk: number): Promise<void> {
  await daemon.client.usage("default");
  balance(load.seen, books.read(), atRisk);
}

/** There is an instance that is held still. */
async function paused(): Promise<void> {
  assert.equal((await daemon.fetch("logging.localhost", "/")).status, 200, daemon.log());
  await eventually("an instance is paused", async () => (await rowOf("logging")).paused === 1);
}

async function rowOf(workload: string): Promise<WorkloadRow> {
  return (await daemon.client.workloads.list("default")).find(({ name }) => name === workload)!;
}

function statusesOf(load: Load): Set<number | null> {
  return new Set(load.seen.map((one) => one.status));
}

function allServed(load: Load): void {
  assert.deepEqual(
    load.seen.filter((one) => one.status !== 200),
    [],
  );
}

/** Between the requests of a client, as between those of a load. */
function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

test("kill -9 of ebb, with an instance that is paused: nothing is left within 2 s, the next one serves, every answered invocation is recorded once, and what functions have logged is kept, but for what is not written yet", async () => {
  const answeredAt: number[] = [];
  const began = performance.now();
  // A flush is due every 100 ms: ten of them, so that a machine that is slow has written too.
  const longAgoMs = 10 * logLimits.flushMs;
  while (performance.now() - began < 2 * longAgoMs) {
    const { status, text } = await daemon.fetch("logging.localhost", `/kept-${answeredAt.length}`);
    assert.equal(status, 200, text);
    answeredAt.push(performance.now());
    await pause(20);
  }
  await paused();
  const load = await loaded(["steady", "steady", "steady", "cold"]);
  await daemon.kill();
  const killed = performance.now();
  const atRisk =
    load.underWay().length + load.seen.filter((one) => one.ending === "unanswered" || one.ending === "cut").length;
  const stopped = load.stop();
  await nothingLeftOf([life], 2_500);
  await stopped;
  await up();
  assert.equal((await daemon.fetch("steady.localhost", "/")).status, 200, daemon.log());
  await balanced(load, atRisk);
  const { stdout } = await daemon.ebb(["logs", "logging"]);
  const written = answeredAt.filter((at) => killed - at > longAgoMs).length;
  assert.ok(written > 0);
  for (let n = 0; n < written; n++) assert.match(stdout, new RegExp(`/kept-${n}\\b`));
});

test("kill -9 of ebb and its spawner at once, with an instance that is paused: the next one takes all of it away before it serves", async () => {
  await paused();
  const load = await loaded(["steady", "steady", "cold"]);
  const dead = life;
  process.kill(spawnerOf(dead) ?? 0, "SIGKILL");
  await daemon.kill();
  await load.stop();
  assert.notDeepEqual(tracesOf([dead]), [], "there was nothing to clean: the test tests nothing");
  await up();
  assert.deepEqual(tracesOf([dead]), []);
  assert.equal((await rowOf("logging")).instances, 0);
  assert.equal((await daemon.fetch("steady.localhost", "/")).status, 200, daemon.log());
});

test("the death of the spawner costs those in flight a 502, and the next request is served, also of what was paused", async () => {
  await paused();
  const load = await loaded(["steady", "steady", "steady"]);
  const spawner = spawnerOf(life);
  assert.ok(spawner, "no spawner process was found");
  const instanceNow = async (): Promise<string | undefined> =>
    (await daemon.client.workloads.show("default", "steady")).instanceList[0]?.id;
  const before = await instanceNow();
  process.kill(spawner, "SIGKILL");
  // Until the next spawner has taken it away, the instance of before goes on.
  await eventually("another serves", async () => ![before, undefined].includes(await instanceNow()));
  assert.equal((await daemon.fetch("steady.localhost", "/")).status, 200);
  await load.stop();
  await eventually("what was paused is gone", async () => (await rowOf("logging")).instances === 0);
  assert.equal((await daemon.fetch("logging.localhost", "/")).status, 200);
  for (const status of statusesOf(load))
    assert.ok(status === 200 || status === 502 || status === 503, `a caller saw ${status}`);
  const paid = load.seen.filter((one) => one.status !== 200).length;
  assert.ok(paid <= 6, `${paid} callers paid for it, of three`);
  await balanced(load, paid);
});

test("the death of the store's worker: warm and cold starts go on, control says store_unavailable, and works again by itself", async () => {
  const load = await loaded(["steady", "steady", "cold"]);
  const asked: { status: number; text: string }[] = [];
  let asking = true;
  const client = (async () => {
    while (asking) {
      const { status, text } = await platform(daemon, "/api/v1/usage");
      asked.push({ status, text });
      await pause(5);
    }
  })();
  await mortal.tellWorkers("store");
  const diedMs = performance.now();
  const count = asked.length;
  // "Within a second" is one start of a thread and nothing that is waited for before it: src/store/client.test.ts, without a clock.
  await eventually("control works again", async () => asked.length > count + 1 && asked.at(-1)?.status === 200);
  const backMs = performance.now() - diedMs;
  await eventually("the load goes on", async () => load.complete().at(-1)!.startedMs > diedMs + backMs);
  asking = false;
  await client;
  await load.stop();
  allServed(load);
  for (const { status, text } of asked)
    if (status !== 200) assert.match(text, /"code":"store_unavailable"/, `${status}`);
  assert.ok(
    asked.some(({ status }) => status === 503),
    "control never noticed",
  );
  await balanced(load, 0);
});

test("the death of the telemetry worker: requests go on, and so do logs", async () => {
  const load = await loaded(["steady", "steady", "cold"]);
  await mortal.tellWorkers("telemetry");
  const diedMs = performance.now();
  await eventually("the load goes on", async () => load.complete().at(-1)!.startedMs > diedMs + 500);
  await load.stop();
  allServed(load);
  const last = await daemon.fetch("steady.localhost", "/?the-last");
  assert.equal(last.status, 200);
  await eventually("the new worker has its line", async () =>
    (await daemon.ebb(["logs", "steady"])).stdout.includes("the-last"),
  );
  await balanced(load, 0);
});

test("a neighbour that syncs the disk, cold starts and commits do not hold up the main loop", async (t) => {
  const neighbour = new Worker(new URL("./syncing-neighbour.mjs", import.meta.url), {
    workerData: join(directory, "neighbour"),
  });
  t.after(() => neighbour.terminate());
  const load = await loaded(["steady", "steady", "cold"], 100);
  let going = true;
  const commits = (async () => {
    for (; going; await pause(50)) await platform(daemon, "/api/v1/usage");
  })();
  const delay = JSON.parse((await platform(daemon, "/api/v1/status/loop-delay?seconds=2")).text) as {
    p50Ms: number;
    p99Ms: number;
    samples: number;
  };
  going = false;
  await commits;
  await load.stop();
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  neighbour.postMessage("stop");
  const [syncs] = (await once(neighbour, "message")) as [number[]];
  syncs.sort((a, b) => a - b);
  const syncMs = syncs[Math.floor(syncs.length / 2)] ?? 0;
  assert.ok(syncs.length > 2 && delay.samples > 100, JSON.stringify({ syncs, delay }));
  // A loop that waited for the disk would be as late as the disk is.
  assert.ok(delay.p99Ms < syncMs, `the loop's p99 is ${delay.p99Ms} ms, a sync takes ${syncMs} ms`);
  allServed(load);
});

test("three deaths of a worker in a minute end ebb with exit 1, and leave nothing", () =>
  endsByDeathsOf("store", mortal));

test("SIGTERM drains, cuts off what is open after 8 s, and leaves nothing, of what is paused neither: no process, mount, link, rule or cgroup", async () => {
  const open = { endless: 1, deaf: 3 };
  await paused();
  const load = await drains(mortal, open);
  await up();
  await daemon.client.usage("default");
  const entries = books.read();
  const interrupted = Object.entries(open).flatMap(([name, count]) =>
    Array.from({ length: count }, () => `${name} interrupted`),
  );
  balance(load.seen, entries, interrupted.length);
  assert.deepEqual(
    entries
      .filter(({ workload }) => workload in open)
      .map(({ workload, outcome }) => `${workload} ${outcome}`)
      .toSorted(),
    interrupted.toSorted(),
  );
});

test("a worker that waits for the disk and does not come back does not keep ebb from ending, which it says", async () => {
  await mortal.tellWorkers("stall store");
  const startedMs = performance.now();
  await daemon.stop();
  const tookMs = performance.now() - startedMs;
  assert.ok(tookMs < 12_000, `it took ${tookMs} ms`);
  assert.match(daemon.log(), /^ebb: not everything ended in time$/m);
  await nothingLeftOf([life], 2_500);
});

test(duringUp, async () => {
  await daemon.stop();
  const starting = startDaemon({ directory }).then(
    (ready) => ready.stop(),
    () => null,
  );
  let pid = 0;
  const lives = await eventually("it has begun", async () => {
    pid = pidIn(directory);
    const found = livesOf(pid);
    return found.length > 0 && found;
  });
  process.kill(pid, "SIGTERM");
  await starting;
  await nothingLeftOf(lives, 2_500);
});

function pidIn(folder: string): number {
  try {
    return Number(readFileSync(join(folder, "pid"), "utf8"));
  } catch {
    return 0;
  }
}
