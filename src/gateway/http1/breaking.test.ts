// Answers that break off: what was answered before them goes out whole, and nobody takes them for whole.

import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import test, { afterEach, beforeEach } from "node:test";
import { until } from "#activator/world.testing.ts";
import { systemClock } from "#model/clock.ts";
import type { Connection } from "./connection.ts";
import type { Exchange } from "./exchange.ts";
import { Http1Server } from "./server.ts";

let server: Http1Server;
let socket: Socket;
let connection: Connection;
let exchanges: Exchange[];
/** Exchanges whose client has gone. */
let gone: number;
let received: () => string;
let ended: Promise<unknown>;

beforeEach(async () => {
  exchanges = [];
  gone = 0;
  server = new Http1Server(
    {
      closing: false,
      request(exchange, on) {
        connection = on;
        exchange.answeredBy({ drained() {}, gone: () => void gone++ });
        exchanges.push(exchange);
        return false;
      },
      upgrade() {},
      unreadable() {},
    },
    { clock: systemClock, partyOf: () => "x", connections: { inAll: 1, each: 1 } },
  );
  socket = connect({ port: await server.listen("127.0.0.1", 0), host: "127.0.0.1", noDelay: true });
  let text = "";
  received = () => text;
  socket.on("data", (chunk: Buffer) => void (text += chunk.toString("latin1")));
  ended = once(socket, "close");
  await once(socket, "connect");
});
afterEach(async () => {
  const closed = server.close();
  server.destroyAll();
  await closed;
  socket.destroy();
});

const get = (target: string, version = "1.1"): string => `GET ${target} HTTP/${version}\r\nhost: x\r\n\r\n`;
const ok = (exchange: Exchange, text: string): void => exchange.send(200, [], Buffer.from(text), false);
const arrived = (count: number): Promise<void> => until(() => exchanges.length === count, `${count} requests`);

test("an answer that breaks before its turn ends the connection in its turn: those before it go out whole", async () => {
  socket.write(get("/1") + get("/2") + get("/3") + get("/4"));
  await arrived(4);
  exchanges[0]!.start(200, [], null, false);
  exchanges[0]!.write(Buffer.from("on"));
  exchanges[2]!.start(200, [], null, false);
  exchanges[2]!.write(Buffer.from("broken"));
  exchanges[2]!.destroy();
  await until(() => received().includes("on"), "the first of it");
  assert.equal(gone, 0);
  exchanges[0]!.write(Buffer.from("e"));
  exchanges[0]!.end();
  ok(exchanges[1]!, "two");
  await ended;
  assert.match(received(), /2\r\non\r\n1\r\ne\r\n0\r\n\r\nHTTP\/1\.1 200 [^]*\r\n\r\ntwo$/);
  assert.equal(gone, 1, "who answers what was asked behind it is told");
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
  socket.write(get("/", "1.0"));
  await arrived(1);
  exchanges[0]!.start(200, [], null, false);
  exchanges[0]!.write(Buffer.from("broken"));
  await until(() => received().endsWith("broken"), "the first of it");
  exchanges[0]!.destroy();
  await assert.rejects(ended, { code: "ECONNRESET" });
});

test("an answer that is broken off by a reset while the connection ends already ends it", async () => {
  socket.write(get("/", "1.0"));
  await arrived(1);
  exchanges[0]!.start(200, [], null, false);
  exchanges[0]!.write(Buffer.from("broken"));
  const over = once(connection.socket, "close");
  // As when the client has ended its side.
  connection.socket.end();
  exchanges[0]!.destroy();
  await Promise.all([ended, over]);
});
