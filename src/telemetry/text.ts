// What becomes of bytes from a sandbox before anybody is shown them: cut, decoded, made harmless, given a level.

import type { LogLine } from "./door.ts";

export type Level = LogLine["level"];

const newline = 0x0a;
const carriageReturn = 0x0d;

// oxlint-disable-next-line no-control-regex
const dangerous = /[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/;
// oxlint-disable-next-line no-control-regex
const dangerousAll = /[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g;

/** Control characters become their pictures (U+2400 on): no line can move a cursor, ring, erase, or pass for two. */
export function harmless(text: string): string {
  if (!dangerous.test(text)) return text;
  return text.replace(dangerousAll, (found) => {
    const code = found.charCodeAt(0);
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    return code === 0x7f ? "\u2421" : "\ufffd";
  });
}

/** One line's bytes as text: without its CR, invalid UTF-8 replaced. */
export function decodeLine(bytes: Buffer, start: number, end: number): string {
  const last = end > start && bytes[end - 1] === carriageReturn ? end - 1 : end;
  return harmless(bytes.toString("utf8", start, last));
}

/** Where to cut so that at most `limit` bytes come before it and no UTF-8 character is torn. */
export function cutAt(bytes: Buffer, start: number, limit: number): number {
  let at = start + limit;
  for (let back = 0; back < 3 && at > start && (bytes[at]! & 0xc0) === 0x80; back++) at--;
  return at > start ? at : start + limit;
}

export function indexOfNewline(bytes: Buffer, from: number): number {
  return bytes.indexOf(newline, from);
}

const words: Readonly<Record<string, Level>> = {
  trace: "debug",
  debug: "debug",
  verbose: "debug",
  info: "info",
  information: "info",
  notice: "info",
  log: "info",
  warn: "warn",
  warning: "warn",
  error: "error",
  err: "error",
  critical: "error",
  fatal: "error",
  emergency: "error",
  alert: "error",
};

export function levelOf(value: unknown): Level | null {
  // pino and bunyan count in tens.
  if (typeof value === "number") {
    if (!(value >= 0)) return null;
    if (value < 30) return "debug";
    if (value < 40) return "info";
    return value < 50 ? "warn" : "error";
  }
  return typeof value === "string" && Object.hasOwn(words, value.toLowerCase()) ? words[value.toLowerCase()]! : null;
}

/** A level in our own words, as frames and records have it. */
export function isLevel(value: unknown): value is Level {
  return value === "debug" || value === "info" || value === "warn" || value === "error";
}

/** The members of one JSON object; null: the text is none. */
export function readObject(text: string): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

/** The level that a JSON log line says of itself ({ level, msg | message }); null: it is not one. The line stays as written. */
export function levelOfJson(text: string): Level | null {
  if (text.charCodeAt(0) !== 0x7b || text.charCodeAt(text.length - 1) !== 0x7d) return null;
  if (!text.includes('"level"') && !text.includes('"severity"')) return null;
  const said = readObject(text);
  if (said === null || (typeof said["msg"] !== "string" && typeof said["message"] !== "string")) return null;
  return levelOf(said["level"] ?? said["severity"]);
}

/** "5.1 MB", as a reader of logs counts. */
export function showBytes(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
