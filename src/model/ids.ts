// Identifiers: opaque, random, sortable by time where that helps a reader.

import { randomBytes } from "node:crypto";

export type InvocationId = string;
export type InstanceId = string;
export type SandboxId = string;

const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"; // Crockford's base 32: no i, l, o, u

// Random bytes are drawn in bulk: one id on the request path must not cost a system call.
const poolBytes = 32 * 1024;
let pool = Buffer.alloc(0);
let used = 0;
function draw(count: number): Buffer {
  if (used + count > pool.length) {
    pool = randomBytes(poolBytes);
    used = 0;
  }
  used += count;
  return pool.subarray(used - count, used);
}

/** Two characters for each ten bits: a table of pairs halves the strings that are made on the way. */
const pairs = Array.from({ length: 1_024 }, (_, bits) => alphabet[bits >> 5]! + alphabet[bits & 31]!);

/** An even number of characters, one for each byte. */
function base32(bytes: Uint8Array): string {
  let out = "";
  for (let i = 0; i < bytes.length; i += 2) out += pairs[((bytes[i]! & 31) << 5) | (bytes[i + 1]! & 31)];
  return out;
}

// Many ids are made within one millisecond.
let timed = -1;
let timeText = "";
function time(wallMs: number): string {
  if (wallMs === timed) return timeText;
  timed = wallMs;
  timeText = "";
  let rest = Math.max(0, Math.floor(wallMs));
  for (let i = 0; i < 10; i++) {
    timeText = alphabet[rest % 32] + timeText;
    rest = Math.floor(rest / 32);
  }
  return timeText;
}

/** 26 characters: 10 of time, 16 of chance (80 bits); sorts by creation, as a ULID does. */
export function newInvocationId(wallMs: number): InvocationId {
  return time(wallMs) + base32(draw(16));
}

/** 12 characters of chance (60 bits), after the letter that says what it names. */
export function newInstanceId(): InstanceId {
  return "i" + base32(draw(12));
}

/** Opaque: it is what a tenant can read in its own mountinfo, so it says nothing. */
export function newSandboxId(): SandboxId {
  return "s" + base32(draw(12));
}

/** An id that is told to a caller in place of an unknown error's detail. */
export function newErrorId(): string {
  return "e" + base32(draw(12));
}

export function isInvocationId(text: string): boolean {
  return /^[0-9a-hjkmnp-tv-z]{26}$/.test(text);
}

/** Random hex; `bytes` of chance. */
export function randomHex(bytes: number): string {
  return draw(bytes).toString("hex");
}
