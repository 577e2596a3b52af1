// What the API answers: shapes, problems, streams.

/* oxlint-disable typescript/no-explicit-any, typescript/no-unsafe-type-assertion -- answers are JSON of any shape: what counts is asserted */
import assert from "node:assert/strict";
import type { Server } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { createServer } from "#lib/http.ts";
import { newInvocationId } from "#model/ids.ts";
import { recordLimits, storeLimits } from "#model/limits.ts";
import { createApiWorld, type ApiWorld } from "./world.testing.ts";

let world: ApiWorld;
let server: Server;
let base: string;
let token: string;

before(async () => {
  world = await createApiWorld();
  token = (await world.mint("admin", null)).text;
  server = createServer(world.api.handle).listen(0, "127.0.0.1");
  await once(server, "listening");
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a TCP server's address
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
after(async () => {
  server.close();
  server.closeAllConnections();
  await world.stop();
});

async function call(
  method: string,
  path: string,
  body?: unknown,
): Promise<{ status: number; body: any; headers: Headers }> {
  const response = await fetch(base + path, {
    method,
    headers: {
      authorization: `Bearer ${token}`,
      ...(body === undefined ? {} : { "content-type": "application/json" }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, body: text === "" ? null : JSON.parse(text) };
}

function deploy(path: string, files: object, accept = "application/x-ndjson"): Promise<Response> {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/gzip", accept };
  return fetch(`${base}/api/v1/deploys${path}`, { method: "POST", headers, body: JSON.stringify(files) });
}

test("a deploy tells its steps one a line", async () => {
  const response = await deploy("?name=hello&env=LEVEL=info&public=true", { "index.js": "a" });
  assert.equal(response.status, 200);
  assert.equal(response.headers.get("content-type"), "application/x-ndjson");
  const steps = (await response.text())
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.deepEqual(
    steps.map(({ step }) => step),
    ["received", "building", "built", "checking", "checked", "deployed"],
  );
  assert.equal(steps.at(-1).results[0].public, true);
  assert.equal(world.mirror.workload("default", "hello")?.revision.settings.env["LEVEL"], "info");
});

test("a deploy that fails before its first step has a status, later a last line; without NDJSON always a status", async () => {
  const early = await deploy("?name=NO", {});
  assert.equal(early.status, 400);
  assert.equal(((await early.json()) as any).code, "invalid_name");
  world.loadFailures.set("broken", { fault: "function", message: "boom (index.js:1)", stack: null, hint: null });
  const late = await deploy("?name=hello", { "index.js": "broken" });
  const last = JSON.parse((await late.text()).trim().split("\n").at(-1)!);
  assert.deepEqual(
    [late.status, last.step, last.problem.code, last.problem.problems[0].workload],
    [200, "failed", "deploy_refused", "hello"],
  );
  const plain = await deploy("?name=hello", { "index.js": "broken" }, "application/json");
  assert.equal(plain.status, 422);
  assert.equal(((await plain.json()) as any).code, "deploy_refused");
});

test("ls has the shape of INTERFACE", async () => {
  const { body } = await call("GET", "/api/v1/projects/default/workloads");
  const [row] = body;
  for (const key of [
    "project",
    "kind",
    "name",
    "revision",
    "state",
    "isolation",
    "instances",
    "paused",
    "url",
    "pathUrl",
    "triggers",
  ])
    assert.ok(key in row, key);
  assert.deepEqual(
    [row.name, row.revision, row.state, row.instances, row.isolation],
    ["hello", 1, "ready", 0, "container"],
  );
});

test("show says each setting and where it comes from", async () => {
  const { body } = await call("GET", "/api/v1/projects/default/workloads/hello");
  assert.deepEqual(body.settings.handler, { value: "default", source: "recognised" });
  assert.deepEqual(body.settings.memoryMb, { value: 256, source: "default" });
  assert.deepEqual(body.settings.env.value, { LEVEL: "info" });
});

test("revisions, rollback, restart, removal", async () => {
  await (await deploy("?name=two", { i: "1" })).text();
  await (await deploy("?name=two", { i: "2" })).text();
  const path = "/api/v1/projects/default/workloads/two";
  const { body } = await call("GET", `${path}/revisions`);
  assert.deepEqual(
    body.map((row: any) => [row.revision, row.current]),
    [
      [2, true],
      [1, false],
    ],
  );
  assert.equal((await call("POST", `${path}/rollback`, {})).body.revision, 1);
  assert.equal((await call("POST", `${path}/restart`)).status, 204);
  assert.equal((await call("DELETE", path)).status, 204);
  assert.equal((await call("GET", path)).status, 404);
});

test("secrets are written and listed, never read", async () => {
  assert.deepEqual((await call("PUT", "/api/v1/projects/default/secrets/KEY", { value: "s3cret" })).body, {
    version: 1,
    replaced: [],
  });
  const { body } = await call("GET", "/api/v1/projects/default/secrets");
  assert.deepEqual(Object.keys(body[0]), ["name", "version", "updated"]);
  const everything = JSON.stringify([
    body,
    (await call("GET", "/api/v1/audit")).body,
    (await call("GET", "/api/v1/projects/default")).body,
  ]);
  assert.ok(!everything.includes("s3cret"));
});

test("a token is shown once, listed without its hash, and dies at once", async () => {
  const made = await call("POST", "/api/v1/projects/default/tokens", { name: "ci", scope: "read" });
  assert.equal(made.status, 201);
  const { body } = await call("GET", "/api/v1/projects/default/tokens");
  assert.deepEqual(Object.keys(body[0]), ["id", "name", "project", "scope", "created", "expires"]);
  const asIt = () => fetch(`${base}/api/v1/identity`, { headers: { authorization: `Bearer ${made.body.token}` } });
  assert.equal((await asIt()).status, 200);
  assert.equal((await call("DELETE", `/api/v1/projects/default/tokens/${made.body.id}`)).status, 204);
  assert.equal((await asIt()).status, 401);
});

test("a short-lived token invokes and does nothing else", async () => {
  const { body } = await call("POST", "/api/v1/projects/default/short-tokens");
  assert.equal(world.access.authenticate(body.token, world.clock.nowMs)?.scope, "invoke");
  const list = await fetch(`${base}/api/v1/projects/default/workloads`, {
    headers: { authorization: `Bearer ${body.token}` },
  });
  assert.equal(list.status, 403);
});

test("invocations are told in milliseconds", async () => {
  const id = newInvocationId(world.clock.nowMs);
  world.records.push({
    id,
    project: "default",
    workload: "hello",
    revision: 1,
    instance: "i1",
    trigger: "http",
    timeMs: 0,
    cold: true,
    queuedUs: 1_500,
    startUs: 56_000,
    executionUs: 2_250,
    billedUs: 3_000,
    memoryMb: 256,
    cpuNs: 1_500_000,
    bytesIn: 1,
    bytesOut: 2,
    status: 200,
    outcome: "ok",
  });
  const { body } = await call("GET", "/api/v1/projects/default/workloads/hello/invocations?limit=5");
  assert.deepEqual(
    [body[0].queuedMs, body[0].startMs, body[0].durationMs, body[0].billedMs, body[0].cpuMs, body[0].time],
    [1.5, 56, 2.25, 3, 1.5, "1970-01-01T00:00:00.000Z"],
  );
  assert.equal((await call("GET", `/api/v1/projects/default/invocations/${id}`)).body.outcome, "ok");
  assert.equal((await call("GET", "/api/v1/projects/default/invocations/nonsense")).status, 404);
});

test("usage is added up by workload and day", async () => {
  const total = {
    project: "default",
    workload: "hello",
    requests: 2,
    errors: 1,
    billedUs: 1_000_000,
    memoryMbUs: 1_024_000_000,
    cpuNs: 5e8,
    provisionedUs: 0,
    provisionedMbUs: 0,
    bytesIn: 0,
    bytesOut: 0,
  };
  const hour = Date.UTC(2026, 10, 24, 12);
  world.totals.push({ ...total, hourMs: hour - 3_600_000 }, { ...total, hourMs: hour });
  const { body } = await call("GET", "/api/v1/projects/default/usage");
  assert.equal(body.rows.length, 1);
  assert.deepEqual(
    [body.rows[0].day, body.rows[0].requests, body.rows[0].gbSeconds, body.rows[0].vcpuSeconds],
    ["2026-11-24", 4, 2, 1],
  );
  const [row] = (await call("GET", "/api/v1/projects/default/workloads")).body;
  assert.equal(row.errorsLastHour, 2, "one of this hour, and half of the last hour's one, rounded up");

  // More than the store answers at a time, in an order that is not that of the rows: hours, and workloads within each.
  world.totals.length = 0;
  const workloads = Array.from({ length: storeLimits.usageRows + 1 }, (_, n) => `w${10_000 + n}`);
  for (const hourMs of [hour - 86_400_000, hour - 3_600_000, hour])
    world.totals.push(...workloads.map((workload) => ({ ...total, workload, hourMs })));
  const { rows, keptDays } = (await call("GET", "/api/v1/projects/default/usage")).body as {
    rows: { day: string; workload: string; requests: number }[];
    keptDays: number;
  };
  assert.equal(keptDays, recordLimits.keptDays);
  assert.deepEqual(
    rows.map(({ day, workload, requests }) => [day, workload, requests]),
    [
      ...workloads.map((workload) => ["2026-11-23", workload, 2]),
      ...workloads.map((workload) => ["2026-11-24", workload, 4]),
    ],
  );
  world.totals.length = 0;
  assert.deepEqual((await call("GET", "/api/v1/usage")).body.rows, []);
});

test("logs are listed, and followed as they are written", async () => {
  const line = {
    time: 0,
    workload: "hello",
    invocation: null,
    stream: "stdout",
    level: "info",
    message: "hi",
  } as const;
  world.lines.push(line);
  assert.equal((await call("GET", "/api/v1/projects/default/logs?workload=hello")).body[0].message, "hi");
  const abort = new AbortController();
  const response = await fetch(`${base}/api/v1/projects/default/logs?follow=true`, {
    headers: { authorization: `Bearer ${token}` },
    signal: abort.signal,
  });
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  for (const follower of world.followers) follower({ ...line, message: "later" });
  let text = "";
  while (!text.includes("later")) text += (await reader.read()).value ?? "";
  assert.equal(JSON.parse(text.trim()).message, "later");
  abort.abort();
  await reader.read().catch(() => {});
  while (world.followers.size > 0) await new Promise((resolve) => setImmediate(resolve));
});

test("metrics are Prometheus text, with a token", async () => {
  const response = await fetch(`${base}/metrics`, { headers: { authorization: `Bearer ${token}` } });
  assert.match(response.headers.get("content-type") ?? "", /^text\/plain; version=0\.0\.4/);
  assert.match(await response.text(), /^ebb_up 1$/m);
  assert.equal((await fetch(`${base}/metrics`)).status, 401);
});

test("bad requests are told what was expected where", async () => {
  const cases: Array<[string, string, unknown, RegExp]> = [
    ["POST", "/api/v1/projects", { name: 5 }, /body\.name/],
    ["POST", "/api/v1/projects", { name: "a", more: 1 }, /more/],
    ["POST", "/api/v1/tokens", { name: "a", scope: "root" }, /body\.scope/],
    ["PATCH", "/api/v1/projects/default", { memoryMb: "5" }, /body\.memoryMb/],
    ["GET", "/api/v1/audit?limit=0", undefined, /query\.limit/],
    ["GET", "/api/v1/audit?limit=99999999", undefined, /query\.limit/],
    ["GET", "/api/v1/audit?nonsense=1", undefined, /nonsense/],
  ];
  for (const [method, path, body, words] of cases) {
    const answer = await call(method, path, body);
    assert.deepEqual([answer.status, answer.body.code], [400, "bad_request"], path);
    assert.match(answer.body.detail, words);
  }
});

test("what is too large, not JSON or of another type is refused", async () => {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const post = (body: string, type = "application/json") =>
    fetch(`${base}/api/v1/projects`, { method: "POST", headers: { ...headers, "content-type": type }, body });
  assert.equal((await post(JSON.stringify({ name: "a".repeat(2 << 20) }))).status, 413);
  assert.equal((await post("{")).status, 400);
  assert.equal((await post('{"__proto__": {"name": "a"}}')).status, 400);
  assert.equal((await post("x", "text/plain")).status, 400);
});

test("a wrong method says which are right, and what is not there is not there", async () => {
  const answer = await call("PUT", "/api/v1/projects");
  assert.deepEqual([answer.status, answer.headers.get("allow")], [405, "GET, POST"]);
  assert.equal((await call("GET", "/api/v1/nothing")).body.code, "not_found");
  assert.equal((await fetch(`${base}/api/v1/nothing`)).status, 401);
});

test("an unknown error is a defect: its caller gets an id, the facts get the rest", async () => {
  const broken = world.store.audits;
  const nextWorld = await createApiWorld();
  nextWorld.control.createProject = async () => Promise.reject(new TypeError("secret detail"));
  const { text } = await nextWorld.mint("admin", null);
  const response = await nextWorld.api.app.inject({
    method: "POST",
    url: "/api/v1/projects",
    headers: { authorization: `Bearer ${text}` },
    payload: { name: "a" },
  });
  assert.equal(response.statusCode, 500);
  assert.ok(!response.body.includes("secret detail"));
  const fact = nextWorld.facts.find(({ kind }) => kind === "defect");
  assert.ok(fact?.kind === "defect" && response.body.includes(fact.errorId));
  await nextWorld.stop();
  assert.equal(broken, world.store.audits);
});

test("the OpenAPI document comes from the schemas and names every route", async () => {
  const { body } = await call("GET", "/api/v1/openapi.json");
  assert.equal(body.openapi, "3.1.0");
  for (const row of world.api.rows) {
    if (row.url.endsWith("openapi.json")) continue;
    const path = body.paths[row.url.replaceAll(/:([a-z]+)/gi, "{$1}")];
    assert.ok(path?.[row.method.toLowerCase()]?.summary, `${row.method} ${row.url}`);
  }
  assert.deepEqual(body.components.securitySchemes.token, { type: "http", scheme: "bearer" });
});
