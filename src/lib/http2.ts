// node:http2 when it is first wanted: its import takes 30 ms and 14 MiB, which a machine without HTTP/2 is spared.

import type * as http2 from "node:http2";

type Http2 = Pick<typeof http2, "connect" | "performServerHandshake" | "constants">;

let loaded: Http2 | null = null;

export function http2Module(): Http2 {
  return (loaded ??= process.getBuiltinModule("node:http2"));
}

/** RFC 9113, 7: those that are used by name here. */
export const errorCodes = {
  none: 0x0,
  internal: 0x2,
  refusedStream: 0x7,
  cancel: 0x8,
  enhanceYourCalm: 0xb,
} as const;

const names = [
  "NO_ERROR",
  "PROTOCOL_ERROR",
  "INTERNAL_ERROR",
  "FLOW_CONTROL_ERROR",
  "SETTINGS_TIMEOUT",
  "STREAM_CLOSED",
  "FRAME_SIZE_ERROR",
  "REFUSED_STREAM",
  "CANCEL",
  "COMPRESSION_ERROR",
  "CONNECT_ERROR",
  "ENHANCE_YOUR_CALM",
  "INADEQUATE_SECURITY",
  "HTTP_1_1_REQUIRED",
];

export function errorCodeName(code: number): string {
  return names[code] ?? `error ${code}`;
}

const token = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
// oxlint-disable-next-line no-control-regex
const unsafe = /[\0\r\n]/;
/** RFC 9113, 8.2.2: what belongs to a connection of HTTP/1.1, and has no meaning here. */
const ofConnections = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
  "te",
  "trailer",
]);

/** Trailers as they may go on: names and values in turn, without what would be read as framing, or is ebb's. */
export function trailersOf(raw: readonly string[], most: { readonly count: number; readonly bytes: number }): string[] {
  const kept: string[] = [];
  let bytes = 0;
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const [name, value] = [raw[i]!.toLowerCase(), raw[i + 1]!];
    if (!token.test(name) || unsafe.test(value)) continue;
    if (ofConnections.has(name) || notInTrailers.has(name) || /^(?:ebb|x-forwarded)-/.test(name)) continue;
    bytes += name.length + value.length;
    if (kept.length >= most.count * 2 || bytes > most.bytes) break;
    kept.push(name, value);
  }
  return kept;
}

/** RFC 9110, 6.5.1: what decides about framing, routing or who one is (and for whom) comes before the body or not at all. */
const notInTrailers = new Set([
  "content-length",
  "host",
  "authorization",
  "proxy-authorization",
  "cookie",
  "set-cookie",
  "forwarded",
]);

export function belongsToConnection(name: string): boolean {
  return ofConnections.has(name);
}

/** A name of a header as HTTP/2 has it, and a value that cannot end its line in HTTP/1.1. */
export function isPlainHeader(name: string, value: string): boolean {
  return token.test(name) && !unsafe.test(value);
}

/** As node:http2 takes trailers. */
export function headerObject(flat: readonly string[]): Record<string, string | string[]> {
  const headers: Record<string, string | string[]> = Object.create(null) as Record<string, string | string[]>;
  for (let i = 0; i < flat.length; i += 2) {
    const [name, value] = [flat[i]!, flat[i + 1]!];
    const before = headers[name];
    if (before === undefined) headers[name] = value;
    else headers[name] = typeof before === "string" ? [before, value] : [...before, value];
  }
  return headers;
}
