// Who may: projects, tokens, scopes, quotas and calls between functions, on a real ebb.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { runInProcess } from "#cli/in-process.testing.ts";
import { eventually, folderOf, removeDirectory, startDaemon, type Daemon } from "./fixture.ts";

let daemon: Daemon;
const folders: string[] = [];

function folder(files: Record<string, string>): string {
  const made = folderOf(files);
  folders.push(made);
  return made;
}

before(async () => {
  daemon = await startDaemon();
  for (const project of ["red", "blue"]) assert.equal((await daemon.ebb(["projects", "create", project])).code, 0);
  const caller = folder({
    "ebb.yaml":
      "project: red\nfunctions:\n  caller: { source: ./caller, public: true, memoryMb: 64 }\n  callee: { source: ./callee, memoryMb: 64 }\n  loop: { source: ./loop, public: true, memoryMb: 64, max: 20, concurrency: 30 }\n",
    "caller/index.mjs":
      "export default async (r) => { const q = new URL(r.url).searchParams; const a = await fetch(q.get('url'), { headers: q.get('token') ? { 'ebb-token': q.get('token') } : {} }); return new Response(`${a.status} ${await a.text()}`); };",
    "callee/index.mjs": "export default (r) => new Response(`callee ${r.headers.get('ebb-token') ?? 'no token'}`);",
    "loop/index.mjs":
      "export default async () => { const a = await fetch('http://loop.ebb.internal/'); return new Response(await a.text(), { status: a.status }); };",
  });
  const deployed = await daemon.ebb(["deploy", caller]);
  assert.equal(deployed.code, 0, deployed.stderr);
  const blue = await daemon.ebb([
    "deploy",
    folder({
      "ebb.yaml": "project: blue\nfunctions:\n  closed: { source: ., memoryMb: 64 }\n",
      "index.mjs": "export default () => new Response('blue');",
    }),
  ]);
  assert.equal(blue.code, 0, blue.stderr);
});

after(async () => {
  await daemon?.stop();
  for (const made of [...folders, ...(daemon ? [daemon.directory] : [])]) removeDirectory(made);
});

function through(url: string, token = ""): Promise<string> {
  return daemon
    .fetch("caller--red.localhost", `/?url=${encodeURIComponent(url)}&token=${token}`)
    .then((answer) => answer.text);
}

test("functions of one project call each other without a token, by host name and by path", async () => {
  assert.equal(await through("http://callee.ebb.internal/"), "200 callee no token");
  assert.equal(await through("http://ebb.internal/run/red/callee/"), "200 callee no token");
});

test("across projects a call needs a token of the other one", async () => {
  assert.match(await through("http://ebb.internal/run/blue/closed/"), /^401/);
  const { token } = await daemon.json<{ token: string }>(["token", "--project", "blue"]);
  assert.equal(await through("http://ebb.internal/run/blue/closed/", token), "200 blue");
  const { token: own } = await daemon.json<{ token: string }>(["token", "--project", "red"]);
  assert.match(await through("http://ebb.internal/run/blue/closed/", own), /^403/);
});

test("functions that call each other in a loop are stopped with 508", async () => {
  const answer = await daemon.fetch("loop--red.localhost", "/");
  assert.equal(answer.status, 508, answer.text);
});

test("ebb.internal shows a function nothing of the platform's API", async () => {
  assert.match(await through("http://ebb.internal/api/v1/workloads"), /^(401|403|404|421)/);
  assert.match(await through("http://ebb.internal/metrics"), /^(401|403|404|421)/);
});

test("a token of ours in Authorization is refused before user code sees it", async () => {
  const answer = await daemon.fetch("caller--red.localhost", "/", {
    headers: { authorization: `Bearer ${daemon.token}` },
  });
  assert.equal(answer.status, 401);
  assert.match(answer.text, /token_in_authorization/);
});

test("a token does what its scope and project allow, and a removed one nothing at once", async () => {
  const reader = await daemon.json<{ id: string; token: string }>([
    "tokens",
    "create",
    "reader",
    "--scope",
    "read",
    "--project",
    "red",
  ]);
  const as = (token: string, ...args: string[]): ReturnType<typeof runInProcess> =>
    runInProcess(args, { environment: { EBB_URL: daemon.url, EBB_TOKEN: token } });
  assert.equal((await as(reader.token, "ls", "--project", "red")).code, 0);
  assert.equal((await as(reader.token, "ls", "--project", "blue")).code, 1);
  assert.equal((await as(reader.token, "rm", "callee", "--project", "red", "--yes")).code, 1);
  assert.equal((await daemon.ebb(["tokens", "rm", reader.id, "--project", "red"])).code, 0);
  const refused = await as(reader.token, "ls", "--project", "red");
  assert.equal(refused.code, 1);
  assert.equal(refused.stderr.trim().split("\n").length, 1, refused.stderr);
});

test("every command leaves a row in the audit", async () => {
  const rows = await daemon.json<Array<{ command: string; outcome: string }>>(["audit", "--project", "red"]);
  assert.ok(rows.some((row) => /deploy/.test(row.command) && row.outcome === "ok"));
  assert.ok(rows.some((row) => /tokens/.test(row.command)));
});

test("a project's quotas of rate and memory hold", async () => {
  assert.equal((await daemon.ebb(["projects", "create", "small"])).code, 0);
  const made = folder({
    "ebb.yaml": "project: small\nfunctions:\n  one: { source: ., public: true, memoryMb: 64 }\n",
    "index.mjs":
      "export default async () => { await new Promise(f => setTimeout(f, 200)); return new Response('ok'); };",
  });
  assert.equal((await daemon.ebb(["deploy", made])).code, 0);
  assert.equal((await daemon.ebb(["projects", "set", "small", "--instances", "1"])).code, 0);
  const answers = await Promise.all(Array.from({ length: 4 }, () => daemon.fetch("one--small.localhost", "/")));
  assert.deepEqual(
    answers.map((answer) => answer.status),
    [200, 200, 200, 200],
  );
  const listed = await daemon.client.workloads.list("small");
  assert.equal(listed.find((row) => row.name === "one")?.instances, 1);
  assert.equal((await daemon.ebb(["projects", "set", "small", "--rate", "2"])).code, 0);
  const many = await Promise.all(Array.from({ length: 12 }, () => daemon.fetch("one--small.localhost", "/")));
  const limited = many.filter((answer) => answer.status === 429);
  assert.ok(limited.length >= 6, many.map((answer) => answer.status).join(" "));
  assert.ok(limited[0]?.headers["retry-after"]);
});

test("an unknown host is told what ebb serves, and a rebound one gets nothing", async () => {
  const answer = await daemon.fetch("foo.example.com", "/");
  assert.equal(answer.status, 421);
  assert.match(answer.text, /no workload at \\?"foo\.example\.com\\?"; ebb serves \*\.localhost\. Start with --url/);
  await eventually("health", async () => (await daemon.fetch(null, "/healthz")).status === 200);
});
