// HTTP/2 from somebody who means ill: frames that are wrong, requests that HTTP/1.1 would read in another way, and floods.

import assert from "node:assert/strict";
import { once } from "node:events";
import test, { after, before } from "node:test";
import { http2Revision, until } from "#activator/world.testing.ts";
import { http2Limits } from "#model/limits.ts";
import { Front } from "../front.testing.ts";
import { block, flags, frame, RawHttp2, request, types, uint32 } from "./frames.testing.ts";

let front: Front;
before(async () => {
  front = await new Front().listen();
  await front.echo({ concurrency: 1_000 });
});
after(() => front.stop());

type Fields = ReadonlyArray<readonly [string, string]>;
const get: Fields = [
  [":method", "GET"],
  [":scheme", "http"],
  [":authority", "hello.localhost"],
  [":path", "/"],
];
const post: Fields = [[":method", "POST"], ...get.slice(1)];
const but = (name: string, value: string | null): Fields =>
  get.flatMap(([key, old]) => (key !== name ? [[key, old] as const] : value === null ? [] : [[key, value] as const]));
const calm = 0xb;

async function begun(act: () => Promise<void>): Promise<number> {
  const count = front.world.marks.begun.size;
  await act();
  front.world.endTurn();
  return front.world.marks.begun.size - count;
}

async function withRaw(act: (raw: RawHttp2) => Promise<void>): Promise<void> {
  const raw = await RawHttp2.open(front.open());
  await act(raw).finally(() => raw.socket.destroy());
}

/** nghttp2 leaves out what cannot stand in a header, and lets the rest of the request pass. */
const leftOut: ReadonlyArray<[name: string, header: readonly [string, string]]> = [
  ["CR LF in a value", ["x-bad", "a\r\nhost: other.localhost"]],
  ["LF in a value", ["x-bad", "a\nb"]],
  ["NUL in a value", ["x-bad", "a\0b"]],
  ["CR LF in a name", ["x-bad\r\ny", "a"]],
  ["a colon in a name", ["x-bad:y", "a"]],
  ["a blank in a name", ["x-bad ", "a"]],
  ["an empty name", ["", "x-bad"]],
];

test("a header that HTTP/1.1 could read as two reaches no function", async () => {
  for (const [name, header] of leftOut)
    await withRaw(async (raw) => {
      raw.socket.write(request(1, [...get, header]));
      await until(() => raw.over(1), `${name}: an end`);
      assert.doesNotMatch(raw.body(1), /x-bad|other/, name);
    });
});

/** `said`: what the answer's body has where the request is answered; where it is reset, nothing has. */
const refused: ReadonlyArray<[name: string, fields: Fields, said?: string]> = [
  ["a name in upper case", [...get, ["X-Y", "a"]]],
  ["connection", [...get, ["connection", "x"]]],
  ["keep-alive", [...get, ["keep-alive", "timeout=5"]]],
  ["proxy-connection", [...get, ["proxy-connection", "keep-alive"]]],
  ["upgrade", [...get, ["upgrade", "websocket"]]],
  ["transfer-encoding", [...get, ["transfer-encoding", "chunked"]]],
  ["te with more than trailers", [...get, ["te", "gzip"]]],
  ["two lengths", [...get, ["content-length", "0"], ["content-length", "0"]]],
  ["a length that is none", [...get, ["content-length", "+1"]]],
  ["a length without a body", [...get, ["content-length", "5"]]],
  ["no :path", but(":path", null)],
  ["an empty :path", but(":path", "")],
  ["two :path", [...get, [":path", "/b"]]],
  ["a blank in :path", but(":path", "/ HTTP/1.1")],
  ["CR LF in :path", but(":path", "/ HTTP/1.1\r\nx: y")],
  ["a :path of absolute form", but(":path", "http://other.localhost/")],
  [":path without a slash", but(":path", "x")],
  ["an asterisk", but(":path", "*")],
  ["no :method", but(":method", null)],
  ["CR LF in :method", but(":method", "GET / HTTP/1.1\r\n\r\nGET")],
  [
    "CONNECT",
    [
      [":method", "CONNECT"],
      [":authority", "hello.localhost"],
    ],
  ],
  ["extended CONNECT", [...but(":method", "CONNECT"), [":protocol", "websocket"]]],
  ["TRACE", but(":method", "TRACE"), "method_not_allowed"],
  ["a method that nobody knows", but(":method", "BREW"), "method_not_allowed"],
  ["a method in lower case", but(":method", "get"), "method_not_allowed"],
  ["a pseudo header behind others", [...get.slice(0, 3), ["x", "y"], [":path", "/"]]],
  ["one that nobody knows", [...get, [":host", "x"]]],
  [":authority and another host", [...get, ["host", "other.localhost"]], "bad_host"],
  ["no host at all", but(":authority", null)],
  [":authority with user information", but(":authority", "a@hello.localhost")],
  ["a foreign :authority", but(":authority", "foo.example.com"), "misdirected"],
  ["more headers than there may be", [...get, ...Array.from({ length: 201 }, () => ["x", "y"] as const)]],
];

test("what HTTP/1.1 could read in another way reaches no function", async () => {
  for (const [name, fields, said] of refused) {
    const count = await begun(() =>
      withRaw(async (raw) => {
        raw.socket.write(request(1, fields));
        await until(() => raw.over(1), `${name}: an end`);
        if (said !== undefined) assert.match(raw.body(1), new RegExp(`"code":"${said}"`), name);
        else if (raw.rst(1) === null && raw.goaway === null) assert.match(raw.body(1), /"status":4\d\d/, name);
      }),
    );
    assert.equal(count, 0, name);
  }
});

test("a body that is longer or shorter than it says is never taken for whole", async () => {
  for (const [said, sent] of [
    ["3", "abcd"],
    ["3", "ab"],
  ] as const)
    await withRaw(async (raw) => {
      raw.socket.write(request(1, [...post, ["content-length", said]], flags.endHeaders));
      raw.socket.write(frame(types.data, flags.endStream, 1, sent));
      await until(() => raw.over(1), "an end");
      assert.notEqual(raw.rst(1) ?? raw.goaway, null);
      assert.equal(raw.body(1), "");
    });
  await until(() => front.world.activator.load(front.world.revisions.get("default/hello")!).active === 0, "all over");
});

test("host beside the same :authority is one host, and host alone is enough", async () => {
  for (const fields of [
    [...get, ["host", "HELLO.localhost"]],
    [...but(":authority", null), ["host", "hello.localhost"]],
  ])
    await withRaw(async (raw) => {
      raw.socket.write(request(1, fields as Fields));
      await until(() => raw.over(1), "an end");
      assert.match(raw.body(1), /"method":"GET"/);
    });
});

const floods: ReadonlyArray<[name: string, send: (index: number) => Buffer, most: number, code?: number]> = [
  [
    "requests that are reset at once (CVE-2023-44487)",
    (i) => Buffer.concat([request(i * 2 + 1, get), frame(types.rst, 0, i * 2 + 1, uint32(8))]),
    http2Limits.resetsBurst,
    calm,
  ],
  [
    "windows of nothing (CVE-2025-8671)",
    (i) =>
      Buffer.concat([request(i * 2 + 1, post, flags.endHeaders), frame(types.windowUpdate, 0, i * 2 + 1, uint32(0))]),
    0,
  ],
  [
    "bodies longer than they say, which the server has to reset (CVE-2025-8671)",
    (i) =>
      Buffer.concat([
        request(i * 2 + 1, [...post, ["content-length", "1"]], flags.endHeaders),
        frame(types.data, 0, i * 2 + 1, "12"),
      ]),
    http2Limits.invalidFrames,
  ],
  [
    "a window that overflows",
    (i) =>
      Buffer.concat([
        request(i * 2 + 1, post, flags.endHeaders),
        frame(types.windowUpdate, 0, i * 2 + 1, uint32(0x7fffffff)),
      ]),
    0,
  ],
  ["pings", () => frame(types.ping, 0, 0, "12345678"), 0, calm],
  ["settings", () => frame(types.settings, 0, 0), 0, calm],
  ["malformed requests", (i) => request(i * 2 + 1, [...get, ["transfer-encoding", "chunked"]]), 0],
];

for (const [name, send, most, code] of floods)
  test(`a flood ends the connection, and nothing else: ${name}`, async () => {
    const count = await begun(() =>
      withRaw(async (raw) => {
        for (let i = 0; i < 3_000 && !raw.closed && raw.goaway === null; i += 50) {
          raw.socket.write(Buffer.concat(Array.from({ length: 50 }, (_, j) => send(i + j))));
          await new Promise((resolve) => setImmediate(resolve));
        }
        await until(() => raw.closed, "its end");
        assert.ok(raw.goaway !== null && raw.goaway !== 0, `goaway ${raw.goaway}`);
        if (code !== undefined) assert.equal(raw.goaway, code);
      }),
    );
    assert.ok(count <= most + 64, `${count} reached the function`);
    assert.equal((await front.get("/")).status, 200, "others are served");
  });

test("what the many clients of a trusted proxy break off is no flood", async () => {
  const proxied = await new Front({ trustProxy: ["127.0.0.1/32"] }).listen();
  const raw = await RawHttp2.open(proxied.open());
  try {
    await proxied.echo({ concurrency: 1_000 });
    const count = http2Limits.resetsBurst * 2;
    for (let i = 0; i < count; i++) {
      raw.socket.write(Buffer.concat([request(i * 2 + 1, get), frame(types.rst, 0, i * 2 + 1, uint32(8))]));
      if (i % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    raw.socket.write(request(count * 2 + 1, get));
    await until(() => raw.over(count * 2 + 1), "an answer");
    assert.match(raw.body(count * 2 + 1), /"method":"GET"/);
  } finally {
    raw.socket.destroy();
    await proxied.stop();
  }
});

test("empty frames of a body, and a head without an end, end the connection", async () => {
  await withRaw(async (raw) => {
    raw.socket.write(request(1, post, flags.endHeaders));
    for (let i = 0; i < 50 && !raw.closed; i++) {
      raw.socket.write(Buffer.concat(Array.from({ length: 50 }, () => frame(types.data, 0, 1))));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await until(() => raw.closed, "its end");
  });
  await withRaw(async (raw) => {
    raw.socket.write(request(1, get, 0));
    for (let i = 0; i < 200 && !raw.closed; i++) {
      raw.socket.write(frame(types.continuation, 0, 1, block([["x", "y".repeat(1_000)]])));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await until(() => raw.closed || raw.goaway !== null, "its end");
  });
  await until(() => front.world.activator.load(front.world.revisions.get("default/hello")!).active === 0, "all over");
});

test("requests beyond those at a time, by a client that knows how many there may be, end the connection", async () => {
  await front.world.startHttp2(front.world.deploy(http2Revision("slow", { concurrency: 1_000 })));
  await withRaw(async (raw) => {
    const slow = but(":authority", "slow.localhost");
    const many = http2Limits.concurrentStreams;
    for (let i = 0; i <= many; i++) raw.socket.write(request(i * 2 + 1, slow));
    await until(() => raw.goaway !== null, "its end");
    assert.equal(raw.goaway, 1);
  });
});

test("the preface comes in pieces; behind a request of HTTP/1.1, or wrong, it is nonsense", async () => {
  const socket = front.open();
  await once(socket, "connect");
  for (const piece of ["PRI * HT", "TP/2.0\r\n", "\r\nS", "M\r\n\r"]) {
    socket.write(piece);
    await new Promise((resolve) => setImmediate(resolve));
  }
  socket.write(Buffer.concat([Buffer.from("\n"), frame(types.settings, 0, 0), request(1, get)]));
  let received = "";
  socket.on("data", (chunk: Buffer) => void (received += chunk.toString("latin1")));
  await until(() => /"method":"GET"/.test(received), "an answer");
  socket.destroy();
  const H = "host: hello.localhost\r\n\r\n";
  assert.match(
    await front.raw(`GET / HTTP/1.1\r\n${H}PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`, { answers: 2 }),
    /HTTP\/1\.1 400/,
  );
  assert.match(await front.raw("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"), /^HTTP\/1\.1 400/);
  assert.match(await front.raw(`GET / HTTP/2.0\r\n${H}`), /^HTTP\/1\.1 400/);
});

test("a client that ends its side is one that has gone; the stop of the front ends what is idle", async () => {
  const gone = await RawHttp2.open(front.open());
  gone.socket.end();
  await until(() => gone.closed, "its end");
});
