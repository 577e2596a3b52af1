// Answers that break off: what was answered before them goes out whole, and nobody takes them for whole.

import assert from "node:assert/strict";
import { once } from "node:events";
import type { Socket } from "node:net";
import test, { afterEach, beforeEach } from "node:test";
import { until } from "#activator/world.testing.ts";
import type { Exchange } from "./exchange.ts";
import { get, ok, Served, type Client } from "./served.testing.ts";

let served: Served;
let socket: Socket;
let exchanges: Exchange[];
let received: Client["received"];
let ended: Client["ended"];

beforeEach(async () => {
  served = await Served.start({ connections: { inAll: 1, each: 1 } });
  exchanges = served.exchanges;
  ({ socket, received, ended } = await served.open());
});
afterEach(() => served.stop());

const arrived = (count: number): Promise<void> => served.arrived(count);

test("an answer that breaks before its turn ends the connection in its turn: those before it go out whole", async () => {
  socket.write(get("/1") + get("/2") + get("/3") + get("/4"));
  await arrived(4);
  exchanges[0]!.start(200, [], null, false);
  exchanges[0]!.write(Buffer.from("on"));
  exchanges[2]!.start(200, [], null, false);
  exchanges[2]!.write(Buffer.from("broken"));
  exchanges[2]!.destroy();
  await until(() => received().includes("on"), "the first of it");
  assert.equal(served.gone, 0);
  exchanges[0]!.write(Buffer.from("e"));
  exchanges[0]!.end();
  ok(exchanges[1]!, "two");
  await ended;
  assert.match(received(), /2\r\non\r\n1\r\ne\r\n0\r\n\r\nHTTP\/1\.1 200 [^]*\r\n\r\ntwo$/);
  assert.equal(served.gone, 1, "who answers what was asked behind it is told");
});

test("an answer that breaks in its turn lets what was answered before it go out", async () => {
  socket.pause();
  socket.write(get("/1") + get("/2"));
  await arrived(2);
  const size = 16 * 1024 * 1024;
  exchanges[0]!.send(200, [], Buffer.alloc(size, "a"), false);
  exchanges[1]!.start(200, [], null, false);
  exchanges[1]!.write(Buffer.from("broken"));
  exchanges[1]!.destroy();
  socket.resume();
  await ended;
  const second = received().indexOf("HTTP/1.1", 1);
  assert.ok(second > size, "the first answer is whole");
  assert.match(received().slice(second), /6\r\nbroken\r\n$/, "and the second is not completed");
});

test("an answer that its end alone would complete is broken off by a reset", async () => {
  socket.write(get("/", "", "1.0"));
  await arrived(1);
  exchanges[0]!.start(200, [], null, false);
  exchanges[0]!.write(Buffer.from("broken"));
  await until(() => received().endsWith("broken"), "the first of it");
  exchanges[0]!.destroy();
  await assert.rejects(ended, { code: "ECONNRESET" });
});

test("an answer that is broken off by a reset while the connection ends already ends it", async () => {
  socket.write(get("/", "", "1.0"));
  await arrived(1);
  exchanges[0]!.start(200, [], null, false);
  exchanges[0]!.write(Buffer.from("broken"));
  const connection = served.connection!;
  const over = once(connection.socket, "close");
  // As when the client has ended its side.
  connection.socket.end();
  exchanges[0]!.destroy();
  await Promise.all([ended, over]);
});
