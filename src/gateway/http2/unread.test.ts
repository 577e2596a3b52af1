// Answers that a client has asked for and does not read: how much of them is held, and whose.

import assert from "node:assert/strict";
import test, { afterEach, beforeEach } from "node:test";
import { until } from "#activator/world.testing.ts";
import { errorCodes } from "#lib/http2.ts";
import { VirtualClock } from "#lib/virtual-clock.ts";
import { httpLimits } from "#model/limits.ts";
import { Served } from "../http1/served.testing.ts";
import { flags, frame, RawHttp2, request, types, uint32 } from "./frames.testing.ts";

const answerBytes = 10_000;
const unread = { inAllBytes: 160_000, eachBytes: 40_000 };
const get = [
  [":method", "GET"],
  [":scheme", "http"],
  [":authority", "x"],
  [":path", "/"],
] as const;
/** SETTINGS_INITIAL_WINDOW_SIZE: no byte of a body is wanted. */
const shut = frame(types.settings, 0, 0, Buffer.from([0, 4, 0, 0, 0, 0]));
const ping = frame(types.ping, 0, 0, "12345678");

let clock: VirtualClock;
let served: Served;
beforeEach(async () => {
  clock = new VirtualClock();
  served = await Served.start({ clock, unread });
});
afterEach(() => served.stop());

async function open(party: string): Promise<RawHttp2> {
  served.parties.push(party);
  const raw = await RawHttp2.open((await served.open()).socket);
  raw.socket.write(shut);
  return raw;
}

/** Asks, and is answered in whole; true: it was let in. */
async function asks(raw: RawHttp2, stream: number): Promise<boolean> {
  const before = served.multiplexed.length;
  raw.socket.write(request(stream, get));
  await until(() => served.multiplexed.length > before || raw.rst(stream) !== null, "it is let in, or not");
  const exchange = served.multiplexed[before];
  exchange?.send(200, [], Buffer.alloc(answerBytes, "x"), false);
  return exchange !== undefined;
}

async function asksMany(raw: RawHttp2, count: number): Promise<boolean[]> {
  const letIn: boolean[] = [];
  for (let i = 0; i < count; i++) letIn.push(await asks(raw, i * 2 + 1));
  return letIn;
}

test("who reads nothing has so much held, once others hold much too, and is let in again when that is read", async () => {
  const [first, second, other] = [await open("a"), await open("a"), await open("b")];
  // Half of all: until then nobody is in anybody's way.
  assert.deepEqual(
    await asksMany(first, 6),
    Array.from({ length: 6 }, () => true),
  );
  assert.deepEqual(await asksMany(second, 5), [true, true, false, false, false]);
  assert.equal(second.rst(5), errorCodes.refusedStream);
  assert.deepEqual(await asksMany(other, 3), [true, true, true], "another client's are not in question");
  for (const stream of [1, 3, 5, 7, 9, 11])
    first.socket.write(frame(types.windowUpdate, 0, stream, uint32(answerBytes)));
  await until(() => [1, 3, 5, 7, 9, 11].every((stream) => first.over(stream)), "they are read");
  await until(() => served.server.unreadBytes <= 5 * answerBytes, "nobody holds them");
  assert.equal(await asks(second, 11), true);
});

test("a client that reads nothing and keeps its connection busy with PINGs has its answers for so long, where many are held", async () => {
  const raw = await open("a");
  await asksMany(raw, 8);
  const streams = Array.from({ length: 8 }, (_, i) => i * 2 + 1);
  const acknowledged = (): number =>
    raw.frames.filter(({ type, flag }) => type === types.ping && flag === flags.ack).length;
  for (let at = 0, count = 0; at < 2 * httpLimits.keepAliveTimeoutMs; at += 5_000) {
    raw.socket.write(ping);
    count++;
    await until(() => acknowledged() === count || raw.closed, "an answer to the PING");
    await clock.advance(5_000);
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
  }
  await until(() => streams.every((stream) => raw.rst(stream) !== null), "all are broken off");
  assert.equal(served.server.unreadBytes, 0);
});

test("a client that reads nothing for as long as a connection may rest has its answer broken off", async () => {
  const raw = await open("a");
  await asks(raw, 1);
  for (let at = 0; at < 2 * httpLimits.keepAliveTimeoutMs; at += 5_000) {
    await clock.advance(5_000);
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
  }
  await until(() => raw.rst(1) !== null, "its end");
  assert.equal(raw.rst(1), errorCodes.cancel);
  assert.equal(served.server.unreadBytes, 0);
});
