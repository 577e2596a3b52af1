// A thousand queued runs in real sandboxes, with an ebb that dies among them; and the other Nodes, whose roots take a while.

import assert from "node:assert/strict";
import { chmod, rm } from "node:fs/promises";
import { after, before, test } from "node:test";
import { eventually, folderOf, startDaemon, type Daemon } from "./fixture.ts";
import { livesOf, nothingLeftOf } from "./traces.ts";

const settings = "source: ./src, memoryMb: 48, egress: none";
const app = folderOf({
  "ebb.yaml": `jobs:
  "true": { ${settings}, command: ["true"] }
  away: { ${settings}, command: [./away.sh], rerunOnInterrupt: false }
  late: { ${settings}, command: [./late.sh], timeoutSeconds: 12, rerunOnInterrupt: false }
  node22: { ${settings}, runtime: node22, command: [sh, -c, "node -p process.version >/ebb/result"] }
`,
  "src/index.js": "",
  "src/away.sh": `#!/bin/sh
n=0
while [ $n -lt 100 ]; do n=$((n + 1)); echo "line $n"; sleep 0.05; done
echo left >/ebb/result
exit 3
`,
  "src/late.sh": `#!/bin/sh
while :; do echo goes on; sleep 0.2; done
`,
});

let daemon: Daemon;
before(async () => {
  for (const name of ["away.sh", "late.sh"]) await chmod(`${app}/src/${name}`, 0o755);
  daemon = await startDaemon();
  const deployed = await daemon.ebb(["deploy", app]);
  assert.equal(deployed.code, 0, deployed.stderr);
});
after(async () => {
  await daemon.stop();
  await rm(app, { recursive: true });
  await rm(daemon.directory, { recursive: true, force: true });
});

test("a job has the Node that its runtime means", async () => {
  const { id } = await daemon.client.runs.start("default", "node22");
  let run = await daemon.client.runs.show("default", id, 30);
  while (run.ended === null) run = await daemon.client.runs.show("default", id, 30);
  const result = Buffer.concat(await Array.fromAsync(await daemon.client.runs.result("default", id))).toString();
  assert.match(result, /^v22\./);
});

test("runs that end while no ebb is there are known whole, what is over its time is ended, and nothing is left", async () => {
  const away = await daemon.client.runs.start("default", "away");
  const late = await daemon.client.runs.start("default", "late");
  const lives = livesOf(daemon.process.pid ?? 0);
  for (const id of [away.id, late.id])
    await eventually(`${id} has written`, async () => (await daemon.client.logs("default", { run: id })).length > 5);
  await daemon.kill();
  // Neither needs an ebb for its end; behind the last the run directory goes.
  await nothingLeftOf(lives, 40_000);
  daemon = await startDaemon({ directory: daemon.directory });
  const ended = await daemon.client.runs.show("default", away.id, 30);
  assert.deepEqual([ended.state, ended.reason, ended.exitCode, ended.tasks[0]?.attempts], ["failed", "error", 3, 1]);
  const lines = (await daemon.client.logs("default", { run: away.id })).filter(({ stream }) => stream === "stdout");
  assert.deepEqual(
    lines.map(({ message }) => message),
    Array.from({ length: 100 }, (_, i) => `line ${i + 1}`),
  );
  const result = Buffer.concat(await Array.fromAsync(await daemon.client.runs.result("default", away.id))).toString();
  assert.equal(result, "left\n");
  const record = await daemon.client.invocation("default", ended.tasks[0]!.invocation!);
  assert.equal(record.outcome, "error");
  assert.ok(record.billedMs >= 5_000 && record.billedMs < 30_000, `${record.billedMs} ms`);
  const over = await daemon.client.runs.show("default", late.id, 30);
  assert.deepEqual([over.state, over.reason], ["failed", "timeout"]);
  const timed = await daemon.client.invocation("default", over.tasks[0]!.invocation!);
  assert.equal(timed.outcome, "timeout");
  assert.ok(timed.billedMs >= 11_000, `${timed.billedMs} ms`);
});

test("a thousand queued runs all succeed, though ebb is killed among them", async () => {
  const ids: string[] = [];
  for (let n = 0; n < 1_000; n++) ids.push((await daemon.client.runs.start("default", "true")).id);
  await daemon.client.runs.show("default", ids[200]!, 60);
  await daemon.kill();
  daemon = await startDaemon({ directory: daemon.directory });
  for (const id of ids) {
    let run = await daemon.client.runs.show("default", id, 60);
    while (run.ended === null) run = await daemon.client.runs.show("default", id, 60);
    assert.equal(run.state, "succeeded", run.message ?? "");
  }
  const { rows } = await daemon.client.usage("default");
  // Those that were interrupted were begun twice.
  const requests = rows.find(({ workload }) => workload === "true")?.requests ?? 0;
  assert.ok(requests >= 1_000 && requests < 1_050, `${requests} records`);
  const { memoryBytes } = (await (
    await fetch(`${daemon.url}/api/v1/status`, { headers: { authorization: `Bearer ${daemon.token}` } })
  ).json()) as { memoryBytes: number };
  assert.equal(memoryBytes, 0);
});
