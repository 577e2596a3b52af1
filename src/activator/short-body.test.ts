// A body that is short and here already goes out with its head, in one write, and is sent again with it.

import assert from "node:assert/strict";
import test, { afterEach, beforeEach } from "node:test";
import { testRevision, wholeBodyOf, World } from "./world.testing.ts";

let world: World;
beforeEach(() => {
  world = new World();
});
afterEach(() => world.stop());

/** What each read of an instance brought; it answers each, and breaks every connection at its second without a word. */
async function reads(): Promise<string[]> {
  const read: string[] = [];
  await world.startRaw(world.deploy(testRevision()), (socket) => {
    let first = true;
    socket.on("data", (chunk) => {
      read.push(chunk.toString("latin1"));
      if (first) socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
      else socket.destroy();
      first = false;
    });
  });
  return read;
}

test("a short body that is here comes in one piece with its head, whatever its bytes are, and counts", async () => {
  const read = await reads();
  const text = String.fromCharCode(...Array(256).keys());
  const call = world.call({ method: "POST", body: wholeBodyOf(text) });
  assert.equal((await call.answer).body, "ok");
  assert.equal(read.length, 1);
  assert.match(read[0]!, /^POST [^]*\r\ncontent-length: 256\r\n/);
  assert.equal(read[0]!.slice(read[0]!.indexOf("\r\n\r\n") + 4), text);
  assert.equal(world.ended(call.id)?.bytesIn, 256);
});

test("where a kept connection turns out dead, it is sent again with its body", async () => {
  const read = await reads();
  await world.call().answer;
  const put = world.call({ method: "PUT", body: wholeBodyOf("short") });
  assert.equal((await put.answer).body, "ok");
  assert.deepEqual([read.length, new Set(read.slice(1)).size], [3, 1]);
  assert.match(read[1]!, /\r\n\r\nshort$/);
  assert.equal(world.ended(put.id)?.bytesIn, 5);
});
