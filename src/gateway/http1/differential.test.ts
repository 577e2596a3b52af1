// This server reads the same requests out of any bytes as node:http does: whole, in pieces, in a row and damaged.

import assert from "node:assert/strict";
import test, { after, before } from "node:test";
import fc from "fast-check";
import { damagedRequests, piecesOf } from "./damage.testing.ts";
import { cutOff, nodeReader, ownReader, type Reader, type Reading } from "./differential.testing.ts";

let node: Reader;
let own: Reader;
let objects: Reader;
before(async () => {
  node = await nodeReader();
  own = await ownReader("exchanges");
  objects = await ownReader("node's objects");
});
after(async () => {
  for (const reader of [node, own, objects]) await reader.stop();
});

const complete = ({ requests }: Reading): string[] => requests.filter((request) => !request.includes(cutOff));

/** Reads the same requests, answers each that is complete, and refuses what node:http refuses. */
async function same(pieces: readonly string[]): Promise<void> {
  const expected = await node.read(pieces);
  const actual = await own.read(pieces);
  const what = JSON.stringify(pieces);
  assert.deepEqual(actual.requests, expected.requests, what);
  assert.equal(actual.answers.filter((status) => status === 200).length, complete(expected).length, what);
  // node:http says its refusal at once, in the place of answers that are owed; and it refuses what comes behind a request that
  // wanted to be the last, at which nobody looks here.
  const refusals = ({ answers }: Reading): number[] => answers.filter((status) => status >= 400);
  if (!actual.wasLast) assert.deepEqual(refusals(actual), refusals(expected), what);
  assert.deepEqual(
    actual.answers,
    actual.answers.toSorted((a, b) => a - b),
    "a refusal is the last answer",
  );
  const served = await objects.read(pieces);
  assert.deepEqual([complete(served), served.headers], [complete(expected), expected.headers], what);
}

/** Of which node:http keeps the first; of content-length too, but two of those are refused. */
const singleFields =
  "Age Authorization Content-Type ETag Expires From Host If-Modified-Since If-Unmodified-Since Last-Modified Location " +
  "Max-Forwards Proxy-Authorization Referer Retry-After Server User-Agent";
const listFields = "Accept Cookie Set-Cookie Via X-Forwarded-For X-Own ebb-token Origin Date";
const twice = (names: string): string =>
  `${names} ${names.toLowerCase()}`.split(" ").reduce((text, name, n) => `${text}${name}: ${n}\r\n`, "");

const cases: ReadonlyArray<[name: string, bytes: string]> = [
  ["one request", "GET /a?b HTTP/1.1\r\nHost: x\r\nX-Y: z\r\n\r\n"],
  ["blank lines before it", "\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n"],
  ["three in a row", "GET /1 HTTP/1.1\r\n\r\nPOST /2 HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcGET /3 HTTP/1.1\r\n\r\n"],
  [
    "chunks with extensions and trailers",
    "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nx: y\r\n\r\nGET /n HTTP/1.1\r\n\r\n",
  ],
  ["a chunk longer than its size", "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n"],
  ["a size that is none", "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n"],
  ["a hundred headers", `GET / HTTP/1.1\r\n${"x: y\r\n".repeat(100)}\r\n`],
  ["fields that may stand once alone, twice", `GET / HTTP/1.1\r\n${twice(singleFields)}\r\n`],
  ["fields that may stand more often, twice", `GET / HTTP/1.1\r\n${twice(listFields)}\r\n`],
  [
    "fields that an object has of itself",
    `GET / HTTP/1.1\r\n${twice("__proto__ constructor toString hasOwnProperty")}\r\n`,
  ],
  ["a bare LF", "GET / HTTP/1.1\nhost: x\n\n"],
  ["a bare CR", "GET / HTTP/1.1\r\nx: a\rb\r\n\r\n"],
  ["a folded header", "GET / HTTP/1.1\r\nx: a\r\n b\r\n\r\n"],
  ["a blank before the colon", "GET / HTTP/1.1\r\nx : a\r\n\r\n"],
  ["two lengths", "POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"],
  ["length and chunks", "POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"],
  ["NUL in a name", "GET / HTTP/1.1\r\nx\0: a\r\n\r\n"],
  ["a method that is none", "FETCH / HTTP/1.1\r\n\r\n"],
  ["a version that is none", "GET / HTTP/1.9\r\n\r\n"],
  ["HTTP/1.0", "GET / HTTP/1.0\r\nhost: x\r\n\r\n"],
  ["a head that is too long", `GET / HTTP/1.1\r\nx: ${"a".repeat(70_000)}\r\n\r\n`],
  ["the first records of TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"],
];
for (const [name, bytes] of cases) {
  test(`the same as node:http: ${name}`, () => same([bytes]));
  test(`the same as node:http in two pieces, wherever it is cut: ${name}`, async () => {
    const step = Math.ceil(bytes.length / 60);
    for (let at = 1; at < bytes.length; at += step) await same([bytes.slice(0, at), bytes.slice(at)]);
  });
}

test("a request behind an upgrade that is not taken is read, wherever it is cut, which node:http loses", async () => {
  const bytes =
    "POST / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\ncontent-length: 3\r\n\r\nabcGET /n HTTP/1.1\r\n\r\n";
  for (let at = 0; at < bytes.length; at++) {
    const { requests, answers } = await own.read([bytes.slice(0, at), bytes.slice(at)]);
    const seen = requests.map((request) => JSON.parse(request) as string[]);
    assert.deepEqual(
      seen.map(([, target, , body]) => [target, body]),
      [
        ["/", "abc"],
        ["/n", ""],
        ["/bye", ""],
      ],
    );
    assert.deepEqual(answers, [200, 200, 200]);
  }
});

/** A size of two digits may be more than all that comes: then both wait for it. */
const waits = /(?:length:[ \t]*|\n)[0-9a-f]{2,}[ \t]*[\r\n;]/i;

test("the same as node:http for 300 damaged requests in random pieces", async () => {
  await fc.assert(
    fc.asyncProperty(
      damagedRequests.filter((text) => !waits.test(text)),
      piecesOf,
      async (text, cut) => same(cut(text)),
    ),
    { numRuns: 300 },
  );
});
