// The control connection when the other side is hostile: user code shares the process that speaks on it.

import assert from "node:assert/strict";
import { createServer, connect, type Server, type Socket } from "node:net";
import type { AddressInfo } from "node:net";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { sandboxLimits } from "#model/limits.ts";
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
