// kill -9 at random moments, hundreds of times on one data directory: what was deployed serves, nothing is left on the
// machine, and the ledger holds each invocation once. EBB_CYCLES: how many (500); EBB_SEED: which moments.

import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { installation } from "#config.ts";
import { seeded } from "../simulation/chance.ts";
import { balance, BookReader } from "./books.ts";
import { eventually, fetchFrom, folderOf, removeDirectory, runCommand, temporaryDirectory } from "./fixture.ts";
import { startLoad, type Seen } from "./load.ts";
import { livesOf, nothingLeftOf, ownerless, spawnerOf, tracesOf, type Life } from "./traces.ts";

const cycles = Number(process.env["EBB_CYCLES"] ?? 500);
const seed = Number(process.env["EBB_SEED"] ?? Date.now() % 1_000_000);
const chance = seeded(seed);

const handlers: Record<string, { settings: string; code: string }> = {
  quick: { settings: "idleSeconds: 0", code: "export default () => new Response('ok');" },
  slow: {
    settings: "max: 3",
    code: "export default async () => { await new Promise((f) => setTimeout(f, 150)); console.log('slept'); return new Response('ok'); };",
  },
  stream: {
    settings: "max: 3",
    code: `export default () => new Response(new ReadableStream({ async start(to) {
      for (let i = 0; i < 8; i++) { to.enqueue(new TextEncoder().encode('part')); await new Promise((f) => setTimeout(f, 15)); }
      to.close(); } }));`,
  },
  many: {
    settings: "concurrency: 10, max: 2",
    code: "export default async () => { await new Promise((f) => setTimeout(f, 10)); return new Response('ok'); };",
  },
  fails: { settings: "max: 2", code: "export default () => { throw new Error('as it should'); };" },
  release: { settings: "max: 2", code: "export default () => new Response(process.env.RELEASE);" },
};
const expected: Record<string, number> = { quick: 200, slow: 200, stream: 200, many: 200, fails: 500, release: 200 };

function appFile(release: number): string {
  const lines = Object.entries(handlers).map(
    ([name, { settings }]) =>
      `  ${name}: { source: ./${name}, public: true, memoryMb: 64, ${settings}${name === "release" ? `, env: { RELEASE: "${release}" }` : ""} }`,
  );
  return `functions:\n${lines.join("\n")}\n`;
}

const app = folderOf({
  "ebb.yaml": appFile(0),
  ...Object.fromEntries(Object.entries(handlers).map(([name, { code }]) => [`${name}/index.mjs`, code])),
});

after(() => removeDirectory(app));

/** `ebb up` from its first instant, so that it can be killed before it is ready. */
interface Up {
  readonly process: ChildProcess;
  readonly pid: number;
  readonly ended: Promise<unknown>;
  readonly ready: Promise<number>;
  said: string;
}

function up(directory: string): Up {
  const child = spawn(join(installation, "ebb"), ["up", "--data", directory, "--listen", "127.0.0.1:0"], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const ended = once(child, "exit");
  const ready = Promise.withResolvers<number>();
  const it: Up = { process: child, pid: child.pid ?? 0, ended, ready: ready.promise, said: "" };
  ready.promise.catch(() => {});
  child.stderr.setEncoding("utf8").on("data", (text: string) => (it.said += text));
  createInterface({ input: child.stdout }).on("line", (line) => {
    const port = /^ready http:\/\/\S+:(\d+)$/.exec(line)?.[1];
    if (port) ready.resolve(Number(port));
  });
  void ended.then(() => ready.reject(new Error(`ebb up ended:\n${it.said}`)));
  return it;
}

function kill(pid: number | null): void {
  if (pid === null) return;
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended by itself.
  }
}

type Kind =
  | "daemon"
  | "alone"
  | "both"
  | "spawner first"
  | "during up"
  | "both during up"
  | "during a deploy"
  | "both during a deploy";
const kinds: readonly Kind[] = [
  "daemon",
  "alone",
  "both",
  "spawner first",
  "during up",
  "both during up",
  "during a deploy",
  "both during a deploy",
];

test(`${cycles} kills at random moments (EBB_SEED=${seed})`, async (t) => {
  const directory = temporaryDirectory();
  const before = new Set(ownerless());
  const books = new BookReader(directory);
  const totals = {
    requests: 0,
    answered: 0,
    aborted: 0,
    records: 0,
    interrupted: 0,
    upMs: [] as number[],
    kinds: {} as Record<string, number>,
  };
  /** Clients of the present life, and deploys that may or may not have been taken. */
  let seen: Seen[] = [];
  let probed: Seen[] = [];
  let atRisk = 0;
  const release = { surely: 0, perhaps: 0 };
  let daemon = up(directory);
  try {
    let port = await daemon.ready;
    const first = await runCommand(["deploy", app, "--data", directory]);
    assert.equal(first.code, 0, first.stderr);

    for (let cycle = 1; cycle <= cycles; cycle++) {
      const kind = kinds[Math.floor(chance() * kinds.length)]!;
      totals.kinds[kind] = (totals.kinds[kind] ?? 0) + 1;
      const lives: Life[] = [];
      const where = `cycle ${cycle} (${kind}, EBB_SEED=${seed})`;
      try {
        const load = startLoad({
          port,
          workloads: ["quick", "quick", "slow", "stream", "stream", "many", "many", "many", "fails"],
          aborts: 0.15,
          chance,
          pauseMs: 5,
        });
        let deployed: Promise<unknown> | null = null;
        if (kind.endsWith("deploy")) {
          release.perhaps++;
          writeFileSync(join(app, "ebb.yaml"), appFile(release.perhaps));
          const deploying = runCommand(["deploy", app, "--data", directory]);
          deployed = deploying.then((result) => result.code === 0 && (release.surely = release.perhaps));
          await sleep(150 + chance() * 900);
        } else await sleep(50 + chance() * 600);

        lives.push(...livesOf(daemon.pid));
        const spawner = lives[0] ? spawnerOf(lives[0]) : null;
        assert.equal(lives.length, 1, "a living daemon has one run directory");
        if (kind.startsWith("both")) kill(spawner);
        if (kind === "spawner first") {
          kill(spawner);
          await sleep(chance() * 300);
          lives.push(...livesOf(daemon.pid).filter((life) => life.name !== lives[0]?.name));
        }
        kill(daemon.pid);
        await daemon.ended;
        atRisk =
          load.underWay().length +
          load.seen.filter((one) => one.ending !== "complete" && one.startedMs > performance.now() - 3_000).length;
        const stopped = load.stop();
        await deployed;
        await stopped;
        seen = [...probed, ...load.seen];
        probed = [];
        if (kind === "alone") await nothingLeftOf(lives, 2_500);

        if (kind.endsWith("during up")) {
          const short = up(directory);
          await sleep(20 + chance() * 1_200);
          const half = livesOf(short.pid);
          if (kind.startsWith("both")) for (const life of half) kill(spawnerOf(life));
          kill(short.pid);
          await short.ended;
          lives.push(...half);
        }

        const startedMs = performance.now();
        daemon = up(directory);
        port = await daemon.ready;
        totals.upMs.push(performance.now() - startedMs);
        assert.deepEqual(tracesOf(lives), [], "left behind by those that were killed");

        const { token } = JSON.parse(readFileSync(join(directory, "credentials.json"), "utf8")) as { token: string };
        const usage = await fetchFrom(port, null, "/api/v1/usage", { headers: { authorization: `Bearer ${token}` } });
        assert.equal(usage.status, 200, usage.text);
        const { records, interrupted } = balance(seen, books.read(), atRisk);

        const probes = startLoad({ port, workloads: Object.keys(handlers), once: true });
        await probes.stop();
        for (const one of probes.seen)
          assert.equal(one.status, expected[one.workload], `${one.workload}: ${one.text}${one.error}\n${daemon.said}`);
        probed = probes.seen;
        const serves = Number(probes.seen.find((one) => one.workload === "release")?.text);
        assert.ok(
          serves === release.perhaps || (serves === release.surely && release.surely < release.perhaps),
          `release ${serves}, expected ${JSON.stringify(release)}`,
        );
        release.surely = serves;
        assert.deepEqual(unfinished(directory), [], "unfinished in the data directory");
        if (cycle % 10 === 0 || cycle === cycles)
          await eventually(
            "nothing is ownerless",
            async () => ownerless().every((thing) => before.has(thing)),
            10_000,
          ).catch((error: unknown) => assert.fail(`${String(error)}\n${ownerless().join("\n")}`));

        totals.requests += seen.length;
        totals.answered += seen.filter((one) => one.ending === "complete").length;
        totals.aborted += seen.filter((one) => one.ending === "aborted").length;
        totals.records += records;
        totals.interrupted += interrupted;
        if (cycle % 20 === 0)
          t.diagnostic(
            `${cycle} cycles: ${totals.requests} requests, ${totals.records} records, ${totals.interrupted} interrupted`,
          );
      } catch (error) {
        throw new Error(`${where}: ${error instanceof Error ? error.message : String(error)}\n${daemon.said}`, {
          cause: error,
        });
      }
    }
    totals.upMs.sort((a, b) => a - b);
    const { upMs, ...figures } = totals;
    t.diagnostic(
      JSON.stringify({
        ...figures,
        upMsMedian: Math.round(upMs[upMs.length >> 1] ?? 0),
        upMsMax: Math.round(upMs.at(-1) ?? 0),
      }),
    );
  } finally {
    const lives = livesOf(daemon.pid);
    daemon.process.kill("SIGTERM");
    await daemon.ended;
    await nothingLeftOf(lives);
    removeDirectory(directory);
  }
});

test(`10 kills while a data directory is made (EBB_SEED=${seed})`, async () => {
  for (let round = 0; round < 10; round++) {
    const directory = temporaryDirectory();
    const first = up(directory);
    await sleep(50 + chance() * 1_000);
    const lives = livesOf(first.pid);
    if (chance() < 0.5) for (const life of lives) kill(spawnerOf(life));
    kill(first.pid);
    await first.ended;
    const second = up(directory);
    const port = await second.ready;
    assert.deepEqual(tracesOf(lives), []);
    assert.equal((await fetchFrom(port, null, "/healthz")).status, 200);
    const deployed = await runCommand(["deploy", app, "--data", directory]);
    assert.equal(deployed.code, 0, deployed.stderr);
    second.process.kill("SIGTERM");
    await second.ended;
    removeDirectory(directory);
  }
});

/** What a kill has cut off must be gone when the next one serves. */
function unfinished(directory: string): string[] {
  const found = readdirSync(join(directory, "uploads")).map((name) => `uploads/${name}`);
  for (const folder of ["roots", "code", "journal", ""])
    for (const name of readdirSync(join(directory, folder)))
      if (/^\.|\.tmp$/.test(name)) found.push(`${folder}/${name}`);
  return found;
}
