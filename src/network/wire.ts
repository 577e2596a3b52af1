// DNS messages as bytes: queries are read strictly by hand, answers of resolvers by dns-packet behind bounds. RFC 1035, 6891.

import { randomInt } from "node:crypto";
import { RECURSION_AVAILABLE, RECURSION_DESIRED, TRUNCATED_RESPONSE } from "dns-packet";
import packet from "dns-packet";
import { resolverLimits } from "#model/limits.ts";
import type { AnswerRecord, Question, Rcode, Reply, UpstreamAnswer } from "./decide.ts";

const headerBytes = 12;
const typeNames: Readonly<Record<number, string>> = {
  1: "A",
  2: "NS",
  5: "CNAME",
  6: "SOA",
  12: "PTR",
  15: "MX",
  16: "TXT",
  28: "AAAA",
  33: "SRV",
  35: "NAPTR",
  257: "CAA",
};
const typeNumbers = new Map(Object.entries(typeNames).map(([number, name]) => [name, Number(number)]));
const rcodes: readonly Rcode[] = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];

export interface Query {
  readonly id: number;
  readonly question: Question;
  /** The question as it was sent (letter case too), to be echoed. */
  readonly questionBytes: Uint8Array;
  readonly recursionDesired: boolean;
  /** Largest datagram that the asker takes; null: it did not say (512). */
  readonly datagramBytes: number | null;
}

export type ReadQuery =
  | { readonly ok: true; readonly query: Query }
  /** Answer with this code and nothing else. */
  | { readonly ok: false; readonly id: number; readonly rcode: Rcode }
  /** Not a query at all: no answer, or two servers would answer each other for ever. */
  | { readonly ok: null };

/** Never throws. One question, no other record but one OPT; a name of letters, digits, hyphens and underscores. */
export function readQuery(bytes: Uint8Array): ReadQuery {
  if (bytes.length < headerBytes || bytes.length > resolverLimits.queryBytes) return { ok: null };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const id = view.getUint16(0);
  const flags = view.getUint16(2);
  if (flags & 0x8000) return { ok: null };
  if ((flags >> 11) & 15) return { ok: false, id, rcode: "NOTIMP" };
  const malformed = { ok: false, id, rcode: "FORMERR" } as const;
  if (view.getUint16(4) !== 1 || view.getUint16(6) !== 0 || view.getUint16(8) !== 0 || view.getUint16(10) > 1)
    return malformed;
  const name = readName(bytes, headerBytes);
  if (!name || name.end + 4 > bytes.length) return malformed;
  const type = view.getUint16(name.end);
  if (view.getUint16(name.end + 2) !== 1) return { ok: false, id, rcode: "NOTIMP" };
  const end = name.end + 4;
  const datagramBytes = view.getUint16(10) === 1 ? readOpt(view, end) : end === bytes.length ? null : -1;
  if (datagramBytes === -1) return malformed;
  return {
    ok: true,
    query: {
      id,
      question: { name: name.text.toLowerCase(), type: typeNames[type] ?? `TYPE${type}` },
      questionBytes: bytes.slice(headerBytes, end),
      recursionDesired: (flags & 0x0100) !== 0,
      datagramBytes,
    },
  };
}

function readName(bytes: Uint8Array, start: number): { readonly text: string; readonly end: number } | null {
  const labels: string[] = [];
  let at = start;
  for (;;) {
    const length = bytes[at++];
    if (length === undefined || length > 63 || at - start > 254) return null;
    if (length === 0) return { text: labels.join("."), end: at };
    if (at + length > bytes.length) return null;
    const label = Buffer.from(bytes.buffer, bytes.byteOffset + at, length).toString("latin1");
    if (!/^[A-Za-z0-9_-]+$/.test(label)) return null;
    labels.push(label);
    at += length;
  }
}

/** Size of datagrams that an OPT record tells (RFC 6891, 6.1.2); -1: this is no OPT record that ends the message. */
function readOpt(view: DataView, at: number): number {
  if (at + 11 > view.byteLength || view.getUint8(at) !== 0 || view.getUint16(at + 1) !== 41) return -1;
  if (at + 11 + view.getUint16(at + 9) !== view.byteLength) return -1;
  return Math.max(512, view.getUint16(at + 3));
}

/** The query we send on: our own id, nothing of the asker's bytes but name and type. */
export function writeUpstreamQuery(question: Question, id: number = randomInt(65_536)): { id: number; bytes: Buffer } {
  const number = typeNumbers.get(question.type);
  if (number === undefined) throw new TypeError(`not a type that is asked upstream: ${question.type}`);
  const name = encodeName(question.name);
  const bytes = Buffer.alloc(headerBytes + name.length + 4 + 11);
  bytes.writeUInt16BE(id, 0);
  bytes.writeUInt16BE(RECURSION_DESIRED, 2);
  bytes.writeUInt16BE(1, 4);
  bytes.writeUInt16BE(1, 10);
  let at = headerBytes + name.copy(bytes, headerBytes);
  at = bytes.writeUInt16BE(number, at);
  at = bytes.writeUInt16BE(1, at) + 1; // the OPT record's name is the root: one zero byte
  at = bytes.writeUInt16BE(41, at);
  bytes.writeUInt16BE(resolverLimits.datagramBytes, at);
  return { id, bytes };
}

function encodeName(name: string): Buffer {
  if (name === "") return Buffer.from([0]);
  return Buffer.concat([
    ...name.split(".").flatMap((label) => [Buffer.from([label.length]), Buffer.from(label, "latin1")]),
    Buffer.from([0]),
  ]);
}

/**
 * What a resolver answered to `id` and `question`. Null: not the answer to that (another id, another question, garbage).
 * Never throws; records that were not asked for are dropped here, so that nothing can be planted in the cache.
 */
export function readUpstreamAnswer(bytes: Uint8Array, id: number, question: Question): UpstreamAnswer | null {
  if (bytes.length < headerBytes || bytes.length > resolverLimits.upstreamBytes) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const flags = view.getUint16(2);
  if (view.getUint16(0) !== id || !(flags & 0x8000) || (flags >> 11) & 15 || view.getUint16(4) !== 1) return null;
  if (view.getUint16(6) + view.getUint16(8) + view.getUint16(10) > resolverLimits.records) return null;
  const name = readName(bytes, headerBytes);
  if (!name || name.text.toLowerCase() !== question.name || name.end + 4 > bytes.length) return null;
  if (view.getUint16(name.end) !== typeNumbers.get(question.type) || view.getUint16(name.end + 2) !== 1) return null;
  const rcode = rcodes[flags & 15] ?? "SERVFAIL";
  const truncated = (flags & TRUNCATED_RESPONSE) !== 0;
  if (truncated) return { rcode, truncated, records: [], authority: [] };
  try {
    const decoded = packet.decode(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    const records = recordsOf(decoded.answers ?? []);
    const authority = recordsOf(decoded.authorities ?? []).filter((record) => record.type === "SOA");
    return { rcode, truncated, records, authority: authority.slice(0, 1) };
  } catch {
    return null;
  }
}

function recordsOf(answers: readonly packet.Answer[]): readonly AnswerRecord[] {
  const records: AnswerRecord[] = [];
  for (const answer of answers) {
    if (answer.type === "OPT" || !("data" in answer) || !typeNumbers.has(answer.type)) continue;
    if (answer.class !== undefined && answer.class !== "IN") continue;
    if (![answer.name, ...namesIn(answer.data)].every(isName)) continue;
    // RFC 2181, section 8: a time to live with the top bit set is none
    const ttl = "ttl" in answer ? (answer.ttl ?? 0) : 0;
    records.push({
      name: answer.name === "." ? "" : answer.name.toLowerCase(),
      type: answer.type,
      ttlSeconds: ttl > 0x7fff_ffff ? 0 : ttl,
      data: answer.data,
    });
  }
  return records;
}

/** Domain names within a record's data. */
function namesIn(data: unknown): readonly unknown[] {
  if (typeof data === "string") return [data];
  if (typeof data !== "object" || data === null) return [];
  const fields = new Map<string, unknown>(Object.entries(data));
  return ["exchange", "target", "mname", "rname", "replacement"].flatMap((key) => fields.get(key) ?? []);
}

/** What can be written again as it was read: the library reads labels as UTF-8, and lets dots within them pass. */
function isName(value: unknown): boolean {
  if (typeof value !== "string" || value.length > 253) return false;
  return value === "." || value === "" || /^([\x21-\x2d\x2f-\x7e]{1,63}\.)*[\x21-\x2d\x2f-\x7e]{1,63}\.?$/.test(value);
}

/** The answer's bytes, at most `limitBytes`: what does not fit is left out and the answer marked as truncated. Never throws. */
export function writeReply(query: Query, reply: Reply, limitBytes: number): Buffer {
  const encoded = encode(query, reply);
  if (encoded && encoded.length <= limitBytes) return encoded;
  const empty: Reply = { ...reply, records: [], authority: [] };
  const short = encode(query, encoded ? empty : { ...empty, rcode: "SERVFAIL" })!;
  if (encoded) short.writeUInt16BE(short.readUInt16BE(2) | TRUNCATED_RESPONSE, 2);
  return short;
}

function encode(query: Query, reply: Reply): Buffer | null {
  const sections = encodeRecords(reply);
  if (!sections) return null;
  const opt = query.datagramBytes === null ? Buffer.alloc(0) : optRecord(reply);
  const header = headerOf(query.id, reply.rcode, query.recursionDesired);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(reply.records.length, 6);
  header.writeUInt16BE(reply.authority.length, 8);
  header.writeUInt16BE(opt.length ? 1 : 0, 10);
  return Buffer.concat([header, query.questionBytes, sections, opt]);
}

/** The records alone: the library writes a message without a question, its head is cut off (it never compresses names). */
function encodeRecords(reply: Reply): Buffer | null {
  if (reply.records.length + reply.authority.length === 0) return Buffer.alloc(0);
  try {
    const bytes = packet.encode({
      type: "response",
      answers: reply.records.map(libraryForm),
      authorities: reply.authority.map(libraryForm),
    });
    return bytes.subarray(headerBytes);
  } catch {
    return null;
  }
}

function libraryForm(record: AnswerRecord): packet.Answer {
  const { name, type, ttlSeconds: ttl, data } = record;
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- type and data came from the library's own decoder, or are an address
  return { name: name || ".", type, ttl, class: "IN", data } as packet.Answer;
}

/** With an Extended DNS Error (RFC 8914) where something was blocked: `dig` shows why. */
function optRecord(reply: Reply): Buffer {
  const text = reply.blocked === null ? Buffer.alloc(0) : Buffer.from(reply.blocked, "utf8");
  const optionBytes = reply.blocked === null ? 0 : 6 + text.length;
  const bytes = Buffer.alloc(11 + optionBytes);
  bytes.writeUInt16BE(41, 1);
  bytes.writeUInt16BE(resolverLimits.datagramBytes, 3);
  bytes.writeUInt16BE(optionBytes, 9);
  if (optionBytes > 0) {
    bytes.writeUInt16BE(15, 11); // option EDE
    bytes.writeUInt16BE(2 + text.length, 13);
    bytes.writeUInt16BE(15, 15); // info code "Blocked"
    text.copy(bytes, 17);
  }
  return bytes;
}

/** An answer that is only a code. */
export function writeRefusal(id: number, rcode: Rcode): Buffer {
  return headerOf(id, rcode, false);
}

function headerOf(id: number, rcode: Rcode, recursionDesired: boolean): Buffer {
  const header = Buffer.alloc(headerBytes);
  header.writeUInt16BE(id, 0);
  const desired = recursionDesired ? RECURSION_DESIRED : 0;
  header.writeUInt16BE(0x8000 | RECURSION_AVAILABLE | desired | Math.max(0, rcodes.indexOf(rcode)), 2);
  return header;
}
