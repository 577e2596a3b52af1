// A thousand queued runs in real sandboxes, with an ebb that dies among them; and the other Nodes, whose roots take a while.

import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { after, before, test } from "node:test";
import { folderOf, startDaemon, type Daemon } from "./fixture.ts";

const settings = "source: ./src, memoryMb: 48, egress: none";
const app = folderOf({
  "ebb.yaml": `jobs:
  "true": { ${settings}, command: ["true"] }
  node22: { ${settings}, runtime: node22, command: [sh, -c, "node -p process.version >/ebb/result"] }
`,
  "src/index.js": "",
});

let daemon: Daemon;
before(async () => {
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
