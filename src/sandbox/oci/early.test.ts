// The connection that is made before there is a call: for whoever asks first, and only if nothing was said on it.

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, mock, test } from "node:test";
import { OciSandbox, type OciSandboxOptions } from "./sandbox.ts";

const ignored = { buffer: Buffer.alloc(64), callback: () => true };

let folder: string;
let server: Server;
let sandbox: OciSandbox;
let accepted: Promise<Socket>;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "ebb-early-"));
  const path = join(folder, "s");
  server = createServer();
  accepted = once(server, "connection").then(([socket]: Socket[]) => socket!);
  await once(server.listen(path), "listening");
  const plan = { launch: { listen: path, output: {} }, engineLog: "", codeTarget: "", credentialPath: null };
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- of a sandbox that is never launched these are enough
  const options = {
    id: "s1",
    start: { pool: {}, link: null },
    plan,
    listener: null,
    release: () => undefined,
  } as unknown;
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- as above
  sandbox = new OciSandbox(options as OciSandboxOptions);
});
afterEach(() => {
  server.close();
  rmSync(folder, { recursive: true });
});

test("it is given to the first who asks, and to nobody else", async () => {
  sandbox.expectCall(true);
  await accepted;
  const early = sandbox.takeEarly(ignored);
  assert.ok(early?.writable);
  assert.equal(sandbox.takeEarly(ignored), null);
  early.destroy();
});

test("what comes on it is given to the reader of who took it, without being emitted", async () => {
  sandbox.expectCall(true);
  const socket = await accepted;
  const read = Promise.withResolvers<string>();
  const early = sandbox.takeEarly({
    buffer: Buffer.alloc(0),
    callback: (bytes, buffer) => (read.resolve(buffer.toString("latin1", 0, bytes)), true),
  });
  early?.on("data", () => read.reject(new Error("it was emitted")));
  socket.write("hello");
  assert.equal(await read.promise, "hello");
  early?.destroy();
});

test("where whoever took it reads nothing himself it emits what comes, piece by piece and to its end", async () => {
  sandbox.expectCall(true);
  const socket = await accepted;
  const early = sandbox.takeEarly()!;
  const texts: string[] = [];
  early.setEncoding("latin1").on("data", (text: string) => texts.push(text));
  const ended = once(early, "end");
  socket.write("a".repeat(300_000));
  socket.end("b");
  await ended;
  assert.equal(texts.join(""), `${"a".repeat(300_000)}b`);
});

test("one that its server has given up with a word is given to nobody: the word would be the answer to somebody's request", async () => {
  sandbox.expectCall(true);
  const socket = await accepted;
  socket.end("HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\r\n");
  await once(socket, "close");
  assert.equal(sandbox.takeEarly(ignored), null);
});

test("it is kept for as long as its sandbox waits for code, and given up a while after that where nobody calls", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    sandbox.expectCall(false);
    const socket = await accepted;
    const ended = once(socket.resume(), "close");
    mock.timers.tick(3_600_000);
    sandbox.expectCall(true);
    mock.timers.tick(500);
    assert.equal(socket.destroyed, false);
    mock.timers.tick(500);
    await ended;
    assert.equal(sandbox.takeEarly(ignored), null);
  } finally {
    mock.timers.reset();
  }
});
