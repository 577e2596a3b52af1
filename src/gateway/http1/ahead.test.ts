// What clients send ahead of their turn: how much of it is held, and whose.

import assert from "node:assert/strict";
import type { Socket } from "node:net";
import test, { afterEach, beforeEach } from "node:test";
import { until } from "#activator/world.testing.ts";
import { httpLimits } from "#model/limits.ts";
import { IncomingBody } from "../incoming-body.ts";
import type { Exchange } from "./exchange.ts";
import { Held } from "./held.ts";
import { get, Served } from "./served.testing.ts";
import type { Http1Server } from "./server.ts";

/** One read of a socket. */
const readBytes = 64 * 1024;
const held = { inAllBytes: 256 * 1024, eachBytes: 128 * 1024 };

let served: Served;
let server: Http1Server;
let exchanges: Exchange[];

beforeEach(async () => {
  served = await Served.start({ held });
  ({ server, exchanges } = served);
});
afterEach(() => served.stop());

async function open(): Promise<Socket> {
  return (await served.open()).socket;
}

const post = (length: number, body = length): string =>
  `POST / HTTP/1.1\r\nhost: x\r\ncontent-length: ${length}\r\n\r\n${"b".repeat(body)}`;
const arrived = (count: number): Promise<void> => served.arrived(count);

/** Nothing more has been read for a while, though there is more. */
async function settled(): Promise<void> {
  for (let before = -1; before !== server.heldBytes;) {
    before = server.heldBytes;
    for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Takes its body, and answers. */
function serve(exchange: Exchange): Promise<number> {
  return new Promise((resolve, reject) => {
    let bytes = 0;
    const end = (): void => {
      exchange.send(200, [], Buffer.from("ok"), false);
      resolve(bytes);
    };
    exchange.receive({ data: (chunk) => void (bytes += chunk.length), end, failed: reject });
  });
}

test("of all the bodies that one connection sends ahead so much is held as of one, and they are served in their time", async () => {
  const count = 16;
  const size = 40_000;
  (await open()).write(post(size).repeat(count));
  await arrived(2);
  await settled();
  assert.equal(exchanges.length, 2, "what is behind them stays in the socket");
  assert.ok(server.heldBytes < httpLimits.sentAheadBytes + readBytes, `${server.heldBytes} bytes`);
  for (let at = 0; at < count; at++) {
    await until(() => exchanges.length > at, `request ${at + 1}`);
    assert.equal(await serve(exchanges[at]!), size);
  }
  assert.equal(server.heldBytes, 0);
});

test("when enough is held of all, bodies that wait are read no further, and are when half has gone", async () => {
  const size = 1024 * 1024;
  served.parties.push(...Array.from({ length: 20 }, (_, index) => `client-${index}`));
  const sockets: Socket[] = [];
  for (let index = 0; index < 20; index++) {
    const socket = await open();
    sockets.push(socket);
    socket.write(post(size, 100));
    await arrived(index + 1);
  }
  assert.ok(!exchanges[0]!.crowded);
  for (const socket of sockets) socket.write("b".repeat(size - 100));
  await until(() => exchanges[0]!.crowded, "it is crowded");
  await settled();
  // Each read that was under way brings its own.
  assert.ok(server.heldBytes < held.inAllBytes + 2 * readBytes, `${server.heldBytes} bytes of 20 MiB`);
  const waits = (length: number | null, asksFirst: boolean): boolean =>
    !new IncomingBody(exchanges[0]!, length, asksFirst).crowded;
  assert.deepEqual([waits(size, false), waits(null, false)], [false, false]);
  assert.deepEqual([waits(httpLimits.sentAheadSmallBytes, false), waits(size, true)], [true, true]);
  const sizes = await Promise.all(exchanges.map(serve));
  assert.deepEqual(new Set(sizes), new Set([size]));
  assert.equal(server.heldBytes, 0);
});

test("a client that has gone takes what was held of it along", async () => {
  for (const leave of ["end", "resetAndDestroy"] as const) {
    exchanges.length = 0;
    const socket = await open();
    socket.write(post(100_000, 30_000));
    await until(() => server.heldBytes > 30_000, "it is held");
    socket[leave]();
    await until(() => server.heldBytes === 0, "nothing is held");
  }
});

test("a body that is answered without being taken is held no longer", async () => {
  for (const sent of [30_000, 10_000]) {
    exchanges.length = 0;
    (await open()).write(post(30_000, sent));
    await until(() => server.heldBytes > sent, "it is held");
    exchanges[0]!.send(503, [], Buffer.from("no"), false);
    assert.equal(server.heldBytes, 0);
  }
});

test("a body that is here whole, and short, is taken in one, and held no longer; any other comes in its time", async () => {
  const socket = await open();
  socket.write(post(1_000) + post(1_000, 400));
  await until(() => exchanges.length === 2 && server.heldBytes > 1_400, "both are held");
  const [whole, part] = exchanges.map((exchange) => new IncomingBody(exchange, 1_000, false));
  assert.equal(whole!.takeWhole(999), null);
  assert.equal(new IncomingBody(exchanges[0]!, null, false).takeWhole(1_000), null);
  assert.equal(new IncomingBody(exchanges[0]!, 1_000, true).takeWhole(1_000), null);
  assert.equal(whole!.takeWhole(1_000)?.toString(), "b".repeat(1_000));
  assert.equal(whole!.takeWhole(1_000), null, "it is gone");
  assert.equal(part!.takeWhole(1_000), null);
  assert.ok(server.heldBytes < 1_000, `${server.heldBytes} bytes`);
  exchanges[0]!.send(200, [], Buffer.from("ok"), false);
  const served = serve(exchanges[1]!);
  socket.write("b".repeat(600));
  assert.equal(await served, 1_000);
});

test("a connection that waits is paused for others' sake alone: one that asks for nothing but answers is read on", async () => {
  served.parties.push("many", "many", "many", "many", "other");
  for (let index = 0; index < 4; index++) {
    (await open()).write(post(100_000, 70_000));
    await arrived(index + 1);
  }
  await until(() => exchanges[0]!.crowded, "it is crowded");
  const other = await open();
  other.write(get("/1"));
  await arrived(5);
  other.write(get("/2"));
  await arrived(6);
});

test("once half is held, who holds a share of it is crowded, and others are not until all is held", () => {
  let changes = 0;
  const bounds = { inAllBytes: 1_000, eachBytes: 100 };
  const all = new Held(bounds, () => void changes++);
  const [flood, first, second, proxy] = [all.account("a"), all.account("a"), all.account("b"), all.account(null)];
  flood.set(499);
  assert.deepEqual([first.crowded, second.crowded], [false, false]);
  flood.set(500);
  assert.deepEqual([flood.crowded, first.crowded, second.crowded, proxy.crowded], [true, true, false, false]);
  second.set(99);
  assert.equal(second.crowded, false);
  second.set(100);
  assert.equal(second.crowded, true);
  proxy.set(400);
  assert.deepEqual([all.bytes, changes, proxy.crowded, all.account("c").crowded], [1_000, 1, true, true]);
  flood.set(0);
  assert.deepEqual([changes, proxy.crowded], [1, true]);
  second.set(0);
  assert.deepEqual([all.bytes, changes, proxy.crowded], [400, 2, false]);
});
