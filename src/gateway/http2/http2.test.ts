// HTTP/2 at the public listener, on the port of HTTP/1.1: to workloads of either kind, both ways at once, and what is refused.

import assert from "node:assert/strict";
import { once } from "node:events";
import {
  connect,
  createServer,
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type OutgoingHttpHeaders,
  type ServerHttp2Stream,
} from "node:http2";
import test, { after, before } from "node:test";
import { http2Revision, testRevision, until } from "#activator/world.testing.ts";
import { Front } from "../front.testing.ts";

let front: Front;
let session: ClientHttp2Session;

before(async () => {
  front = await new Front().listen();
  await front.echo({});
  await front.echo({ public: false }, "secret");
  const server = createServer();
  server.on("stream", (stream: ServerHttp2Stream, headers, _flags, raw: string[]) => {
    const path = headers[":path"];
    if (path === "/trailers-only") {
      stream.respond({ ":status": 200, "content-type": "application/grpc", "grpc-status": "5" }, { endStream: true });
    } else if (path === "/held") {
      stream.on("aborted", () => void aborted.push(String(headers["x-id"])));
      stream.resume();
    } else {
      stream.on("error", () => undefined);
      let trailers: unknown = null;
      stream.on("trailers", (found) => (trailers = { ...found }));
      stream.respond({ ":status": 200, "x-raw": JSON.stringify(raw) }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0", "x-got": JSON.stringify(trailers) }));
      stream.pipe(stream);
    }
  });
  await front.world.startHttp2(front.world.deploy(http2Revision("rpc")), server);
  session = connect(`http://127.0.0.1:${front.port}`);
  session.on("error", () => undefined);
});
after(async () => {
  session.destroy();
  await front.stop();
});

const aborted: string[] = [];

/** What is ebb's to say, where a server may take trailers for headers. */
const forged = { "x-forwarded-for": "192.0.2.1", forwarded: "for=192.0.2.1", "ebb-trigger": "schedule" };

interface Answer {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly trailers: Record<string, string>;
  readonly body: string;
  readonly rstCode: number;
}

function open(headers: OutgoingHttpHeaders, on = session): { stream: ClientHttp2Stream; answer: Promise<Answer> } {
  const stream = on.request({ ":authority": "rpc.localhost", ...headers }, { waitForTrailers: true, endStream: false });
  return { stream, answer: answerOf(stream) };
}

async function answerOf(stream: ClientHttp2Stream): Promise<Answer> {
  let head: Record<string, string> = {};
  let trailers: Record<string, string> = {};
  let body = "";
  stream.on("response", (found) => (head = { ...(found as Record<string, string>) }));
  stream.on("trailers", (found) => (trailers = { ...(found as Record<string, string>) }));
  stream.on("data", (chunk: Buffer) => void (body += chunk.toString("latin1")));
  stream.on("wantTrailers", () => stream.sendTrailers({ "x-sent": "behind", ...forged }));
  stream.on("error", () => undefined);
  await once(stream, "close");
  return { status: Number(head[":status"]), headers: head, trailers, body, rstCode: stream.rstCode ?? -1 };
}

function ask(headers: OutgoingHttpHeaders, body = "", on = session): Promise<Answer> {
  const { stream, answer } = open(headers, on);
  stream.end(body);
  return answer;
}

test("a workload of HTTP/1.1 is asked by HTTP/2: it sees a request of HTTP/1.1, and its answer carries what ebb adds", async () => {
  const headers = {
    ":authority": "hello.localhost",
    ":path": "/a?b",
    ":method": "POST",
    cookie: ["a=1", "b=2"],
    te: "trailers",
  };
  const { status, headers: head, body } = await ask(headers, "some body");
  assert.equal(status, 200);
  assert.match(head["ebb-invocation-id"]!, /^[0-9a-z]{26}$/);
  assert.match(head["server-timing"]!, /^queue;dur=.*exec;dur=/);
  const seen = JSON.parse(body) as { method: string; url: string; headers: Record<string, string>; body: string };
  assert.deepEqual([seen.method, seen.url, seen.body], ["POST", "/a?b", "some body"]);
  assert.equal(seen.headers["host"], "hello.localhost");
  assert.equal(seen.headers["cookie"], "a=1; b=2");
  assert.equal(seen.headers["transfer-encoding"], "chunked");
  assert.equal(seen.headers["x-forwarded-for"], "127.0.0.1");
  assert.equal(seen.headers["te"], undefined);
});

test("a workload of HTTP/2 answers both ways at once, with trailers both ways", async () => {
  const { stream, answer } = open({ ":method": "POST", "content-type": "application/grpc", te: "trailers" });
  let heard = "";
  stream.on("data", (chunk: Buffer) => void (heard += chunk.toString()));
  for (const word of ["one ", "two ", "three"]) {
    const before = heard;
    stream.write(word);
    await until(() => heard === before + word, `the echo of ${word}`);
  }
  stream.end();
  const { status, headers, trailers } = await answer;
  assert.equal(status, 200);
  assert.match(headers["ebb-invocation-id"]!, /^[0-9a-z]{26}$/);
  assert.equal(trailers["grpc-status"], "0");
  assert.deepEqual(JSON.parse(trailers["x-got"]!), { "x-sent": "behind" });
  const seen = JSON.parse(headers["x-raw"]!) as string[];
  for (const name of ["te", "ebb-invocation-id", "traceparent", "ebb-deadline-ms", "x-forwarded-for"])
    assert.ok(seen.includes(name), name);
});

test("a client that asks for leave to send its body gets it when an instance takes it", async () => {
  const { stream, answer } = open({ ":authority": "hello.localhost", ":method": "POST", expect: "100-continue" });
  await once(stream, "continue");
  stream.end("some body");
  const { status, body } = await answer;
  assert.deepEqual([status, (JSON.parse(body) as { body: string }).body], [200, "some body"]);
});

test("an answer that is trailers only stays one", async () => {
  const { stream, answer } = open({ ":method": "POST", ":path": "/trailers-only", "content-type": "application/grpc" });
  const [, flags] = (await once(stream, "response")) as [unknown, number];
  assert.equal(flags & 1, 1, "the head ends the stream");
  stream.end();
  assert.equal((await answer).headers["grpc-status"], "5");
});

test("a workload of HTTP/2 is asked by HTTP/1.1 as well, without trailers; gRPC and WebSockets are refused in words", async () => {
  const plain = await front.raw("POST /x HTTP/1.1\r\nhost: rpc.localhost\r\ncontent-length: 4\r\n\r\nbody");
  assert.match(plain, /^HTTP\/1\.1 200 OK\r\n[^]*\r\n\r\n4\r\nbody\r\n0\r\n\r\n$/);
  const odd =
    "http2-settings: x\r\nte: trailers, x\r\nkeep-alive: 1\r\nproxy-connection: x\r\n!#$%&'*+.^_`|~: \xe9\r\nconnection: close\r\n";
  assert.match(await front.raw(`M-SEARCH /x HTTP/1.1\r\nhost: rpc.localhost\r\n${odd}\r\n`), /^HTTP\/1\.1 200 /);
  const grpc = await front.get("/", { host: "rpc.localhost", "content-type": "application/grpc" });
  assert.deepEqual([grpc.status, grpc.code], [505, "http_version"]);
  const socket = await front.get("/", { host: "rpc.localhost", connection: "upgrade", upgrade: "websocket" });
  assert.deepEqual([socket.status, socket.code], [505, "http_version"]);
});

test("ebb's own refusals reach a client of gRPC as gRPC, and any other as a problem", async () => {
  const grpc = { ":method": "POST", "content-type": "application/grpc+proto" };
  const unimplemented = await ask({ ...grpc, ":authority": "hello.localhost" });
  assert.deepEqual([unimplemented.status, unimplemented.headers["grpc-status"]], [200, "12"]);
  assert.match(unimplemented.headers["grpc-message"]!, /^http_version: hello speaks HTTP\/1\.1/);
  const refused = await ask({ ...grpc, ":authority": "secret.localhost" });
  assert.equal(refused.headers["grpc-status"], "16");
  const problem = await ask({ ":authority": "secret.localhost" });
  assert.deepEqual([problem.status, problem.headers["content-type"]], [401, "application/problem+json"]);
  assert.equal((await ask({ ":authority": "foo.example.com" })).status, 421);
  assert.equal((await ask({ ":authority": "localhost", ":path": "/healthz" })).body, "ok\n");
  assert.equal((await ask({ ":authority": "localhost", ":path": "/api/v1/workloads" })).status, 505);
});

test("a client that breaks off a call is heard by the instance, and the call ends as client_gone", async () => {
  const { stream, answer } = open({ ":method": "POST", ":path": "/held", "x-id": "left" });
  const revision = front.world.revisions.get("default/rpc")!;
  await until(() => front.world.activator.load(revision).active === 1, "it runs");
  stream.close(8);
  await answer;
  await until(() => aborted.includes("left"), "the instance heard of it");
  await until(() => front.world.activator.load(revision).active === 0, "it is over");
  assert.ok(front.world.log.some((line) => / client_gone /.test(line)));
});

test("what a function answers that HTTP/2 has no place for is left out, and takes nobody along; HEAD and 204 have no body", async () => {
  const revision = front.world.deploy(testRevision({ concurrency: 10 }, 1, "odd"));
  await front.world.startRaw(revision, (socket) => {
    socket.on("data", (chunk: Buffer) => {
      const path = / (\/\S*) /.exec(chunk.toString())![1]!;
      const headers =
        "http2-settings: x\r\nte: x\r\nupgrade: y\r\nproxy-connection: z\r\nx-kept: 1\r\nlocation: /a\r\nlocation: /b\r\n";
      if (path === "/none") socket.write(`HTTP/1.1 204 No Content\r\n${headers}\r\n`);
      else if (path === "/head") socket.write(`HTTP/1.1 200 OK\r\n${headers}content-length: 7\r\n\r\n`);
      else socket.write(`HTTP/1.1 200 OK\r\n${headers}content-length: 2\r\n\r\nok`);
    });
  });
  const at = { ":authority": "odd.localhost" };
  const plain = await ask({ ...at, ":path": "/" });
  assert.deepEqual([plain.status, plain.body, plain.headers["x-kept"]], [200, "ok", "1"]);
  assert.equal(plain.headers["http2-settings"], undefined);
  assert.equal((await ask({ ...at, ":path": "/none" })).status, 204);
  const head = await ask({ ...at, ":path": "/head", ":method": "HEAD" });
  assert.deepEqual([head.status, head.headers["content-length"], head.body], [200, "7", ""]);
});
