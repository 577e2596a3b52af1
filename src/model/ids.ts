// Identifiers: opaque, random, sortable by time where that helps a reader.

import { randomBytes } from "node:crypto";

export type InvocationId = string;
export type InstanceId = string;
export type SandboxId = string;

const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"; // Crockford's base 32: no i, l, o, u

/**
 * Random characters, drawn and encoded in bulk: an id on the request path costs neither a system call nor a loop, only a slice of
 * text that is there already. (A slice of 13 or more keeps that text alive until it is written somewhere: short ones do not.)
 */
function source(encode: (bytes: Buffer) => string): (characters: number) => string {
  let text = "";
  let used = 0;
  return (characters) => {
    if (used + characters > text.length) {
      text = encode(randomBytes(drawnBytes));
      used = 0;
    }
    used += characters;
    return text.slice(used - characters, used);
  };
}
const drawnBytes = 16 * 1024;
/** Five bits of each byte. */
const base32 = source((bytes) => {
  for (let i = 0; i < bytes.length; i++) bytes[i] = alphabet.charCodeAt(bytes[i]! & 31);
  return bytes.toString("latin1");
});
const hex = source((bytes) => bytes.toString("hex"));

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
  return time(wallMs) + base32(16);
}

const valueOf = new Map(Array.from(alphabet, (character, value) => [character.charCodeAt(0), value]));
const values = Int8Array.from({ length: 128 }, (_, code) => valueOf.get(code) ?? -1);

/** When an invocation's id was made, epoch ms; null: it is none. */
export function timeOfId(id: InvocationId): number | null {
  if (id.length !== 26) return null;
  let wallMs = 0;
  for (let i = 0; i < 10; i++) {
    const value = values[id.charCodeAt(i)] ?? -1;
    if (value < 0) return null;
    wallMs = wallMs * 32 + value;
  }
  return wallMs;
}

/** 12 characters of chance (60 bits), after the letter that says what it names. */
export function newInstanceId(): InstanceId {
  return "i" + base32(12);
}

/** Opaque: it is what a tenant can read in its own mountinfo, so it says nothing. */
export function newSandboxId(): SandboxId {
  return "s" + base32(12);
}

/** An id that is told to a caller in place of an unknown error's detail. */
export function newErrorId(): string {
  return "e" + base32(12);
}

export function isInvocationId(text: string): boolean {
  return /^[0-9a-hjkmnp-tv-z]{26}$/.test(text);
}

/** Random hex; `bytes` of chance. */
export function randomHex(bytes: number): string {
  return hex(2 * bytes);
}
