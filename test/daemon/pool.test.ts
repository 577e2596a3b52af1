// Sandboxes that are started ahead, in a real ebb: taken by cold starts, replaced, shared by nobody, and gone with their
// daemon. Without memory for them there are none: life.test.ts.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import {
  type Daemon,
  endDeployed,
  eventually,
  folderOf,
  removeDirectory,
  startDaemon,
  startDeployed,
} from "./fixture.ts";
import { livesOf, nothingLeftOf, pids } from "./traces.ts";

const code = folderOf({
  "ebb.yaml": `functions:
  hello: { source: ./hello, public: true, memoryMb: 128, idleSeconds: 0 }
  python: { source: ./python, public: true, memoryMb: 128, idleSeconds: 0 }
  large: { source: ./hello, public: true, memoryMb: 256, idleSeconds: 0 }
`,
  "hello/index.mjs": `let calls = 0;
export default () => new Response(JSON.stringify({ calls: ++calls, name: process.env.EBB_WORKLOAD }));`,
  "python/main.py": "def handler(event, context):\n    return {'statusCode': 200, 'body': context.function_name}\n",
});

let daemon: Daemon;

before(async () => {
  daemon = await startDeployed(code, { args: ["--pool", "240"] });
});
after(() => endDeployed(daemon, code));

async function pooled(): Promise<number> {
  const { text } = await daemon.fetch(null, "/api/v1/status", { headers: { authorization: `Bearer ${daemon.token}` } });
  return (JSON.parse(text) as { pool: { sandboxes: number } }).pool.sandboxes;
}

/** One of each kind, and nothing else is running. */
async function full(): Promise<void> {
  await eventually("the pool is full and nothing else runs", async () => {
    const rows = await daemon.client.workloads.list("default");
    return (await pooled()) >= 3 && rows.every(({ instances }) => instances === 0);
  });
}

async function aheadSoFar(): Promise<number> {
  const { text } = await daemon.fetch(null, "/metrics", { headers: { authorization: `Bearer ${daemon.token}` } });
  return Number(/^ebb_instances_ahead_total (\d+)/m.exec(text)?.[1] ?? 0);
}

/** The shims of this daemon's sandboxes for Node, by the memory that they may use: pid as the machine numbers it. */
function nodeShims(): Map<number, number> {
  const [life] = livesOf(daemon.process.pid ?? 0);
  const found = new Map<number, number>();
  for (const pid of pids())
    try {
      const [command, cgroup] = ["cmdline", "cgroup"].map((file) => readFileSync(`/proc/${pid}/${file}`, "latin1"));
      const memory = /--max-old-space-size=(\d+).*\/shim\.mjs/.exec(command!)?.[1];
      if (memory !== undefined && cgroup!.includes(`ebb-${life!.name}`)) found.set(Number(memory), pid);
    } catch {
      // It has ended.
    }
  return found;
}

interface Hello {
  readonly calls: number;
  readonly name: string;
}

async function call(workload: string): Promise<Hello> {
  const { status, text } = await daemon.fetch(`${workload}.localhost`, "/");
  assert.equal(status, 200, text);
  return workload === "python" ? { calls: 1, name: text } : (JSON.parse(text) as Hello);
}

test("cold starts of every kind take what was started ahead, and each gets one of its own", async () => {
  await full();
  const before = await aheadSoFar();
  for (const workload of ["hello", "python", "large"])
    assert.deepEqual(await call(workload), { calls: 1, name: workload });
  await full();
  assert.deepEqual(await call("hello"), { calls: 1, name: "hello" }, "nothing is used twice");
  assert.equal((await aheadSoFar()) - before, 4);
});

test("a deploy that does not load says what its author did, in a sandbox that was started ahead too", async () => {
  await full();
  const broken = folderOf({ "index.mjs": "\nthrow new Error('no such luck');\nexport default () => null;\n" });
  const { code: exit, stderr } = await daemon.ebb(["deploy", broken, "--name", "broken", "--memory", "128"]);
  removeDirectory(broken);
  assert.notEqual(exit, 0);
  assert.match(stderr, /no such luck.*index\.mjs:2/s);
});

test("one that was killed, or stands still, is thrown away, and who called does not notice", async () => {
  await full();
  const [[, small], [, large]] = await eventually("they are up", async () => {
    const [one, other, ...more] = [...nodeShims()].toSorted(([a], [b]) => a - b);
    assert.deepEqual(more, []);
    return one && other && ([one, other] as const);
  });
  process.kill(small, "SIGKILL");
  process.kill(large, "SIGSTOP");
  assert.deepEqual(await call("hello"), { calls: 1, name: "hello" });
  assert.deepEqual(await call("large"), { calls: 1, name: "large" });
});

test("a daemon that dies leaves none of them to the next, and the next has its own", async () => {
  await full();
  const lives = livesOf(daemon.process.pid ?? 0);
  await daemon.kill();
  daemon = await startDaemon({ directory: daemon.directory, args: ["--pool", "240"] });
  await full();
  await nothingLeftOf(lives);
  const ahead = await aheadSoFar();
  assert.deepEqual(await call("hello"), { calls: 1, name: "hello" });
  assert.equal((await aheadSoFar()) - ahead, 1);
});
