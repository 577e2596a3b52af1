// Frames that a seed makes and damages, by the thousand: whatever they are, others are served and every call ends once.

import assert from "node:assert/strict";
import test, { after, before } from "node:test";
import { until } from "#activator/world.testing.ts";
import { Front } from "../front.testing.ts";
import { block, frame, preface, request, types } from "./frames.testing.ts";

const connections = 1_500;
const framesEach = 40;

let front: Front;
before(async () => {
  front = await new Front().listen();
  await front.echo({ concurrency: 1_000 });
});
after(() => front.stop());

/** mulberry32: the same numbers of the same seed. */
function chance(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

function bytesOf(pick: (below: number) => number): Buffer {
  let next = 1;
  const fresh = (): number => (next += 2) - 2;
  // Mostly one that there was, sometimes one that there is not.
  const stream = (): number => (pick(20) === 0 ? pick(100) : Math.max(1, next - 2 - 2 * pick(4)));
  const names = [":method", ":path", ":authority", ":scheme", "host", "content-length", "te", "x", "cookie", "expect"];
  const values = ["GET", "POST", "/", "hello.localhost", "http", "3", "trailers", "a=1", "100-continue", "\0\r\n"];
  const known = [
    [":method", pick(2) === 0 ? "GET" : "POST"],
    [":scheme", "http"],
    [":authority", "hello.localhost"],
    [":path", "/"],
  ] as const;
  const pieces = Array.from({ length: framesEach }, () => {
    switch (pick(24)) {
      case 0:
        return request(fresh(), [...known, [names[pick(names.length)]!, values[pick(values.length)]!]]);
      case 1:
        return frame(pick(12), pick(256), stream(), Buffer.from(Array.from({ length: pick(24) }, () => pick(256))));
      case 2:
        return frame(types.continuation, pick(8), stream(), block([["x", "y".repeat(pick(2_000))]]));
      case 3:
      case 4:
        return frame(types.rst, 0, stream(), Buffer.from([0, 0, 0, pick(14)]));
      case 5:
        return frame(types.windowUpdate, 0, stream(), Buffer.from([0, pick(256), 0, pick(256)]));
      case 6:
        return frame(types.ping, pick(2), 0, "12345678");
      case 7:
      case 8:
      case 9:
      case 10:
        return frame(types.data, pick(8) === 0 ? 1 : 0, stream(), "abc".repeat(pick(100)));
      default:
        return request(fresh(), known, pick(2) === 0 ? 4 : 5);
    }
  });
  const bytes = Buffer.concat([preface, frame(types.settings, 0, 0), ...pieces]);
  // Most are whole frames; some are damaged anywhere, the preface too.
  for (let flips = pick(3) === 0 ? pick(8) : 0; flips > 0; flips--) bytes[pick(bytes.length)]! ^= 1 << pick(8);
  return bytes;
}

test("connections of made and damaged frames, cut anywhere", { timeout: 400_000 }, async () => {
  const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
  console.log(`SEED=${seed}`);
  const pick = chance(seed);
  for (let i = 0; i < connections; i++) {
    const bytes = bytesOf(pick);
    const socket = front.open();
    let closed = false;
    socket.on("error", () => undefined).on("close", () => (closed = true));
    socket.resume();
    for (let at = 0; at < bytes.length && !closed;) {
      const end = at + 1 + pick(1_500);
      socket.write(bytes.subarray(at, end));
      at = end;
      await new Promise((resolve) => setImmediate(resolve));
    }
    for (let turns = pick(20); turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve));
    if (pick(2) === 0) socket.end();
    else socket.destroy();
    await until(() => closed || socket.destroyed || socket.writableEnded, "its end");
    if (i % 100 === 0) assert.equal((await front.get("/")).status, 200, `after ${i}`);
    socket.destroy();
  }
  const revision = front.world.revisions.get("default/hello")!;
  await until(() => front.world.activator.load(revision).active === 0, "every call has ended");
  front.world.endTurn();
  const { begun, ended } = front.world.marks;
  console.log(`${begun.size} calls`);
  assert.ok(begun.size > connections / 10, "many of them were requests");
  assert.deepEqual(
    [...begun.keys()].filter((id) => !ended.has(id)),
    [],
  );
  assert.deepEqual(
    front.world.facts.filter(({ kind }) => kind === "defect"),
    [],
  );
  assert.equal((await front.get("/")).status, 200);
});
