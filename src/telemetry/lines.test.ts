// Bytes to lines: marks, cuts, what is made harmless, what is taken for JSON, what is dropped. However the bytes are cut up.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { logLimits } from "#model/limits.ts";
import { Bucket } from "./bucket.ts";
import { FrameReader, readFrame } from "./frames.ts";
import { LineReader } from "./lines.ts";
import { decodeLine, harmless, levelOfJson } from "./text.ts";

const nonce = "0123456789abcdef0123456789abcdef";
const a = "01jzzzzzzzaaaaaaaaaaaaaaaa";
const b = "01jzzzzzzzbbbbbbbbbbbbbbbb";
const begin = (id: string, of = nonce): string => `\x1e${of} + ${id}\n`;
const end = (id: string, of = nonce): string => `\x1e${of} - ${id}\n`;

/** Any code point. fast-check's own "binary" is that too, and takes a second and a half to be made. */
const anyCodePoint = fc.nat({ max: 0x10ffff - 0x800 }).map((n) => String.fromCodePoint(n < 0xd800 ? n : n + 0x800));

type Seen = readonly [string | null, string];

function read(chunks: readonly (string | Buffer)[], of: string | null = nonce): Seen[] {
  const seen: Seen[] = [];
  const reader = new LineReader(of, (bytes, start, stop, invocation) =>
    seen.push([invocation, decodeLine(bytes, start, stop)]),
  );
  for (const chunk of chunks) reader.feed(Buffer.from(chunk));
  reader.flush();
  return seen;
}

void describe("lines", () => {
  void test("belong to the invocation between its marks, and to none outside", () => {
    const text = `load\n${begin(a)}one\ntwo\n${end(a)}late\n${begin(b)}three\n${end(b)}`;
    assert.deepEqual(read([text]), [
      [null, "load"],
      [a, "one"],
      [a, "two"],
      [null, "late"],
      [b, "three"],
    ]);
  });

  void test("that no newline has ended are ended by a mark", () => {
    assert.deepEqual(read([`${begin(a)}no newline${end(a)}more${begin(b)}x`]), [
      [a, "no newline"],
      [null, "more"],
      [b, "x"],
    ]);
  });

  void test("that only look like marks are text", () => {
    const forged = [
      begin(b, "f".repeat(32)),
      `\x1e${nonce} * ${b}\n`,
      begin("not an id at all, no, not!"),
      `${nonce} + ${b}\n`,
    ];
    for (const [invocation, text] of read([begin(a), ...forged])) {
      assert.equal(invocation, a);
      assert.ok(!text.includes("\x1e"));
    }
    assert.deepEqual(
      read([begin(a)], null).map(([invocation]) => invocation),
      [null],
    );
  });

  void test("are the same however the bytes arrive", () => {
    const part = fc.oneof(
      fc.constantFrom(begin(a), end(a), begin(b), end(b), "\n", "\r\n", "é", "€", "😀", "\x1e", nonce),
      fc.string({ maxLength: 20, unit: "grapheme" }),
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 30 }), fc.array(fc.integer({ min: 1, max: 50 })), (parts, cuts) => {
        const whole = Buffer.from(parts.join(""));
        const chunks: Buffer[] = [];
        let at = 0;
        for (const cut of cuts) {
          chunks.push(whole.subarray(at, at + cut));
          at += cut;
        }
        chunks.push(whole.subarray(at));
        assert.deepEqual(read(chunks), read([whole]));
      }),
    );
  });

  void test("longer than the limit are cut, between characters", () => {
    const long = "é".repeat(logLimits.lineBytes);
    const seen = read([`${begin(a)}${long.slice(0, 9000)}`, `${long.slice(9000)}\nnext\n`]);
    assert.equal(seen.at(-1)?.[1], "next");
    const pieces = seen.slice(0, -1);
    assert.equal(pieces.map(([, text]) => text).join(""), long);
    for (const [invocation, text] of pieces) {
      assert.equal(invocation, a);
      assert.ok(Buffer.byteLength(text) <= logLimits.lineBytes);
    }
  });
});

void describe("text", () => {
  void test("cannot move a cursor, ring, erase, hide, or pass for two lines", () => {
    assert.equal(harmless("a\x1b[2Jb\x07\0c\td"), "a␛[2Jb␇␀c\td");
    assert.equal(harmless("x\ry\u009bz\u202ew\u2028v\x7f"), "x␍y�z�w�v␡");
    assert.equal(decodeLine(Buffer.from("windows\r"), 0, 8), "windows");
    assert.equal(decodeLine(Buffer.from([0x61, 0xff, 0x62]), 0, 3), "a�b");
    // oxlint-disable-next-line no-control-regex
    const controls = /[\0-\x08\n-\x1f\x7f-\x9f]/;
    fc.assert(fc.property(fc.string({ unit: anyCodePoint }), (text) => !controls.test(harmless(text))));
  });

  void test("in JSON says its own level, and nothing else does", () => {
    assert.equal(levelOfJson('{"level":"WARN","message":"m"}'), "warn");
    assert.equal(levelOfJson('{"level":50,"msg":"m"}'), "error");
    assert.equal(levelOfJson('{"severity":"DEBUG","message":"m"}'), "debug");
    for (const no of [
      '{"level":"warn"}',
      '{"level":"loud","msg":"m"}',
      '{"level":"warn","msg":1}',
      '{"level":',
      "{}",
      "",
      '{"level":"constructor","msg":"m"}',
    ])
      assert.equal(levelOfJson(no), null, no);
  });
});

void describe("frames", () => {
  void test("are read for what they are, and what is none is nothing", () => {
    const frame = readFrame(`{"i":"${a}","s":"err","t":5,"m":"x","l":"warn"}`);
    assert.deepEqual(frame, { invocation: a, stream: "stderr", timeMs: 5, level: "warn", text: "x" });
    const strange = readFrame('{"i":"../../etc","s":"out","t":"now","m":"\\ud800","l":"loud"}');
    assert.deepEqual(strange, { invocation: null, stream: "stdout", timeMs: null, level: null, text: "�" });
    for (const no of ["", "null", "[]", '"x"', "{", '{"s":"out"}', '{"m":"x"}', '{"s":"in","m":"x"}'])
      assert.equal(readFrame(no), null, no);
  });

  void test("that are too long are counted once and left out, wherever they are cut", () => {
    const seen: string[] = [];
    const tooLong: number[] = [];
    const reader = new FrameReader(
      (bytes, start, stop) => seen.push(bytes.toString("utf8", start, stop)),
      (bytes) => tooLong.push(bytes),
    );
    const text = Buffer.from(`one\n${"x".repeat(logLimits.frameBytes + 5)}\ntwo\n`);
    for (let at = 0; at < text.length; at += 60_000) reader.feed(text.subarray(at, at + 60_000));
    assert.deepEqual(seen, ["one", "two"]);
    assert.deepEqual(tooLong, [logLimits.frameBytes + 5]);
  });
});

void test("a bucket keeps a burst, then the rate; it says what it dropped, and goes on when it is worth it", () => {
  const bucket = new Bucket(1000, 4000, 0);
  let kept = 0;
  while (bucket.take(36)) kept++;
  assert.equal(kept, 40);
  assert.equal(bucket.take(36), false);
  assert.deepEqual(bucket.takeDropped(), { lines: 2, bytes: 72 });
  assert.equal(bucket.takeDropped(), null);
  bucket.refill(200_000);
  assert.equal(bucket.take(36), false, "200 ms are not worth it");
  bucket.refill(250_000);
  assert.equal(bucket.dropping, false);
  assert.equal(bucket.take(36), true);
});
