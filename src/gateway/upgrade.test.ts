// Connections that leave HTTP, and requests that ask for it in vain.

import assert from "node:assert/strict";
import { once } from "node:events";
import test, { after, before } from "node:test";
import { testRevision, until } from "#activator/world.testing.ts";
import { Front } from "./front.testing.ts";

let front: Front;
before(async () => {
  front = await new Front().listen();
  await front.echo({});
  await front.echo({ public: false }, "secret");
});
after(() => front.stop());

const H = "host: hello.localhost\r\n";

test("a WebSocket passes the same steps, then joins both sides", async () => {
  const revision = front.world.deploy(testRevision({}, 1, "socket"));
  await front.world.start(revision, (request, response) => {
    const socket = response as unknown as import("node:net").Socket;
    if (request.url === "/no") socket.end("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
    else
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nx-saw: ${request.headers["upgrade"]}\r\n\r\n`,
      );
    if (request.url !== "/no") socket.pipe(socket);
  });
  const ask = (path: string, host = "socket.localhost"): string =>
    `GET ${path} HTTP/1.1\r\nhost: ${host}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n`;
  const socket = front.open();
  let received = "";
  socket.on("data", (chunk: Buffer) => void (received += chunk.toString()));
  socket.write(`${ask("/")}early`);
  await until(() => received.endsWith("early"), "what came with the head");
  assert.match(received, /^HTTP\/1\.1 101 [^]*connection: upgrade[^]*x-saw: websocket/);
  socket.write(" late");
  await until(() => received.endsWith("early late"), "echo");
  socket.destroy();
  await until(() => front.world.activator.load(revision).active === 0, "ended");
  assert.match(await front.raw(ask("/no")), /^HTTP\/1\.1 403 [^]*no$/);
  assert.match(await front.raw(ask("/", "secret.localhost")), /^HTTP\/1\.1 401/);
  assert.match(await front.raw(ask("/", "foo.example.com")), /^HTTP\/1\.1 421/);
  assert.match(await front.raw(ask("/api/v1", "localhost")), /^HTTP\/1\.1 400/);
});

test("an upgrade that gets a plain answer gets all of it, however large", async () => {
  const revision = front.world.deploy(testRevision({}, 1, "plainly"));
  const size = 20_000_000;
  await front.world.start(revision, (_request, response) => {
    const socket = response as unknown as import("node:net").Socket;
    socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${size}\r\n\r\n`);
    socket.write(Buffer.alloc(size, "a"));
  });
  const socket = front.open();
  let bytes = 0;
  socket.on("data", (chunk: Buffer) => void (bytes += chunk.length));
  socket.write("GET / HTTP/1.1\r\nhost: plainly.localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
  await once(socket, "close");
  assert.ok(bytes > size);
});

test("a WebSocket that is asked for behind an answer that is owed is answered as it is, in its turn", async () => {
  const text = await front.raw(
    `GET /1 HTTP/1.1\r\n${H}\r\nGET /2 HTTP/1.1\r\n${H}connection: Upgrade\r\nupgrade: websocket\r\n\r\n`,
    { answers: 2 },
  );
  assert.deepEqual(
    [...text.matchAll(/"url":"(\/\d)"/g)].map((match) => match[1]),
    ["/1", "/2"],
  );
});

test("h2c is not switched to: the request is answered as it is", async () => {
  const answer = await front.get("/", { connection: "upgrade, http2-settings", upgrade: "h2c", "http2-settings": "x" });
  assert.equal(answer.status, 200);
  assert.doesNotMatch(answer.body, /h2c|http2-settings/);
});
