// The API behind the gateway's own connections: what node:http's server does for its responses is done here too.

import assert from "node:assert/strict";
import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import test, { after, before } from "node:test";
import { Front } from "./front.testing.ts";

let front: Front;
let serve: (request: IncomingMessage, response: ServerResponse) => unknown;
before(async () => {
  front = await new Front({ platform: (request, response) => void serve(request, response) }).listen();
});
after(() => front.stop());

/** Everything that comes until the other side ends. */
async function untilEnd(text: string): Promise<string> {
  const socket = front.open();
  let received = "";
  socket.on("data", (chunk: Buffer) => void (received += chunk.toString("latin1")));
  socket.write(text);
  await once(socket, "close");
  return received;
}

test("a stream that is longer than a socket takes at once arrives whole", async () => {
  const lines = 2_000;
  serve = (_request, response) =>
    pipeline(Readable.from(Array.from({ length: lines }, () => "x".repeat(9_999) + "\n")), response);
  const received = await untilEnd("GET /api/v1/x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
  assert.equal(received.match(/x\n/g)!.length, lines);
  assert.match(received, /0\r\n\r\n$/);
});

test("an answer that says close closes, and so does one whose end is the connection's", async () => {
  serve = (_request, response) => response.setHeader("connection", "close").end("b");
  assert.match(await untilEnd("GET /api/v1/x HTTP/1.1\r\nhost: localhost\r\n\r\n"), /b$/);
  serve = (_request, response) => {
    response.write("a");
    response.end("b");
  };
  const old = "GET /api/v1/x HTTP/1.0\r\nhost: localhost\r\nconnection: keep-alive\r\n\r\n";
  assert.match(await untilEnd(old), /ab$/);
});

test("nonsense in a body is told to whoever reads it, who can still answer", async () => {
  serve = (request, response) => {
    request.on("error", () => {
      response.statusCode = 400;
      response.end("no");
    });
    request.resume();
  };
  const received = await untilEnd(
    "POST /api/v1/x HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
  );
  assert.match(received, /^HTTP\/1\.1 400 [^]*no$/);
});
