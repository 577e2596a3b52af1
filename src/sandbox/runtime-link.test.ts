// The control connection when the other side is hostile: user code shares the process that speaks on it.

import assert from "node:assert/strict";
import { createServer, connect, type Server, type Socket } from "node:net";
import type { AddressInfo } from "node:net";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { Worker } from "node:worker_threads";
import { loadCacheLimits, sandboxLimits } from "#model/limits.ts";
import { RuntimeLink } from "./runtime-link.ts";

const ready = '{"ready":{"entry":null,"handler":null,"signature":"web","done":"told","phases":{}}}\n';
const id = "01m85w3dgajdycr4dza86dr5ty";
let server: Server;
const sockets: Socket[] = [];
let speak: (socket: Socket) => void = () => {};

before(async () => {
  server = createServer((socket) => {
    sockets.push(socket);
    socket.on("error", () => {});
    socket.once("data", () => {
      socket.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
      speak(socket);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
});
after(() => {
  for (const socket of sockets) socket.destroy();
  server.close();
});

function chunk(text: string): string {
  return `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`;
}

function open(done: (invocation: string) => void): RuntimeLink {
  const { port } = server.address() as AddressInfo;
  return new RuntimeLink({ connect: () => connect(port, "127.0.0.1"), done });
}

test("words that come one by one are heard at once", async () => {
  const heard = Promise.withResolvers<string>();
  speak = (socket) => void socket.write(chunk(ready) + chunk(`{"done":"${id}"}\n`));
  const link = open(heard.resolve);
  assert.equal((await link.assign("{}"))?.ok, true);
  assert.equal(await heard.promise, id);
  link.close();
});

for (const [what, said] of [
  ["no JSON", "certainly not JSON\n"],
  ["JSON of no meaning", "[1]\n"],
  ["ready with a wrong field", '{"ready":{"signature":"root","done":"told"}}\n'],
  ["a line without an end", "x".repeat(80 * 1024)],
] as const)
  test(`a runtime that answers ${what} is a failed start`, async () => {
    speak = (socket) => void socket.write(chunk(said));
    const link = open(() => {});
    const answer = await link.assign("{}");
    assert.ok(answer?.ok === false);
    assert.equal(answer.failure.fault, "function");
    assert.match(answer.failure.message, /^The runtime /);
    link.close();
  });

test("an assignment that was announced is answered only by what comes after its body", async () => {
  const parts: string[] = [];
  const announced = Promise.withResolvers<void>();
  speak = (socket) => {
    announced.resolve();
    socket.on("data", (part: Buffer) => {
      parts.push(part.toString());
      if (parts.join("").endsWith("0\r\n\r\n")) socket.write(chunk(ready));
    });
  };
  const link = open(() => {});
  link.open();
  await announced.promise;
  assert.equal((await link.assign('{"nonce":"n"}'))?.ok, true);
  assert.match(parts.join(""), /\{"nonce":"n"\}/);
  link.close();
});

test("an announced connection that has ended before there is an assignment answers it with nothing", async () => {
  const ended = Promise.withResolvers<void>();
  speak = (socket) => socket.destroy();
  const { port } = server.address() as AddressInfo;
  const connection = connect(port, "127.0.0.1").on("close", () => ended.resolve());
  const link = new RuntimeLink({ connect: () => connection, done: () => {} });
  link.open();
  await ended.promise;
  await new Promise((resolve) => void setImmediate(resolve));
  assert.equal(await link.assign("{}"), null);
});

test("a flood of words is heard no faster than its bound, and the rest waits in the sandbox's own socket", async () => {
  let count = 0;
  const line = `{"done":"${id}"}\n`;
  const flood = chunk(line.repeat(1_000));
  speak = (socket) => {
    socket.write(chunk(ready));
    const go = (): void => void (!socket.destroyed && socket.write(flood, go));
    go();
  };
  const past = Promise.withResolvers<void>();
  const link = open(() => {
    count += 1;
    if (count === 30_000) past.resolve();
  });
  assert.equal((await link.assign("{}"))?.ok, true);
  await past.promise; // the burst is spent
  const before = count;
  const startedMs = performance.now();
  await new Promise((resolve) => setTimeout(resolve, 500));
  const perSecond = ((count - before) / (performance.now() - startedMs)) * 1_000;
  link.close();
  // A socket's read may come in on top.
  assert.ok(perSecond < sandboxLimits.controlUnitsPerSecond * 1.2, `${Math.round(perSecond)} a second`);
});

test("a runtime that has said in time that it takes its code has taken it, however late that is read", async (t) => {
  const flag = new Int32Array(new SharedArrayBuffer(4));
  const runtime = new Worker(
    `const { parentPort, workerData } = require("node:worker_threads");
     const server = require("node:net").createServer((socket) => socket.once("data", () => {
       socket.write("HTTP/1.1 200 OK\\r\\ntransfer-encoding: chunked\\r\\n\\r\\n", () => { Atomics.store(workerData, 0, 1); Atomics.notify(workerData, 0); });
     })).listen(0, "127.0.0.1", () => parentPort.postMessage(server.address().port));`,
    { eval: true, workerData: flag },
  );
  t.after(() => runtime.terminate());
  const [port] = (await once(runtime, "message")) as [number];
  const link = new RuntimeLink({ connect: () => connect(port, "127.0.0.1"), done: () => {} });
  const takeWithinMs = 300;
  let answer: unknown = "none yet";
  void link.assign("{}", takeWithinMs).then((said) => (answer = said));
  // Sent from here, answered there, and this thread stands still until long after.
  while (Atomics.load(flag, 0) === 0) await new Promise((resolve) => void setImmediate(resolve));
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2 * takeWithinMs);
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => void setImmediate(resolve));
  assert.deepEqual([link.taken, answer], [true, "none yet"]);
  link.close();
});

test("compiled code that was asked for is heard to its end, also when its process has gone meanwhile", async () => {
  const pieces = Array.from({ length: 20 }, (_, i) => Buffer.alloc(45_000, i));
  speak = (socket) => {
    socket.write(chunk(ready));
    for (const piece of pieces) socket.write(chunk(`{"cache":"${piece.toString("base64")}"}\n`));
    socket.end("0\r\n\r\n");
  };
  const link = open(() => {});
  assert.equal((await link.assign("{}", null, true))?.ok, true);
  // The sandbox's end is told by another way than its words.
  link.close();
  assert.deepEqual(await link.loadCache(), Buffer.concat(pieces));
});

test("a runtime that tells none has told none", async () => {
  speak = (socket) => void socket.end(`${chunk(ready)}0\r\n\r\n`);
  const link = open(() => {});
  assert.equal((await link.assign("{}", null, true))?.ok, true);
  assert.equal(await link.loadCache(), null);
});

test("compiled code that does not come is not waited for where the start has taken its time already", async () => {
  speak = (socket) => void socket.write(chunk(ready));
  const link = open(() => {});
  assert.equal((await link.assign("{}", null, true))?.ok, true);
  const late = new Promise((resolve) => void setTimeout(resolve, loadCacheLimits.tellMs / 2, "late").unref());
  assert.equal(await Promise.race([link.loadCache(sandboxLimits.startMs - 1_000), late]), null);
});
