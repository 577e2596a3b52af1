// http://ebb.internal, and what a proxy in front may say.

import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import test, { after, before } from "node:test";
import { testRevision, until } from "#activator/world.testing.ts";
import type { Identity } from "#model/access.ts";
import { systemClock } from "#model/clock.ts";
import { EbbError } from "#model/errors.ts";
import { Front } from "./front.testing.ts";
import { connectionBounds } from "./places.ts";

let front: Front;
before(async () => {
  front = await new Front().listen();
  await front.echo({ public: false });
  await front.world.start(
    front.world.deploy({ ...testRevision({ public: false }), project: "other" }),
    (_request, response) => response.end("other"),
  );
});
after(() => front.stop());

test("nobody but a living instance is served", async () => {
  assert.equal((await front.get("/", { host: "hello.ebb.internal" }, true)).code, "unauthenticated");
  assert.equal((await front.get("/_/wrong/run/default/hello", { host: "127.0.0.1" }, true)).code, "unauthenticated");
  assert.equal((await front.get("/healthz", { host: "ebb.internal" }, true)).body, "ok\n");
});

test("an instance reaches its own project without a token: by name, by path, by a credential in the path", async () => {
  const byName = await front.get("/x", { host: "hello.ebb.internal", "ebb-credential": "cred-i1" }, true);
  const byPath = await front.get("/run/default/hello/x", { host: "ebb.internal", "ebb-credential": "cred-i1" }, true);
  const byCredential = await front.get(
    "/_/cred-i1/run/default/hello/x",
    { host: `127.0.0.1:${front.internalPort}` },
    true,
  );
  for (const answer of [byName, byPath, byCredential]) {
    assert.equal(answer.status, 200);
    const { url, headers } = answer.json as unknown as { url: string; headers: Record<string, string> };
    assert.deepEqual([url, headers["ebb-trigger"]], ["/x", "internal"]);
    assert.doesNotMatch(answer.body, /cred-i1/, "a callee never sees a caller's credential");
  }
});

test("only where ebb itself is asked: a workload's own path may begin alike", async () => {
  const answer = await front.get("/_/image?x", { host: "hello.ebb.internal", "ebb-credential": "cred-i1" }, true);
  assert.deepEqual([answer.status, answer.json["url"]], [200, "/_/image?x"]);
});

test("another project wants a token of its own", async () => {
  const ask = (headers: Record<string, string>) =>
    front.get("/run/other/hello", { host: "ebb.internal", "ebb-credential": "cred-i1", ...headers }, true);
  assert.equal((await ask({})).code, "unauthenticated");
  assert.equal((await ask({ "ebb-token": "good" })).code, "forbidden");
  assert.equal((await ask({ "ebb-token": "other" })).body, "other");
});

test("the API and foreign names are not there", async () => {
  const ask = (path: string, host: string) => front.get(path, { host, "ebb-credential": "cred-i1" }, true);
  assert.equal((await ask("/api/v1/workloads", "ebb.internal")).code, "not_found");
  assert.equal((await ask("/metrics", "ebb.internal")).code, "not_found");
  assert.equal((await ask("/", "hello--other.ebb.internal")).code, "misdirected");
  assert.equal((await ask("/", "example.com")).code, "misdirected");
  assert.deepEqual(front.api, []);
});

test("calls deeper than 16 are a loop, whatever the caller says about itself", async () => {
  const depths: number[] = [];
  const deep = await new Front({
    activator: {
      invoke: (call, sink) => {
        depths.push(call.depth);
        sink.failed(new EbbError("capacity", "enough"), false);
        return { id: call.id, abort() {}, drained() {} };
      },
      depthIn: (instance) => Number(instance),
    },
  }).listen();
  try {
    deep.world.deploy(testRevision());
    const ask = (depth: number) =>
      deep.get("/", { host: "hello.ebb.internal", "ebb-credential": `cred-${depth}`, "ebb-depth": "0" }, true);
    assert.equal((await ask(15)).code, "capacity");
    assert.equal((await ask(16)).code, "loop");
    assert.deepEqual(depths, [16]);
  } finally {
    await deep.stop();
  }
});

test("an address on a link is who it is", async () => {
  const linked = await new Front({
    identifyLink: (address) =>
      address === "127.0.0.1" ? { name: "i", project: "default", scope: "invoke", instance: "i1" } : null,
  }).listen();
  try {
    await linked.echo({ public: false });
    assert.equal((await linked.get("/", { host: "hello.ebb.internal" }, true)).status, 200);
    assert.equal(
      (await linked.get("/", { host: "hello.localhost" })).code,
      "unauthenticated",
      "on the public side it is nobody",
    );
  } finally {
    await linked.stop();
  }
});

test("behind a trusted proxy: scheme, host, client and prefix are what it says", async () => {
  const proxied = await new Front({ trustProxy: ["127.0.0.0/8"], baseUrl: new URL("https://fn.example.com") }).listen();
  try {
    await proxied.echo({});
    const answer = await proxied.get("/", {
      host: "upstream:8080",
      "x-forwarded-host": "hello.fn.example.com",
      "x-forwarded-proto": "https",
      "x-forwarded-for": "203.0.113.9",
      "x-forwarded-prefix": "/outer",
      "x-forwarded-port": "443",
    });
    const { headers } = answer.json as unknown as { headers: Record<string, string> };
    assert.equal(headers["x-forwarded-for"], "203.0.113.9, 127.0.0.1");
    assert.equal(headers["x-forwarded-proto"], "https");
    assert.equal(headers["x-forwarded-host"], "hello.fn.example.com");
    assert.equal(headers["x-forwarded-prefix"], "/outer");
    assert.equal(headers["x-forwarded-port"], "443");
    assert.equal((await proxied.get("/", { host: "hello.localhost" })).code, "misdirected");
  } finally {
    await proxied.stop();
  }
});

test("a defect is told as a fact; its caller gets an id and nothing else", async () => {
  const broken = await new Front({
    mirror: {
      workload: () => {
        throw new Error("the mirror is broken in a secret way");
      },
    },
    clock: systemClock,
  }).listen();
  try {
    const answer = await broken.get("/");
    assert.deepEqual([answer.status, answer.code], [500, "internal"]);
    assert.doesNotMatch(answer.body, /secret way/);
    const fact = broken.world.facts.find(({ kind }) => kind === "defect");
    assert.ok(fact?.kind === "defect" && answer.body.includes(fact.errorId));
  } finally {
    await broken.stop();
  }
});

test("closing lets an open request end, says so, and takes no other", async () => {
  const closing = await new Front().listen();
  const revision = closing.world.deploy(testRevision());
  const arrived = Promise.withResolvers<() => void>();
  await closing.world.start(revision, (_request, response) => arrived.resolve(() => response.end("last")));
  const answer = closing.get("/");
  const finish = await arrived.promise;
  const closed = closing.gateway.close(60_000);
  finish();
  assert.match((await answer).head, /connection: close/);
  await closed;
  await assert.rejects(once(closing.open(), "connect"), /ECONNREFUSED/);
  await closing.stop();
});

test("a port that is taken is one clear sentence", async () => {
  const second = new Front();
  await assert.rejects(second.gateway.listen("127.0.0.1", front.port), /is taken by another program/);
  await second.world.stop();
});

test("a project that fills ebb.internal with connections keeps no other from it", async (context) => {
  let project = "greedy";
  const identifyLink = (): Identity => ({ name: "i", project, scope: "invoke", instance: "i1" });
  const crowded = await new Front({ identifyLink, openFilesMax: 400 }).listen();
  context.after(() => crowded.stop());
  const { inAll } = connectionBounds("internal", 400);
  const held = Array.from({ length: inAll }, () => crowded.open(crowded.internalPort).on("error", () => undefined));
  context.after(() => held.forEach((socket) => socket.destroy()));
  await Promise.all(held.map((socket) => once(socket, "connect")));
  // A head that is on its way carries no request yet.
  for (const socket of held) socket.write("GET /");
  project = "other";
  assert.equal((await crowded.get("/healthz", { host: "ebb.internal" }, true)).body, "ok\n");
});

test("one client that fills the public listener keeps no other from it, and a trusted proxy is not one client", async (context) => {
  const crowded = await new Front({ openFilesMax: 100, trustProxy: ["127.0.0.9"] }).listen();
  let asked = 0;
  await crowded.world.start(crowded.world.deploy(testRevision({ concurrency: 1_000 })), () => void asked++);
  const busy = Array.from({ length: connectionBounds("public", 100).inAll }, () => crowded.open());
  context.after(async () => {
    for (const socket of busy) socket.destroy();
    await crowded.stop();
  });
  for (const socket of busy)
    socket.on("error", () => undefined).write("GET / HTTP/1.1\r\nhost: hello.localhost\r\n\r\n");
  await until(() => asked === busy.length, "all requests to run");
  const [cut] = busy;
  const proxy = connect({ port: crowded.port, host: "127.0.0.1", localAddress: "127.0.0.9" });
  context.after(() => proxy.destroy());
  proxy.write("GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
  assert.match(String((await once(proxy, "data"))[0]), /^HTTP\/1\.1 200 /);
  if (!cut!.destroyed) await once(cut!, "close");
  assert.equal(busy.filter((socket) => socket.destroyed).length, 1);
});
