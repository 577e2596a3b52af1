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

const websocket = "GET / HTTP/1.1\r\nhost: later.localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
const post = "POST / HTTP/1.1\r\nhost: later.localhost\r\ncontent-length: 100000\r\n";
const leaving: ReadonlyArray<[what: string, sent: readonly string[]]> = [
  ["an upgrade", [websocket]],
  ["an upgrade and what was sent ahead of it", [websocket + "early", "later"]],
  ["a POST of whose body nothing has come", [`${post}\r\n`]],
  ["a POST that waits for leave to send its body", [`${post}expect: 100-continue\r\n\r\n`]],
  ["a POST of whose body a part has come", [`${post}\r\nabc`, "d".repeat(30_000), "e".repeat(30_000)]],
  ["a POST in chunks", [post.replace("content-length: 100000", "transfer-encoding: chunked"), "\r\n3\r\nabc\r\n"]],
  ["a GET and a POST behind it", [`GET / HTTP/1.1\r\nhost: later.localhost\r\n\r\n${post}\r\nabc`]],
];
for (const [what, sent] of leaving) {
  for (const [way, leave] of [
    ["ends", "end"],
    ["is reset", "resetAndDestroy"],
  ] as const) {
    test(`a client whose connection ${way} while it waits with ${what} frees its place at once, and its record says so`, async () => {
      const later = front.world.deploy(testRevision({}, 1, "later"));
      const { ended } = front.world.marks;
      ended.clear();
      const socket = front.open();
      socket.on("error", () => undefined);
      for (const bytes of sent) {
        await new Promise((resolve) => void socket.write(bytes, resolve));
        await new Promise((resolve) => setImmediate(resolve));
      }
      const waiting = what.startsWith("a GET") ? 2 : 1;
      await until(() => front.world.activator.load(later).waiting === waiting, "it waits");
      socket[leave]();
      await until(() => front.world.activator.load(later).waiting === 0, "its place is free");
      await until(() => ended.size === waiting, "its record");
      for (const { outcome, status } of ended.values()) assert.deepEqual([outcome, status], ["client_gone", null]);
      socket.destroy();
    });
  }
}

test("what a client sends ahead of a switch, while it waits, comes to the instance in its order; of too much the rest waits", async () => {
  const switching = front.world.deploy(testRevision({}, 1, "switching"));
  const socket = front.open();
  let received = "";
  socket.on("data", (chunk: Buffer) => void (received += chunk.toString()));
  socket.write(websocket.replace("later", "switching") + "one ");
  await until(() => front.world.activator.load(switching).waiting === 1, "it waits");
  for (const piece of ["two ", "three "]) {
    await new Promise((resolve) => void socket.write(piece, resolve));
    await new Promise((resolve) => setImmediate(resolve));
  }
  const much = "x".repeat(32 * 1024 * 1024);
  socket.write(`${much} end`);
  for (let turn = 0; turn < 200; turn++) await new Promise((resolve) => setImmediate(resolve));
  assert.ok(socket.writableLength > 0, "the kernel holds some, and the client the rest");
  let came = 0;
  let text = "";
  await front.world.start(switching, (_request, response) => {
    const instance = response as unknown as Socket;
    instance.write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    instance.on("end", () => instance.end());
    instance.on("data", (chunk: Buffer) => {
      came += chunk.length;
      text = (text.slice(0, 20) + chunk.toString("latin1")).slice(0, 20);
      if (chunk.includes(" end")) instance.write("all");
    });
  });
  const whole = once(socket, "drain");
  await until(() => received.startsWith("HTTP/1.1 101 "), "the switch");
  await whole;
  await until(() => received.endsWith("all"), "all of it");
  assert.equal(text, "one two three xxxxxx");
  assert.equal(came, "one two three ".length + much.length + " end".length);
  socket.destroy();
  await until(() => front.world.activator.load(switching).active === 0, "ended");
});
