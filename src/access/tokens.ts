// Tokens as text: how they are made, hashed and spotted. The text itself is never kept.

import { hash, randomBytes } from "node:crypto";

const secretBytes = 32;
/** Credentials are drawn for so many at once: after a rest a draw takes a tenth of a millisecond, in the middle of a cold start. */
const drawnAtOnce = 32;
let drawn = Buffer.alloc(0);

const tokenShape = /^ebb_[A-Za-z0-9_-]{43}$/;
const credentialShape = /^ebi_[A-Za-z0-9_-]{43}$/;
/** Anywhere in a text: the prefix and the length are ours alone, so that secret scanners find it too. */
const anywhere = /eb[bi]_[A-Za-z0-9_-]{43}/;

/** `ebb_` and 256 random bits, base64url. */
export function newToken(): string {
  return `ebb_${randomBytes(secretBytes).toString("base64url")}`;
}

/** `ebi_`: of one living instance. Another prefix, so that neither can be mistaken for the other. */
export function newCredential(): string {
  if (drawn.length === 0) drawn = randomBytes(drawnAtOnce * secretBytes);
  const text = `ebi_${drawn.toString("base64url", 0, secretBytes)}`;
  drawn = drawn.subarray(secretBytes);
  return text;
}

export function isToken(text: string): boolean {
  return tokenShape.test(text);
}

export function isCredential(text: string): boolean {
  return credentialShape.test(text);
}

/** SHA-256, hex. 256 bits of chance need no salt and no slow hash. */
export function hashOf(text: string): string {
  return hash("sha256", text);
}

/**
 * Is there one of ours in this Authorization header? Plainly, or inside Basic's base64 (`curl -u user:ebb_…`): wherever
 * user code would find it.
 */
export function looksLikeOurs(authorization: string): boolean {
  if (anywhere.test(authorization)) return true;
  const basic = /^\s*basic\s+([A-Za-z0-9+/_=-]+)\s*$/i.exec(authorization);
  return basic !== null && anywhere.test(Buffer.from(basic[1]!, "base64").toString("latin1"));
}
