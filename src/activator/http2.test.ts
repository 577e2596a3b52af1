// Instances that speak HTTP/2: one connection for many calls, its end without a lost call, back-pressure, and what is no HTTP/2.

import assert from "node:assert/strict";
import { constants, createServer, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { Duplex } from "node:stream";
import test, { afterEach, beforeEach } from "node:test";
import { frame, types } from "#gateway/http2/frames.testing.ts";
import type { Instance } from "#fleet/door.ts";
import { bodyOf, codeOf, http2Revision, until, World } from "./world.testing.ts";
import type { Call, RequestBody } from "./door.ts";

let world: World;
beforeEach(() => {
  world = new World();
});
afterEach(() => world.stop());

interface Served {
  readonly sessions: ServerHttp2Session[];
  readonly streams: ServerHttp2Stream[];
}

async function served(
  serve: (stream: ServerHttp2Stream, path: string) => void,
  options: { settings?: { maxConcurrentStreams: number }; timeoutSeconds?: number } = {},
): Promise<Served & { readonly server: Http2Server; readonly instance: { connect: Instance["connect"] } }> {
  const server = createServer({ settings: options.settings ?? {} });
  const sessions: ServerHttp2Session[] = [];
  const streams: ServerHttp2Stream[] = [];
  server.on("session", (session) => void sessions.push(session));
  server.on("stream", (stream: ServerHttp2Stream, headers) => {
    streams.push(stream);
    stream.on("error", () => undefined);
    serve(stream, String(headers[":path"]));
  });
  const { timeoutSeconds = 300 } = options;
  const instance = await world.startHttp2(world.deploy(http2Revision("hello", { timeoutSeconds })), server);
  return { sessions, streams, server, instance };
}

const post = (over: Partial<Call> = {}) => world.call({ method: "POST", body: bodyOf(["abc"]), ...over });

/** Answers what it was asked, whole. */
function echo(stream: ServerHttp2Stream): void {
  stream.respond({ ":status": 200 });
  stream.pipe(stream);
}

test("many calls go by one connection at a time, and their bytes are counted", async () => {
  const { sessions } = await served(echo);
  const calls = Array.from({ length: 50 }, () => post());
  const answers = await Promise.all(calls.map(({ answer }) => answer));
  assert.deepEqual(new Set(answers.map(({ body }) => body)), new Set(["abc"]));
  assert.equal(sessions.length, 1);
  const end = world.ended(calls[0]!.id)!;
  assert.deepEqual([end.outcome, end.status, end.bytesIn, end.bytesOut], ["ok", 200, 3, 3]);
});

test("where the instance takes fewer at a time than ebb has for it there are more connections, and no call waits", async () => {
  const { sessions, streams } = await served(() => undefined, { settings: { maxConcurrentStreams: 4 } });
  post();
  await until(() => streams.length === 1, "the first");
  await new Promise((resolve) => setImmediate(resolve));
  for (let i = 0; i < 9; i++) post();
  await until(() => streams.length === 10, "all of them");
  assert.equal(sessions.length, 3);
});

test("an instance that ends its connection loses no call: those under way end, and those it has not looked at go again", async () => {
  const { sessions, streams, server } = await served((stream, path) => {
    if (path !== "/held") echo(stream);
  });
  const held = post({ target: "/held" });
  await until(() => streams.length === 1, "one under way");
  sessions[0]!.goaway(constants.NGHTTP2_NO_ERROR, streams[0]!.id);
  const behind = Array.from({ length: 20 }, () => post());
  for (const { answer } of behind) assert.equal((await answer).body, "abc");
  echo(streams[0]!);
  assert.equal((await held.answer).body, "abc");
  assert.ok(sessions.length >= 2);
  server.removeAllListeners("stream");
});

test("what comes of a body while its call goes again by another connection comes behind what came before", async () => {
  const { sessions, streams, instance } = await served((stream, path) => {
    if (path === "/parts" && streams.length === 2) {
      stream.once("data", () => {
        sessions[0]!.goaway(constants.NGHTTP2_NO_ERROR, streams[0]!.id);
        setImmediate(() => stream.close(constants.NGHTTP2_REFUSED_STREAM));
      });
    } else echo(stream);
  });
  await post().answer;
  let sink: Parameters<RequestBody["read"]>[0] | null = null;
  const parts: RequestBody = {
    lengthBytes: null,
    read: (given) => void (sink = given).data(Buffer.from("one ")),
    resume: () => undefined,
    discard: () => undefined,
  };
  const { connect } = instance;
  instance.connect = (reader) => {
    // Its connection has gone, and the next is on its way.
    queueMicrotask(() => {
      sink!.data(Buffer.from("two "));
      sink!.data(Buffer.from("three"));
      sink!.end([]);
    });
    return connect(reader);
  };
  const { answer } = post({ target: "/parts", body: parts });
  assert.equal((await answer).body, "one two three");
});

test("a call that is refused goes again with its body, some times; then it is an error", async () => {
  let refusals = 2;
  const { streams } = await served((stream) => {
    if (refusals-- > 0) stream.close(constants.NGHTTP2_REFUSED_STREAM);
    else echo(stream);
  });
  assert.equal((await post().answer).body, "abc");
  assert.equal(streams.length, 3);
  refusals = Infinity;
  const { answer } = post();
  assert.equal(codeOf(await answer), "bad_response");
});

/** Of its connections, those that ebb has open. */
function openOf(instance: { connect: Instance["connect"] }): () => number {
  const { connect } = instance;
  const sockets: Duplex[] = [];
  instance.connect = (reader) => {
    const socket = connect(reader);
    sockets.push(socket);
    return socket;
  };
  return () => sockets.filter(({ destroyed }) => !destroyed).length;
}

test("an instance cannot make connections add up: not by breaking off calls, nor by GOAWAY on connections that it leaves open", async () => {
  const { instance } = await served((stream, path) => {
    if (path === "/broken") stream.close(constants.NGHTTP2_INTERNAL_ERROR);
    else echo(stream);
  });
  const open = openOf(instance);
  await post().answer;
  const broken = Array.from({ length: 20 }, () => world.call({ target: "/broken" }));
  for (const { answer } of broken) assert.equal(codeOf(await answer), "bad_response");
  await until(() => open() <= 6, "few are left");
  assert.equal((await post().answer).body, "abc");

  const leaving = Buffer.concat([frame(types.settings, 0, 0), frame(types.goaway, 0, 0, Buffer.alloc(8))]);
  const raw = await world.startRaw(world.deploy(http2Revision("leaving")), (socket) => {
    socket.once("data", () => void socket.write(leaving)).resume();
  });
  const openRaw = openOf(raw);
  assert.equal(codeOf(await world.call({ workload: "leaving" }).answer), "bad_response");
  await until(() => openRaw() === 0, "none is left half-closed");
});

test("an answer that is broken off is never whole, and says how", async () => {
  await served((stream, path) => {
    if (path === "/head") return stream.close(constants.NGHTTP2_INTERNAL_ERROR);
    stream.respond({ ":status": 200, "content-length": "10" });
    stream.write("part");
    setImmediate(() => stream.close(path === "/calm" ? constants.NGHTTP2_NO_ERROR : constants.NGHTTP2_INTERNAL_ERROR));
  });
  const before = await post({ target: "/head" }).answer;
  assert.match(before.error!.message, /it broke off the stream before its answer was complete \(INTERNAL_ERROR\)/);
  for (const target of ["/", "/calm"]) {
    const { error, headSent } = await world.call({ target }).answer;
    assert.deepEqual([codeOf({ error } as never), headSent], ["bad_response", true], target);
  }
});

test("a client that does not read holds the instance back, and an instance that does not read holds the body back", async () => {
  const { streams } = await served((stream, path) => {
    if (path === "/in") return;
    stream.respond({ ":status": 200 });
    const more = (): void => {
      while (stream.writable && stream.write(Buffer.alloc(64 * 1024))) bytes += 64 * 1024;
    };
    stream.on("drain", more);
    more();
  });
  let bytes = 0;
  const slow = world.call();
  slow.sink.full = true;
  await until(() => slow.sink.bytes > 0, "the first of it");
  for (let i = 0; i < 200; i++) await new Promise((resolve) => setImmediate(resolve));
  assert.ok(bytes < 8_000_000, `${bytes} are under way`);
  slow.invocation.abort();

  let asked = 0;
  const endless: RequestBody = {
    lengthBytes: null,
    read(sink) {
      const more = (): void => {
        do asked += 64 * 1024;
        while (asked < 100_000_000 && sink.data(Buffer.alloc(64 * 1024)));
      };
      endless.resume = more;
      more();
    },
    resume: () => undefined,
    discard: () => undefined,
  };
  const uploading = world.call({ method: "POST", target: "/in", body: endless });
  await until(() => streams.length === 2, "the upload");
  for (let i = 0; i < 200; i++) await new Promise((resolve) => setImmediate(resolve));
  assert.ok(asked > 0 && asked < 8_000_000, `${asked} were taken`);
  uploading.invocation.abort();
  await until(() => streams.every(({ destroyed }) => destroyed), "both heard that nobody is there");
});

test("an answer before the end of the body ends the call, and nothing more of the body is wanted", async () => {
  await served((stream) => stream.respond({ ":status": 413 }, { endStream: true }));
  const body = { ...bodyOf([]), read: () => undefined };
  const { answer } = world.call({ method: "POST", body });
  assert.equal((await answer).head!.status, 413);
  await until(() => world.log.some((line) => / 413/.test(line)), "its mark");
});

test("what does not speak HTTP/2 is named, and so is one that takes too long", async () => {
  const revision = world.deploy(http2Revision("plain"));
  await world.startRaw(revision, (socket) => void socket.end("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"));
  const { error } = await world.call({ workload: "plain", method: "POST" }).answer;
  assert.match(error!.message, /without a word of HTTP\/2.*; protocol: http1 is for what speaks HTTP\/1\.1/);

  await served(() => undefined, { timeoutSeconds: 0.05 });
  const late = await post().answer;
  assert.equal(codeOf(late), "timeout");
});

test("an instance that floods its connection with frames, or its answer with others before it, is cut off", async () => {
  const revision = world.deploy(http2Revision("flood"));
  let sent = 0;
  const closed = Promise.withResolvers<void>();
  await world.startRaw(revision, (socket) => {
    const more = (): void => {
      while (!socket.destroyed && sent < 1_000_000 && socket.write(many)) sent += 100;
    };
    const many = Buffer.concat(Array.from({ length: 100 }, () => frame(types.settings, 0, 0)));
    socket
      .on("drain", more)
      .on("close", () => closed.resolve())
      .once("data", more)
      .resume();
  });
  const { error } = await world.call({ workload: "flood" }).answer;
  assert.equal(codeOf({ error } as never), "bad_response");
  await closed.promise;
  assert.ok(sent < 100_000, `${sent} were read`);

  await served((stream) => {
    for (let i = 0; i < 100; i++) stream.additionalHeaders({ ":status": 103, link: "</a>" });
    stream.respond({ ":status": 200 }, { endStream: true });
  });
  assert.match((await world.call().answer).error!.message, /more than 16 heads before its answer/);
});
