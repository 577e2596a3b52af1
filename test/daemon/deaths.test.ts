// Each death that DESIGN.md names, under load: daemon, spawner, store worker, telemetry worker; and the clean end.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { eventually, folderOf, removeDirectory, runCommand, startDaemon, type Daemon } from "./fixture.ts";

const code = folderOf({
  "ebb.yaml":
    "functions:\n  steady: { source: ./src, public: true, memoryMb: 64, max: 3 }\n  quick: { source: ./src, public: true, memoryMb: 64, idleSeconds: 0 }\n",
  "src/index.mjs": "export default async (r) => { console.log('at', r.url); await new Promise(f => setTimeout(f, 20)); return new Response('ok'); };",
});

let directory: string;
let daemon: Daemon;

before(async () => {
  daemon = await startDaemon();
  directory = daemon.directory;
  const result = await daemon.ebb(["deploy", code]);
  assert.equal(result.code, 0, result.stderr);
});

after(async () => {
  await daemon?.stop();
  removeDirectory(directory);
  removeDirectory(code);
});

interface Load {
  answered: Map<string, number>;
  statuses: Map<number | string, number>;
  stop(): Promise<void>;
}

/** Clients that ask until they are stopped, and remember each invocation that was answered with its status. */
function load(clients: number): Load {
  const answered = new Map<string, number>();
  const statuses = new Map<number | string, number>();
  let running = true;
  const one = async (): Promise<void> => {
    while (running) {
      try {
        const answer = await daemon.fetch("steady.localhost", "/");
        statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1);
        const id = answer.headers["ebb-invocation-id"];
        if (typeof id === "string") answered.set(id, answer.status);
      } catch (error) {
        statuses.set((error as { code?: string }).code ?? "error", 1);
        await new Promise((resolve) => setImmediate(resolve));
        if (daemon.process.exitCode !== null || daemon.process.signalCode !== null) return;
      }
    }
  };
  const all = Promise.all(Array.from({ length: clients }, one));
  return {
    answered,
    statuses,
    stop: async () => {
      running = false;
      await all;
    },
  };
}

/** Processes on this machine whose command line holds `text`. */
function processesWith(text: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(text);
      } catch {
        return false;
      }
    })
    .map(Number);
}

function childrenOf(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, "utf8").trim().split(" ").filter(Boolean).map(Number),
  );
}

interface Record {
  id: string;
  outcome: string;
  status: number | null;
}

async function ledgerBalances(run: Load): Promise<void> {
  const records = await daemon.json<Record[]>(["invocations", "steady", "--limit", "10000"]);
  const byId = new Map<string, Record>();
  for (const record of records) {
    assert.ok(!byId.has(record.id), `${record.id} is recorded twice`);
    byId.set(record.id, record);
  }
  for (const [id, status] of run.answered) {
    const record = byId.get(id);
    assert.ok(record, `${id} was answered with ${status} and is not recorded`);
    assert.equal(record.status, status, id);
  }
}

test("kill -9 of ebb: the next one serves at once, no orphan is left, and every answered invocation is recorded once", async () => {
  const run = load(4);
  await eventually("the load runs", async () => run.answered.size > 20);
  await daemon.kill();
  await run.stop();
  daemon = await startDaemon({ directory });
  assert.equal((await daemon.fetch("steady.localhost", "/")).status, 200, daemon.log());
  await ledgerBalances(run);
  const interrupted = (await daemon.json<Record[]>(["invocations", "steady", "--limit", "10000"])).filter((record) => record.outcome === "interrupted");
  assert.ok(interrupted.length <= 4, `${interrupted.length} were interrupted by four clients`);
});

test("the death of the spawner costs those in flight a 502, and the next request is served", async () => {
  const run = load(3);
  await eventually("the load runs", async () => run.answered.size > 20);
  const spawner = childrenOf(daemon.process.pid ?? 0).find((pid) => readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("spawner"));
  assert.ok(spawner, "no spawner process was found");
  process.kill(spawner, "SIGKILL");
  await eventually("it serves again", async () => (await daemon.fetch("steady.localhost", "/")).status === 200);
  await run.stop();
  for (const status of run.statuses.keys()) assert.ok([200, 502, 503].includes(Number(status)), `a caller saw ${status}`);
  await ledgerBalances(run);
});

test("SIGTERM drains and leaves nothing: no process, mount, link, rule or cgroup", async () => {
  await daemon.fetch("steady.localhost", "/");
  const run = load(2);
  await eventually("the load runs", async () => run.answered.size > 5);
  const code = await daemon.stop();
  await run.stop();
  assert.equal(code, 0, daemon.log());
  assert.deepEqual(processesWith(directory), []);
  assert.ok(!readFileSync("/proc/self/mountinfo", "utf8").includes(directory), "a mount is left");
  const links = execFileSync("ip", ["-o", "link"], { encoding: "utf8" });
  assert.doesNotMatch(links, /ebb/, "a link is left");
  assert.doesNotMatch(execFileSync("nft", ["list", "tables"], { encoding: "utf8" }), /ebb/, "a rule is left");
  daemon = await startDaemon({ directory });
  await ledgerBalances(run);
});

test("a second ebb on the same data directory, a taken port, and what is not a data directory: one clear sentence each", async () => {
  const second = await runCommand(["up", "--data", directory, "--listen", "127.0.0.1:0"]);
  assert.equal(second.code, 1);
  assert.match(second.stderr, /already|in use/i);
  assert.equal(second.stderr.trim().split("\n").length, 1, second.stderr);

  const other = folderOf({ "file": "x" });
  const taken = await runCommand(["up", "--data", `${other}/data`, "--listen", `127.0.0.1:${daemon.port}`]);
  assert.equal(taken.code, 1);
  assert.match(taken.stderr, new RegExp(`${daemon.port}.*(taken|in use)`));
  assert.equal(taken.stderr.trim().split("\n").length, 1, taken.stderr);

  const notDirectory = await runCommand(["up", "--data", `${other}/file`, "--listen", "127.0.0.1:0"]);
  assert.equal(notDirectory.code, 1);
  assert.equal(notDirectory.stderr.trim().split("\n").length, 1, notDirectory.stderr);
  removeDirectory(other);
});

test("two daemons with different data directories run side by side and touch nothing of each other's", async () => {
  const second = await startDaemon();
  try {
    const deployed = await second.ebb(["deploy", code]);
    assert.equal(deployed.code, 0, deployed.stderr);
    const answers = await Promise.all([daemon.fetch("steady.localhost", "/"), second.fetch("steady.localhost", "/")]);
    assert.deepEqual(answers.map((answer) => answer.status), [200, 200]);
    await second.kill();
    assert.equal((await daemon.fetch("steady.localhost", "/")).status, 200);
    const again = await startDaemon({ directory: second.directory });
    assert.equal((await again.fetch("steady.localhost", "/")).status, 200);
    assert.equal((await daemon.fetch("steady.localhost", "/")).status, 200);
    await again.stop();
  } finally {
    await second.stop();
    removeDirectory(second.directory);
  }
});
