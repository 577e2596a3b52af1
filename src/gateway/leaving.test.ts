// Who leaves early, a client or an answer: what it takes along, and what its record says.

import assert from "node:assert/strict";
import { once } from "node:events";
import type { Socket } from "node:net";
import test, { after, before } from "node:test";
import { testRevision, until } from "#activator/world.testing.ts";
import { Front } from "./front.testing.ts";

let front: Front;
before(async () => {
  front = await new Front().listen();
});
after(() => front.stop());

test("an answer that breaks off behind one that is still sent does not touch that one, nor its record", async () => {
  const broken = front.world.deploy(testRevision({ concurrency: 2 }, 1, "breaks"));
  const first = Promise.withResolvers<Socket>();
  await front.world.startRaw(broken, (socket) => {
    socket.once("data", (head: Buffer) => {
      socket.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n");
      if (head.includes("GET /1 ")) first.resolve(socket);
      else socket.write("nonsense\r\n");
    });
  });
  const before = new Set(front.world.marks.ended.keys());
  const outcomes = (): string[] =>
    [...front.world.marks.ended].flatMap(([id, { outcome }]) => (before.has(id) ? [] : [outcome]));
  const socket = front.open();
  let received = "";
  socket.on("data", (chunk: Buffer) => void (received += chunk.toString()));
  const ended = once(socket, "close");
  socket.write("GET /1 HTTP/1.1\r\nhost: breaks.localhost\r\n\r\nGET /2 HTTP/1.1\r\nhost: breaks.localhost\r\n\r\n");
  const answering = await first.promise;
  await until(() => outcomes().includes("error"), "the second has broken");
  answering.write("5\r\nwhole\r\n0\r\n\r\n");
  await ended;
  assert.match(received, /one[^]*whole\r\n0\r\n\r\n$/);
  assert.deepEqual(outcomes(), ["error", "ok"]);
});
