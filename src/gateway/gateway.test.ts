// The whole front against real sockets: what hostile bytes get, what functions see, and what goes back.

import assert from "node:assert/strict";
import { once } from "node:events";
import test, { after, before } from "node:test";
import { testRevision, until } from "#activator/world.testing.ts";
import { Front, readAnswer } from "./front.testing.ts";

let front: Front;
before(async () => {
  front = await new Front().listen();
  await front.echo({});
  await front.echo({ public: false }, "secret");
});
after(() => front.stop());

const H = "host: hello.localhost\r\n";
const hostile: ReadonlyArray<[name: string, bytes: string, status: number, code: string | null]> = [
  ["no Host", "GET / HTTP/1.1\r\n\r\n", 400, "bad_host"],
  ["two Hosts", `GET / HTTP/1.1\r\n${H}host: other.localhost\r\n\r\n`, 400, "bad_host"],
  ["the same Host twice, in other case", `GET / HTTP/1.1\r\n${H}HOST: hello.localhost\r\n\r\n`, 400, "bad_host"],
  ["an empty Host", "GET / HTTP/1.1\r\nhost:\r\n\r\n", 400, "bad_host"],
  ["a Host with user information", "GET / HTTP/1.1\r\nhost: a@hello.localhost\r\n\r\n", 400, "bad_host"],
  ["a foreign Host", "GET / HTTP/1.1\r\nhost: foo.example.com\r\n\r\n", 421, "misdirected"],
  ["an absolute form with another host", `GET http://other.localhost/ HTTP/1.1\r\n${H}\r\n`, 400, "bad_host"],
  ["an absolute form with another port", `GET http://hello.localhost:1/ HTTP/1.1\r\n${H}\r\n`, 400, "bad_host"],
  [
    "length and chunks",
    `POST / HTTP/1.1\r\n${H}content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
    400,
    "bad_request",
  ],
  [
    "chunks and length",
    `POST / HTTP/1.1\r\n${H}transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n`,
    400,
    "bad_request",
  ],
  ["two lengths", `POST / HTTP/1.1\r\n${H}content-length: 3\r\ncontent-length: 3\r\n\r\nabc`, 400, "bad_request"],
  [
    "two lengths in other case",
    `POST / HTTP/1.1\r\n${H}Content-Length: 3\r\ncONTENT-lENGTH: 4\r\n\r\nabcd`,
    400,
    "bad_request",
  ],
  ["a list of lengths", `POST / HTTP/1.1\r\n${H}content-length: 3, 3\r\n\r\nabc`, 400, "bad_request"],
  ["a signed length", `POST / HTTP/1.1\r\n${H}content-length: +3\r\n\r\nabc`, 400, "bad_request"],
  ["a hexadecimal length", `POST / HTTP/1.1\r\n${H}content-length: 0x3\r\n\r\nabc`, 400, "bad_request"],
  [
    "a length beyond a disk",
    `POST / HTTP/1.1\r\n${H}content-length: 999999999999999\r\n\r\n`,
    413,
    "payload_too_large",
  ],
  ["another encoding", `POST / HTTP/1.1\r\n${H}transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n`, 400, "bad_request"],
  [
    "two encodings",
    `POST / HTTP/1.1\r\n${H}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
    400,
    "bad_request",
  ],
  ["identity and chunked", `POST / HTTP/1.1\r\n${H}transfer-encoding: identity\r\n\r\n`, 400, "bad_request"],
  [
    "chunked with a tab in front",
    `POST / HTTP/1.1\r\n${H}transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n`,
    400,
    "bad_request",
  ],
  ["chunks in HTTP/1.0", `POST / HTTP/1.0\r\n${H}transfer-encoding: chunked\r\n\r\n0\r\n\r\n`, 400, "bad_request"],
  [
    "a WebSocket with a length",
    `GET / HTTP/1.1\r\n${H}connection: upgrade\r\nupgrade: websocket\r\ncontent-length: 3\r\n\r\nabc`,
    400,
    "bad_request",
  ],
  [
    "a WebSocket with chunks",
    `GET / HTTP/1.1\r\n${H}connection: upgrade\r\nupgrade: websocket\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
    400,
    "bad_request",
  ],
  ["a blank before the colon", `POST / HTTP/1.1\r\n${H}content-length : 3\r\n\r\nabc`, 400, "bad_request"],
  ["a folded header", `GET / HTTP/1.1\r\n${H}x: a\r\n b\r\n\r\n`, 400, "bad_request"],
  ["a bare LF", "GET / HTTP/1.1\nhost: hello.localhost\n\n", 400, "bad_request"],
  ["a bare LF after one header", `GET / HTTP/1.1\r\n${H}x: y\nz: 1\r\n\r\n`, 400, "bad_request"],
  ["a bare CR", `GET / HTTP/1.1\r\n${H}x: a\rb\r\n\r\n`, 400, "bad_request"],
  ["NUL in a header", `GET / HTTP/1.1\r\n${H}x: a\0b\r\n\r\n`, 400, "bad_request"],
  ["a name with a bracket", `GET / HTTP/1.1\r\n${H}x[y]: a\r\n\r\n`, 400, "bad_request"],
  ["a blank in the target", `GET /a b HTTP/1.1\r\n${H}\r\n`, 400, "bad_request"],
  ["a fragment", `GET /a#b HTTP/1.1\r\n${H}\r\n`, 400, "bad_request"],
  ["a backslash", `GET /a\\b HTTP/1.1\r\n${H}\r\n`, 400, "bad_request"],
  ["bytes above ASCII in the target", `GET /\xe9 HTTP/1.1\r\n${H}\r\n`, 400, "bad_request"],
  ["an asterisk", `OPTIONS * HTTP/1.1\r\n${H}\r\n`, 400, "bad_request"],
  ["a preface of HTTP/2 that is wrong", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", 400, "bad_request"],
  ["HTTP/1.2", `GET / HTTP/1.2\r\n${H}\r\n`, 400, "bad_request"],
  ["HTTP/0.9", "GET /\r\n\r\n", 400, "bad_host"],
  ["TLS", "\x16\x03\x01\x02\x00\x01\x00", 400, "bad_request"],
  ["TRACE", `TRACE / HTTP/1.1\r\n${H}\r\n`, 405, "method_not_allowed"],
  ["CONNECT", `CONNECT example.com:443 HTTP/1.1\r\n${H}\r\n`, 405, "method_not_allowed"],
  ["a target too long", `GET /${"a".repeat(17_000)} HTTP/1.1\r\n${H}\r\n`, 414, "uri_too_long"],
  ["a header too long", `GET / HTTP/1.1\r\n${H}x: ${"a".repeat(70_000)}\r\n\r\n`, 431, "headers_too_large"],
  ["too many headers", `GET / HTTP/1.1\r\n${H}${"x: y\r\n".repeat(201)}\r\n`, 431, "headers_too_large"],
  ["an expectation", `POST / HTTP/1.1\r\n${H}expect: a-pony\r\ncontent-length: 3\r\n\r\n`, 417, "expectation_failed"],
  ["dot segments for the platform", "GET /run/../api/v1 HTTP/1.1\r\nhost: localhost\r\n\r\n", 400, "bad_request"],
  ["an encoded slash for the platform", "GET /api%2fv1 HTTP/1.1\r\nhost: localhost\r\n\r\n", 400, "bad_request"],
  [
    "the internal prefix from outside",
    "GET /_/cred-i1/run/default/secret HTTP/1.1\r\nhost: localhost\r\n\r\n",
    404,
    "not_found",
  ],
];
for (const [name, bytes, status, code] of hostile) {
  test(`refused: ${name}`, async () => {
    const begun = front.world.marks.begun.size;
    const answer = readAnswer(await front.raw(bytes));
    assert.deepEqual([answer.status, answer.code], [status, code]);
    assert.equal(front.world.marks.begun.size, begun, "no function saw it");
  });
}

test("a request smuggled in the body of a refused one is not answered", async () => {
  const smuggled = `GET /smuggled HTTP/1.1\r\n${H}\r\n`;
  const text = await front.raw(
    `POST / HTTP/1.1\r\n${H}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`,
    { answers: 2 },
  );
  assert.match(text, /^HTTP\/1\.1 400/);
  assert.equal(text.match(/^HTTP\/1\.1 \d/gm)!.length, 1);
});

test("nothing is served behind a request that could not be read, though it has arrived", async () => {
  const begun = front.world.marks.begun.size;
  const text = await front.raw(`GET / HTTP/1.1\r\n${H}${H}\r\nGET /next HTTP/1.1\r\n${H}\r\n`, { answers: 2 });
  assert.match(text, /^HTTP\/1\.1 400[^]*connection: close/);
  assert.equal(text.match(/^HTTP\/1\.1 \d/gm)!.length, 1);
  assert.equal(front.world.marks.begun.size, begun);
});

test("nothing is served behind a request that could not be read, also where it waited for its turn to be served", async () => {
  const ask = (path: string): string => `GET ${path} HTTP/1.1\r\n${H}\r\n`;
  const text = await front.raw(
    ask("/1") +
      ask("/2") +
      ask("/3") +
      ask("/4") +
      ask("/5") +
      `GET /6 HTTP/1.1\r\n${H}${H}\r\n` +
      ask("/7") +
      ask("/8"),
    { answers: 9 },
  );
  assert.deepEqual(
    [...text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map((match) => match[1]),
    ["200", "200", "200", "200", "200", "400"],
  );
  assert.doesNotMatch(text, /"url":"\/[78]"/);
});

test("a function sees the request as it was, with what ebb knows and without what it may not see", async () => {
  const { json } = await front.get("/a%2Fb/../c?x=%zz", {
    "User-Agent": "t",
    "X-Forwarded-For": "1.2.3.4",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Port": "443",
    Forwarded: "for=1.2.3.4",
    "ebb-trigger": "forged",
    "ebb-token": "good",
    Cookie: "ebb-session=1; a=2",
    Connection: "keep-alive, x-hop",
    "X-Hop": "1",
    TE: "trailers",
    "Proxy-Authorization": "x",
  });
  const { url, headers } = json as unknown as { url: string; headers: Record<string, string> };
  assert.equal(url, "/a%2Fb/../c?x=%zz");
  assert.match(headers["ebb-invocation-id"]!, /^[0-9a-z]{26}$/);
  assert.match(headers["traceparent"]!, /^00-/);
  delete headers["ebb-invocation-id"];
  delete headers["traceparent"];
  assert.deepEqual(headers, {
    "user-agent": "t",
    cookie: "a=2",
    host: "hello.localhost",
    "x-forwarded-for": "127.0.0.1",
    "x-forwarded-proto": "http",
    "x-forwarded-host": "hello.localhost",
    "ebb-deadline-ms": "300000",
    "ebb-trigger": "http",
  });
});

test("by path: the prefix is taken off and told, and what comes back is sandboxed", async () => {
  const answer = await front.get("/run/default/hello/x?y", { host: `127.0.0.1:${front.port}` });
  const { url, headers } = answer.json as unknown as { url: string; headers: Record<string, string> };
  assert.deepEqual([url, headers["x-forwarded-prefix"]], ["/x?y", "/run/default/hello"]);
  assert.match(answer.head, /content-security-policy: sandbox/);
  assert.match(answer.head, new RegExp(`ebb-note: .*http://hello.localhost:${front.port}`));
});

test("answers carry the invocation and its times, problems the code for any origin", async () => {
  const answer = await front.get("/");
  assert.match(answer.head, /ebb-invocation-id: [0-9a-z]{26}/);
  assert.match(answer.head, /server-timing: queue;dur=[\d.]+, start;dur=0, exec;dur=[\d.]+/);
  const problem = await front.get("/", { host: "nope.localhost" });
  assert.equal(problem.status, 401);
  assert.match(problem.body, /There is no public workload \\"nope\\"/);
  assert.equal((await front.get("/", { host: "nope.localhost", "ebb-token": "good" })).status, 404);
  assert.match(problem.head, /access-control-allow-origin: \*/);
});

const invitations: ReadonlyArray<[name: string, headers: Record<string, string>, status: number, code: string | null]> =
  [
    ["without a token", {}, 401, "unauthenticated"],
    ["with a token that is none", { "ebb-token": "bad" }, 401, "unauthenticated"],
    ["with another project's token", { "ebb-token": "other" }, 403, "forbidden"],
    ["with its project's token", { "ebb-token": "good" }, 200, null],
    [
      "with a token in Authorization",
      { "ebb-token": "good", authorization: "Bearer ebb_x" },
      401,
      "token_in_authorization",
    ],
    ["with somebody else's Authorization", { "ebb-token": "good", authorization: "Bearer theirs" }, 200, null],
  ];
for (const [name, headers, status, code] of invitations) {
  test(`a private workload ${name}: ${status}`, async () => {
    const answer = await front.get("/", { host: "secret.localhost", ...headers });
    assert.deepEqual([answer.status, answer.code], [status, code]);
    assert.doesNotMatch(answer.body, /"good"/);
  });
}

test("a token of ours in Authorization is refused on public workloads too, before user code sees it", async () => {
  const begun = front.world.marks.begun.size;
  assert.equal((await front.get("/", { authorization: "Bearer ebb_x" })).code, "token_in_authorization");
  assert.equal(front.world.marks.begun.size, begun);
});

test("the platform: health, a page, the API by its handler, and methods", async () => {
  for (const host of ["localhost", "api.localhost", "127.0.0.1", "[::1]"]) {
    assert.deepEqual((await front.get("/healthz", { host })).body, "ok\n");
  }
  assert.match((await front.get("/", { host: "localhost" })).body, /^ebb 1\.2\.3\n/);
  assert.equal((await front.get("/api/v1/x?y", { host: "localhost" })).body, "api");
  assert.equal(front.api.at(-1), "GET /api/v1/x?y");
  const post = readAnswer(await front.raw("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n"));
  assert.match(post.head, /405[^]*allow: get, head/);
});

test("HTTP/1.0: served with Host and closed after it; without Host only health", async () => {
  const served = await front.raw(`GET / HTTP/1.0\r\n${H}\r\n`);
  assert.match(served, /^HTTP\/1\.1 200[^]*connection: close/i);
  assert.equal(readAnswer(await front.raw("GET /healthz HTTP/1.0\r\n\r\n")).body, "ok\n");
  assert.equal(readAnswer(await front.raw("GET / HTTP/1.0\r\n\r\n")).code, "bad_host");
});

test("pipelined requests are answered in their order, on one connection", async () => {
  const slow = front.world.deploy(testRevision({ concurrency: 10 }, 1, "slow"));
  const waiting: Array<() => void> = [];
  await front.world.start(slow, (request, response) => {
    if (request.url === "/first") waiting.push(() => response.end("first"));
    else response.end(request.url!.slice(1), () => waiting.shift()?.());
  });
  const ask = (path: string): string => `GET ${path} HTTP/1.1\r\nhost: slow.localhost\r\n\r\n`;
  const text = await front.raw(ask("/first") + ask("/second") + ask("/third"), { answers: 3 });
  assert.deepEqual(
    [...text.matchAll(/\r\n\r\n([a-z]+)/g)].map((match) => match[1]),
    ["first", "second", "third"],
  );
});

test("HEAD has the head and no body; the connection goes on", async () => {
  const text = await front.raw(`HEAD / HTTP/1.1\r\n${H}\r\nGET /next HTTP/1.1\r\n${H}connection: close\r\n\r\n`, {
    answers: 9,
  });
  const [first, second] = text.split(/(?=HTTP\/1\.1 200)/);
  assert.match(first!, /\r\n\r\n$/);
  assert.match(second!, /"url":"\/next"/);
});

test("expect: 100-continue is answered when an instance takes the body, and not before", async () => {
  const lazy = front.world.deploy(testRevision({}, 1, "lazy"));
  const socket = front.open();
  let received = "";
  socket.on("data", (chunk: Buffer) => void (received += chunk.toString()));
  socket.write(
    "POST / HTTP/1.1\r\nhost: lazy.localhost\r\nexpect: 100-continue\r\ncontent-length: 3\r\nconnection: close\r\n\r\n",
  );
  await until(() => front.world.activator.load(lazy).waiting === 1, "waiting");
  assert.equal(received, "");
  await front.world.start(lazy, (request, response) => request.pipe(response));
  await until(() => received.startsWith("HTTP/1.1 100 Continue\r\n\r\n"), "100");
  socket.write("abc");
  await once(socket, "close");
  assert.match(received, /HTTP\/1\.1 200[^]*abc/);
});

test("expect: 100-continue that is refused closes the connection, for nobody knows whether the body comes", async () => {
  const text = await front.raw(
    "POST / HTTP/1.1\r\nhost: nope.localhost\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n",
  );
  assert.doesNotMatch(text, /100 Continue/);
  assert.match(text, /^HTTP\/1\.1 401[^]*connection: close/i);
});

test("expect: 100-continue that the platform answers at once closes the connection too", async () => {
  const expecting = "expect: 100-continue\r\ncontent-length: 3\r\n";
  for (const asked of ["GET /healthz", "HEAD /healthz", "GET /", "GET /console", "POST /"]) {
    const text = await front.raw(`${asked} HTTP/1.1\r\nhost: localhost\r\n${expecting}\r\n`);
    assert.doesNotMatch(text, /100 Continue/, asked);
    assert.match(text, /\r\nconnection: close\r\n/i, asked);
  }
});

test("a client that goes is an abort of the invocation", async () => {
  const held = front.world.deploy(testRevision({}, 1, "held"));
  const closed = Promise.withResolvers<void>();
  const arrived = Promise.withResolvers<void>();
  await front.world.start(held, (request) => {
    request.socket.on("close", () => closed.resolve());
    arrived.resolve();
  });
  const socket = front.open();
  socket.write("GET / HTTP/1.1\r\nhost: held.localhost\r\n\r\n");
  await arrived.promise;
  socket.destroy();
  await closed.promise;
  await until(() => front.world.activator.load(held).active === 0, "its slot is free");
  front.world.endTurn();
  assert.ok([...front.world.marks.ended.values()].some(({ outcome }) => outcome === "client_gone"));
});

test("an answer that breaks off is cut, never completed", async () => {
  const broken = front.world.deploy(testRevision({}, 1, "broken"));
  const instance = await front.world.start(broken, (_request, response) => void response.write("abc"));
  const socket = front.open();
  let received = "";
  socket.on("data", (chunk: Buffer) => void (received += chunk.toString()));
  socket.write("GET / HTTP/1.1\r\nhost: broken.localhost\r\n\r\n");
  await until(() => received.includes("abc"), "the first of it");
  front.world.activator.gone(instance.id, { reason: "exited", code: 1, message: "it exited with code 1." });
  await once(socket, "close");
  assert.doesNotMatch(received, /0\r\n\r\n$/);
});

test("server-sent events reach the client as they are sent", async () => {
  const events = front.world.deploy(testRevision({}, 1, "events"));
  let send: (text: string) => void = () => {};
  await front.world.start(events, (_request, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders();
    send = (text) => void response.write(text);
  });
  const socket = front.open();
  let received = "";
  socket.on("data", (chunk: Buffer) => void (received += chunk.toString()));
  socket.write("GET / HTTP/1.1\r\nhost: events.localhost\r\n\r\n");
  await until(() => received.endsWith("\r\n\r\n"), "the head alone");
  send("data: 1\n\n");
  await until(() => received.includes("data: 1"), "an event");
  socket.destroy();
});

test("a body of 2 MiB goes through both ways, and the connection is kept", async () => {
  const size = 2 * 1024 * 1024;
  const revision = front.world.deploy(testRevision({}, 1, "pipe"));
  await front.world.start(revision, (request, response) => request.pipe(response));
  const ask = `POST / HTTP/1.1\r\nhost: pipe.localhost\r\ncontent-length: ${size}\r\n\r\n${"z".repeat(size)}`;
  const text = await front.raw(ask + ask, { answers: 2 });
  assert.equal(text.match(/HTTP\/1\.1 200/g)!.length, 2);
  assert.ok(text.length > 2 * size);
});

test("a stop lets what is answered go out to its end", async () => {
  const stopping = await new Front().listen();
  try {
    const size = 4_000_000;
    const revision = stopping.world.deploy(testRevision({ concurrency: 10 }, 1, "large"));
    await stopping.world.start(revision, (_request, response) => response.end(Buffer.alloc(size, "a")));
    const socket = stopping.open();
    socket.pause();
    socket.write("GET / HTTP/1.1\r\nhost: large.localhost\r\n\r\n");
    await until(() => stopping.world.marks.begun.size === 1, "it has begun");
    let bytes = 0;
    const stopped = Promise.withResolvers<void>();
    const stop = once(socket, "stop").then(() => stopping.gateway.close(20_000).then(stopped.resolve, stopped.reject));
    socket.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      if (stopping.world.activator.load(revision).active === 0) socket.emit("stop");
    });
    socket.resume();
    await once(socket, "close");
    await Promise.all([stop, stopped.promise]);
    assert.ok(bytes > size, `${bytes} bytes came`);
  } finally {
    await stopping.stop();
  }
});

test("HTTP/1.0 is not told to go on with its body", async () => {
  const text = await front.raw(`POST / HTTP/1.0\r\n${H}expect: 100-continue\r\ncontent-length: 3\r\n\r\nabc`);
  assert.match(text, /^HTTP\/1\.1 200/);
});
