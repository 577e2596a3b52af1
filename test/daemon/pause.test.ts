// Instances that are held still between calls, in a real ebb: they use no CPU, `ls` says so, and a call finds them as they were. That
// a daemon which stops or dies leaves none of them: deaths.test.ts.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { eventually, folderOf, removeDirectory, startDaemon, type Daemon } from "./fixture.ts";
import { livesOf, pids, type Life } from "./traces.ts";

const ticking = `let ticks = 0, longestMs = 0, last = performance.now();
setInterval(() => {
  ticks++;
  longestMs = Math.max(longestMs, performance.now() - last);
  last = performance.now();
}, 5);
const tell = () => ({ ticks, longestMs: Math.max(longestMs, performance.now() - last) });
process.on("exit", () => console.log("goodbye"));
`;
const settings = "public: true, memoryMb: 64, max: 1, idleSeconds: 600";
const ticks = folderOf({
  "ebb.yaml": `functions:\n  ticks: { source: ., ${settings} }\n`,
  "index.mjs": `${ticking}export default () => Response.json(tell());`,
});
const others = folderOf({
  "ebb.yaml": `functions:\n  held: { source: ./held, ${settings}, min: 1 }\n  later: { source: ./later, ${settings} }\n`,
  "held/index.mjs": `${ticking}export default () => Response.json(tell());`,
  // What its handler leaves to be done takes longer than an idle instance has.
  "later/index.mjs": `let done = false;
export default (request, env, context) => {
  if (request.url.endsWith("/begin"))
    context.waitUntil(new Promise((over) => setTimeout(over, 2_500)).then(() => (done = true)));
  return Response.json({ done });
};`,
});

interface Row {
  readonly name: string;
  readonly state: string;
  readonly instances: number;
  readonly paused: number;
}

let daemon: Daemon;
let life: Life;

async function deploy(folder: string): Promise<void> {
  const { code, stderr } = await daemon.ebb(["deploy", folder]);
  assert.equal(code, 0, stderr);
}

before(async () => {
  daemon = await startDaemon({ args: ["--pause", "1"] });
  const [only] = livesOf(daemon.process.pid ?? 0);
  assert.ok(only);
  life = only;
});
after(async () => {
  await daemon.stop();
  for (const folder of [daemon.directory, ticks, others]) removeDirectory(folder);
});

async function call<T>(workload: string, path = "/"): Promise<T> {
  const { status, text } = await daemon.fetch(`${workload}.localhost`, path);
  assert.equal(status, 200, text);
  return JSON.parse(text) as T;
}

async function rowOf(workload: string): Promise<Row> {
  const { text } = await daemon.fetch(null, "/api/v1/projects/default/workloads", {
    headers: { authorization: `Bearer ${daemon.token}` },
  });
  return (JSON.parse(text) as Row[]).find(({ name }) => name === workload)!;
}

async function paused(workload: string): Promise<void> {
  await eventually(`${workload} is paused`, async () => (await rowOf(workload)).paused === 1);
}

/** What all sandboxes of this daemon have used, nanoseconds of each of their threads. */
function cpuNs(): number {
  const cgroup = `ebb-${life.name}/`;
  let [found, sum] = [0, 0];
  for (const pid of pids()) {
    try {
      if (!readFileSync(`/proc/${pid}/cgroup`, "latin1").includes(cgroup)) continue;
      for (const thread of readdirSync(`/proc/${pid}/task`)) {
        sum += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "latin1").split(" ")[0]);
        found++;
      }
    } catch {
      // It has ended.
    }
  }
  assert.ok(found > 0, "there is a sandbox");
  return sum;
}

interface Ticks {
  readonly ticks: number;
  readonly longestMs: number;
}

test("a paused instance uses no CPU, its timers stand still, `ls` says so, and a call finds it as it was", async () => {
  await deploy(ticks);
  await call("ticks");
  await paused("ticks");
  const [beganMs, before] = [performance.now(), cpuNs()];
  const { stdout } = await daemon.ebb(["ls"]);
  assert.match(stdout, /^ticks +function +r1 +paused +1\/1 /m);
  assert.match((await daemon.ebb(["show", "ticks"])).stdout, /^i\S+ +r1 +paused /m);
  const stoodMs = performance.now() - beganMs;
  assert.equal(cpuNs(), before);
  const woken = await call<Ticks>("ticks");
  assert.ok(woken.longestMs >= stoodMs, `stood still for ${woken.longestMs} ms, at least ${stoodMs} were seen`);
  const { state, instances, paused: count } = await rowOf("ticks");
  assert.deepEqual([state, instances, count], ["ready", 1, 0]);
  await eventually("it ticks again", async () => (await call<Ticks>("ticks")).ticks > woken.ticks);
  assert.ok(cpuNs() > before);
  const { text } = await daemon.fetch(null, "/metrics", { headers: { authorization: `Bearer ${daemon.token}` } });
  assert.match(text, /^ebb_instances_resumed_total 1$/m);
});

test("an instance that is paused has its grace when it is stopped", async () => {
  await paused("ticks");
  await daemon.client.workloads.restart("default", "ticks");
  await eventually("its end is in the log", async () =>
    (await daemon.client.logs("default", { workload: "ticks" })).some(({ message }) => message === "goodbye"),
  );
});

test("what a handler left to be done is done before its instance is paused, and what `min` holds is never", async () => {
  await deploy(others);
  await call("held");
  assert.deepEqual(await call("later", "/begin"), { done: false });
  await paused("later");
  assert.deepEqual(await call("later"), { done: true });
  assert.equal((await rowOf("held")).paused, 0);
  await daemon.client.workloads.remove("default", "held");
});
