// The parser of instances' responses: what is accepted, what is refused, and that where the bytes are cut changes nothing.

import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { httpLimits } from "#model/limits.ts";
import { BadResponse, type ResponseHead } from "./response-head.ts";
import { ResponseParser } from "./response-parser.ts";

interface Seen {
  status: number | null;
  headers: readonly string[];
  body: string;
  ended: number;
  done: boolean;
  upgraded: string | null;
  error: string | null;
}

function parse(
  chunks: readonly Buffer[],
  options: { method?: string; upgradable?: boolean; close?: boolean } = {},
): Seen {
  const seen: Seen = { status: null, headers: [], body: "", ended: 0, done: false, upgraded: null, error: null };
  const head = (found: ResponseHead): void => {
    seen.status = found.status;
    seen.headers = found.headers;
    seen.done = found.done;
  };
  const parser = new ResponseParser({
    head,
    data: (chunk) => void (seen.body += chunk.toString("latin1")),
    end: (last, done) => {
      if (last !== null) seen.body += last.toString("latin1");
      seen.ended++;
      seen.done ||= done;
    },
    upgrade: (found, rest) => {
      head(found);
      seen.upgraded = rest.toString("latin1");
    },
  });
  parser.expect(options.method ?? "GET", options.upgradable ?? false);
  try {
    for (const chunk of chunks) parser.feed(chunk);
    if (options.close) parser.finish();
  } catch (error) {
    if (!(error instanceof BadResponse)) throw error;
    seen.error = error.message;
  }
  return seen;
}

const one = (text: string): Buffer[] => [Buffer.from(text, "latin1")];

const accepted: ReadonlyArray<[name: string, text: string, body: string, options?: Parameters<typeof parse>[1]]> = [
  ["a length", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "hello"],
  ["no reason phrase", "HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", ""],
  ["an empty reason phrase", "HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n", ""],
  [
    "chunks",
    'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nA;x="y"\r\n, my world!\r\n0\r\n\r\n'.replace(
      "A;",
      "b;",
    ),
    "hello, my world!",
  ],
  [
    "trailers, which are dropped",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\n\r\n1\r\na\r\n0\r\nx: y\r\nz: 1\r\n\r\n",
    "a",
  ],
  [
    "interim responses",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na",
    "a",
  ],
  ["204 without a body", "HTTP/1.1 204 No Content\r\n\r\n", ""],
  ["304 with the length of what is not sent", "HTTP/1.1 304 Not Modified\r\ncontent-length: 10\r\n\r\n", ""],
  ["HEAD with a length", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n", "", { method: "HEAD" }],
  ["HEAD with chunks announced", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "", { method: "HEAD" }],
  [
    "a body until the end of the connection",
    "HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nall of it",
    "all of it",
    { close: true },
  ],
  ["values with bytes above ASCII", "HTTP/1.1 200 OK\r\nx: caf\xe9\r\ncontent-length: 0\r\n\r\n", ""],
];

for (const [name, text, body, options] of accepted) {
  test(`a response is read: ${name}`, () => {
    const seen = parse(one(text), options);
    assert.equal(seen.error, null);
    assert.equal(seen.ended, 1);
    assert.equal(seen.body, body);
  });
}

const refused: ReadonlyArray<[name: string, text: string, words: RegExp]> = [
  ["another protocol", "SSH-2.0-OpenSSH\r\n\r\n", /status line/],
  ["HTTP/2", "HTTP/2 200 OK\r\n\r\n", /status line/],
  ["a status above 599", "HTTP/1.1 600 Odd\r\n\r\n", /status line/],
  ["a status of two digits", "HTTP/1.1 20 OK\r\n\r\n", /status line/],
  ["two spaces before the status", "HTTP/1.1  200 OK\r\n\r\n", /status line/],
  ["lines that end in LF alone", "HTTP/1.1 200 OK\ncontent-length: 0\n\n", /CR LF/],
  ["one line that ends in LF alone", "HTTP/1.1 200 OK\r\nx: y\ncontent-length: 0\r\n\r\n", /CR LF/],
  ["a bare CR", "HTTP/1.1 200 OK\r\nx: a\rb\r\n\r\n", /control character/],
  ["NUL in a value", "HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n", /control character/],
  ["a folded header", "HTTP/1.1 200 OK\r\nx: a\r\n b\r\n\r\n", /name: value/],
  ["a blank before the colon", "HTTP/1.1 200 OK\r\ncontent-length : 5\r\n\r\nhello", /name: value/],
  ["a line without a colon", "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", /name: value/],
  ["an empty name", "HTTP/1.1 200 OK\r\n: x\r\n\r\n", /name: value/],
  ["two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nContent-Length: 5\r\n\r\nhello", /two content-length/],
  ["a list of lengths", "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\nhello", /not a number/],
  ["a signed length", "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\nhello", /not a number/],
  ["a length beyond counting", "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999\r\n\r\n", /not a number/],
  ["length and chunks", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", /both/],
  ["another encoding", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n", /not chunked/],
  ["chunks in HTTP/1.0", "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", /HTTP\/1\.0/],
  ["a chunk size that is none", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", /hexadecimal/],
  ["a chunk size with 0x", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0x5\r\nhello\r\n", /hexadecimal/],
  [
    "a chunk size beyond counting",
    `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n${"f".repeat(14)}\r\n`,
    /hexadecimal/,
  ],
  [
    "a chunk extension without end",
    `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;${"x".repeat(2_000)}`,
    /longer than/,
  ],
  [
    "a chunk longer than its size",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    /longer than its size/,
  ],
  [
    "a size line that ends in LF alone",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
    /hexadecimal|CR LF/,
  ],
  [
    "a trailer that is none",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nGET / HTTP/1.1\r\n\r\n",
    /trailer/,
  ],
  ["bytes after the answer", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhello", /after its answer/],
  ["a second answer", "HTTP/1.1 204 x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", /after its answer/],
  ["a switch nobody asked for", "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", /without being asked/],
  ["interim responses without end", "HTTP/1.1 100 Continue\r\n\r\n".repeat(20), /interim/],
  ["too many headers", `HTTP/1.1 200 OK\r\n${"x: y\r\n".repeat(201)}\r\n`, /more than 200/],
  ["a head too long", `HTTP/1.1 200 OK\r\nx: ${"y".repeat(httpLimits.responseHeadBytes)}\r\n\r\n`, /longer than 65536/],
  ["a head without end", `HTTP/1.1 200 OK\r\nx: ${"y".repeat(httpLimits.responseHeadBytes + 10)}`, /longer than 65536/],
];

for (const [name, text, words] of refused) {
  test(`a response is refused: ${name}`, () => {
    const seen = parse(one(text));
    assert.match(seen.error ?? "accepted", words);
    assert.equal(seen.ended, 0, "an answer that is refused is not complete");
    const bytewise = parse([...Buffer.from(text, "latin1")].map((byte) => Buffer.from([byte])));
    assert.notEqual(bytewise.error, null, "byte by byte it is refused as well");
  });
}

test("headers of the hop, nominated ones and ebb's own do not go on", () => {
  const seen = parse(
    one(
      "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\nTrailer: z\r\n" +
        "Proxy-Connection: x\r\nebb-note: forged\r\nebb-done: 1\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\ncontent-length: 0\r\n\r\n",
    ),
  );
  assert.deepEqual(seen.headers, ["set-cookie", "a=1", "set-cookie", "b=2"]);
  assert.equal(seen.done, true);
});

test("ebb-done is also read from a trailer", () => {
  const seen = parse(one("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nEbb-Done: 1\r\n\r\n"));
  assert.equal(seen.error, null);
  assert.equal(seen.done, true);
});

test("a switch that was asked for hands over what follows", () => {
  const text = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00";
  const seen = parse(one(text), { upgradable: true });
  assert.deepEqual([seen.status, seen.upgraded], [101, "\x81\x00"]);
  assert.deepEqual(seen.headers, ["upgrade", "websocket"]);
});

/** The buffer in pieces, cut at these places. */
function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const at = [...new Set(places.map((place) => place % (bytes.length + 1)))].toSorted((a, b) => a - b);
  return [0, ...at].map((from, i) => bytes.subarray(from, at[i] ?? bytes.length)).filter((piece) => piece.length > 0);
}

test("where a response is cut into pieces changes nothing", () => {
  const response = fc.oneof(
    fc.constantFrom(...accepted.filter(([, , , options]) => options === undefined).map(([, text]) => text)),
    fc
      .array(fc.string({ minLength: 1, maxLength: 40, unit: "binary-ascii" }), { maxLength: 8 })
      .map(
        (chunks) =>
          `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n${chunks.map((chunk) => `${chunk.length.toString(16)}\r\n${chunk}\r\n`).join("")}0\r\n\r\n`,
      ),
  );
  fc.assert(
    fc.property(response, fc.array(fc.nat(2_000), { maxLength: 30 }), (text, places) => {
      const bytes = Buffer.from(text, "latin1");
      assert.deepEqual(parse(cut(bytes, places)), parse([bytes]));
    }),
    { numRuns: 1_000 },
  );
});

test("a value loses the spaces and tabs around it, and no byte of its own", () => {
  const value = Buffer.from("\u00a0 déjà").toString("latin1");
  const seen = parse(one(`HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-word:\t ${value} \t\r\n\r\n`));
  assert.deepEqual(seen.headers, ["x-word", value]);
});

test("a head like the one before is read like it, whatever the method asked for", () => {
  const heads: ResponseHead[] = [];
  const nothing = () => {};
  const parser = new ResponseParser({
    head: (head) => void heads.push(head),
    data: nothing,
    end: nothing,
    upgrade: nothing,
  });
  for (const method of ["GET", "HEAD", "GET", "GET"]) {
    parser.expect(method, false);
    parser.feed(one("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n")[0]!);
    if (method === "GET") parser.feed(one("a")[0]!);
  }
  assert.deepEqual(
    heads.map((head) => head.framing),
    [1, 0, 1, 1],
  );
});

test("hostile bytes end in a refusal or in nothing, never in a crash or in two answers", () => {
  const pieces = [
    "HTTP/1.1 200 OK",
    "\r\n",
    "\n",
    "\r",
    "content-length: 3",
    "transfer-encoding: chunked",
    "abc",
    "0",
    "5",
    ":",
    " ",
    "\0",
    "\x80",
    "HTTP/1.1 100 x",
  ];
  const hostile = fc.array(fc.oneof(fc.constantFrom(...pieces), fc.string({ maxLength: 5 })), { maxLength: 30 });
  fc.assert(
    fc.property(hostile, fc.array(fc.nat(500), { maxLength: 20 }), (parts, places) => {
      const seen = parse(cut(Buffer.from(parts.join(""), "latin1"), places), { close: true });
      assert.ok(seen.ended <= 1);
    }),
    { numRuns: 3_000 },
  );
});
