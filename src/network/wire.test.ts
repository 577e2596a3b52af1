// Bytes of DNS: hostile ones change nothing and throw nothing, honest ones survive the round trip.

import assert from "node:assert/strict";
import { test } from "node:test";
import packet from "dns-packet";
import * as fc from "fast-check";
import { readQuery, readUpstreamAnswer, writeReply, writeUpstreamQuery, type Query } from "./wire.ts";

const queryBytes = (name: string, type: "A" | "AAAA" | "TXT" = "A", edns: number | null = null): Buffer =>
  packet.encode({
    type: "query",
    id: 7,
    flags: packet.RECURSION_DESIRED,
    questions: [{ type, name }],
    ...(edns === null
      ? {}
      : {
          additionals: [
            {
              type: "OPT" as const,
              name: ".",
              udpPayloadSize: edns,
              extendedRcode: 0,
              ednsVersion: 0,
              flags: 0,
              flag_do: false,
              options: [],
            },
          ],
        }),
  });

function query(name: string, edns: number | null = null): Query {
  const read = readQuery(queryBytes(name, "A", edns));
  assert.ok(read.ok);
  return read.query;
}

void test("a query is read with its name in lower case, its type and the size of datagrams", () => {
  const read = readQuery(queryBytes("WWW.Example.COM", "TXT", 1_400));
  assert.ok(read.ok);
  assert.deepEqual(read.query.question, { name: "www.example.com", type: "TXT" });
  assert.equal(read.query.datagramBytes, 1_400);
  assert.equal(query("a.b").datagramBytes, null);
});

void test("no bytes make the readers throw", () => {
  const header = fc.tuple(fc.nat(0xffff), fc.nat(0xffff), fc.nat(3), fc.nat(3), fc.nat(3), fc.nat(3));
  const message = fc.tuple(header, fc.uint8Array({ maxLength: 300 })).map(([words, rest]) => {
    const bytes = Buffer.alloc(12 + rest.length);
    for (const [at, word] of words.entries()) bytes.writeUInt16BE(word, at * 2);
    bytes.set(rest, 12);
    return bytes;
  });
  const q = { name: "www.example.com", type: "A" };
  const honest = packet.encode({
    type: "response",
    id: 7,
    questions: [{ type: "A", name: "www.example.com" }],
    answers: [
      { type: "A", name: "www.example.com", ttl: 1, data: "20.0.0.1" },
      { type: "TXT", name: "www.example.com", ttl: 1, data: "x" },
    ],
  });
  const bent = fc.array(fc.tuple(fc.nat(honest.length - 1), fc.nat(255)), { maxLength: 8 }).map((changes) => {
    const bytes = Buffer.from(honest);
    for (const [at, to] of changes) bytes[at] = to;
    return bytes;
  });
  fc.assert(
    fc.property(fc.oneof(message, bent, fc.uint8Array({ maxLength: 2_000 })), (bytes) => {
      const read = readQuery(bytes);
      if (read.ok) writeReply(read.query, { rcode: "NOERROR", records: [], authority: [], blocked: null }, 512);
      const answer = readUpstreamAnswer(bytes, 7, q);
      if (!answer) return;
      // whatever passed can be told on, within the limit, and is read by a stranger
      const reply = { rcode: "NOERROR" as const, records: answer.records, authority: answer.authority, blocked: null };
      const told = writeReply(query("www.example.com"), reply, 512);
      assert.ok(told.length <= 512);
      packet.decode(told);
    }),
    { numRuns: 2_000 },
  );
});

void test("answers are not answered, and malformed queries get a code", () => {
  const asAnswer = queryBytes("www.example.com");
  asAnswer.writeUInt16BE(0x8000, 2);
  assert.equal(readQuery(asAnswer).ok, null);
  const update = queryBytes("www.example.com");
  update.writeUInt16BE(5 << 11, 2);
  assert.deepEqual(readQuery(update), { ok: false, id: 7, rcode: "NOTIMP" });
  for (const bad of [
    packet.encode({
      type: "query",
      id: 7,
      questions: [
        { type: "A", name: "a.b" },
        { type: "A", name: "c.d" },
      ],
    }),
    packet.encode({ type: "query", id: 7, questions: [] }),
    Buffer.concat([queryBytes("a.b"), Buffer.from([1])]),
    queryBytes("a b.example"),
    queryBytes("ü.example"),
  ])
    assert.deepEqual(readQuery(bad), { ok: false, id: 7, rcode: "FORMERR" });
});

const answer = (id: number, name: string, type: "A" | "TXT" = "A"): Buffer =>
  packet.encode({
    type: "response",
    id,
    questions: [{ type, name }],
    answers: [{ type: "A", name, ttl: 1, data: "20.0.0.1" }],
  });

void test("only the answer to this id and this question is taken", () => {
  const q = { name: "www.example.com", type: "A" };
  assert.ok(readUpstreamAnswer(answer(7, "WWW.example.com"), 7, q));
  assert.equal(readUpstreamAnswer(answer(8, "www.example.com"), 7, q), null);
  assert.equal(readUpstreamAnswer(answer(7, "evil.example.com"), 7, q), null);
  assert.equal(readUpstreamAnswer(answer(7, "www.example.com", "TXT"), 7, q), null);
  assert.equal(readUpstreamAnswer(queryBytes("www.example.com"), 7, q), null);
});

void test("what does not fit is marked as truncated, and the reason of a block is told to who can read it", () => {
  const records = Array.from({ length: 60 }, (_, i) => ({
    name: "x.example",
    type: "A",
    ttlSeconds: 1,
    data: `20.0.0.${i}`,
  }));
  const reply = { rcode: "NOERROR" as const, records, authority: [], blocked: null };
  const short = packet.decode(writeReply(query("x.example"), reply, 512));
  assert.equal(short.flag_tc, true);
  assert.deepEqual(short.answers, []);
  const long = packet.decode(writeReply(query("x.example"), reply, 0xffff));
  assert.equal(long.answers?.length, 60);
  const blocked = { rcode: "NXDOMAIN" as const, records: [], authority: [], blocked: "egress is none" };
  assert.match(writeReply(query("x.example", 1_232), blocked, 512).toString("latin1"), /egress is none$/);
});

void test("an upstream query is a plain one: recursion, one question, EDNS, an id by chance", () => {
  const { id, bytes } = writeUpstreamQuery({ name: "www.example.com", type: "MX" });
  const decoded = packet.decode(bytes);
  assert.equal(decoded.id, id);
  assert.deepEqual(decoded.questions, [{ name: "www.example.com", type: "MX", class: "IN" }]);
  assert.equal(decoded.additionals?.[0]?.type, "OPT");
  const ids = new Set(Array.from({ length: 50 }, () => writeUpstreamQuery({ name: "", type: "NS" }).id));
  assert.ok(ids.size > 40);
});
