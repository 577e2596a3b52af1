// The head of the request to an instance, as the bytes that go out: what ebb adds, and what a caller may not bring along.

import { randomHex } from "#model/ids.ts";
import type { Call } from "./door.ts";

// W3C Trace Context, level 2: version, trace, parent, flags; a higher version may carry more behind.
const traceparentShape = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const zeroTrace = "0".repeat(32);
const zeroParent = "0".repeat(16);

/** The trace id of a valid traceparent; null: not valid, to be replaced. */
export function traceIdOf(traceparent: string): string | null {
  const match = traceparentShape.exec(traceparent);
  if (!match || match[1] === "ff" || (match[1] === "00" && match[5] !== undefined)) return null;
  return match[2] === zeroTrace || match[3] === zeroParent ? null : match[2]!;
}

/** What goes to an instance first. */
export interface InstanceRequest {
  /** latin1: the head with its empty line, and a short body behind it; empty where it goes by HTTP/2. */
  readonly text: string;
  /** Of the body in `text`. 0: there is none, or it follows as it comes. */
  readonly bodyBytes: number;
  /** Of HTTP/2: names and values in turn, pseudo headers first. null: it goes by HTTP/1.1. */
  readonly fields: readonly string[] | null;
  readonly traceId: string;
}

/** `deadlineMs`: what remains of the workload's timeout. */
export function requestHead(call: Call, deadlineMs: number): InstanceRequest {
  const { headers, body } = call;
  let text = `${call.method} ${call.target} HTTP/1.1\r\n`;
  let traceparent: string | null = null;
  let tracestate = "";
  let upgrade = "";
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i]!;
    const value = headers[i + 1]!;
    switch (name) {
      case "traceparent":
        // Two of them are as good as none.
        traceparent = traceparent === null ? value : "";
        continue;
      case "tracestate":
        tracestate += `tracestate: ${value}\r\n`;
        continue;
      case "upgrade":
        upgrade = value;
        continue;
      case "connection":
      case "keep-alive":
      case "content-length":
      case "transfer-encoding":
      case "expect":
        continue;
      default:
        if (!name.startsWith("ebb-")) text += `${name}: ${value}\r\n`;
    }
  }
  let traceId = traceparent === null ? null : traceIdOf(traceparent);
  if (traceId === null) {
    const fresh = randomHex(24);
    traceId = fresh.slice(0, 32);
    text += `traceparent: 00-${traceId}-${fresh.slice(32)}-01\r\n`;
  } else {
    text += `traceparent: ${traceparent}\r\n${tracestate}`;
  }
  if (call.upgrade) text += `connection: upgrade\r\nupgrade: ${upgrade}\r\n`;
  if (body !== null)
    text += body.lengthBytes === null ? "transfer-encoding: chunked\r\n" : `content-length: ${body.lengthBytes}\r\n`;
  else if (mayHaveBody(call.method)) text += "content-length: 0\r\n";
  text += `ebb-invocation-id: ${call.id}\r\nebb-deadline-ms: ${deadlineMs}\r\nebb-trigger: ${call.trigger}\r\n\r\n`;
  return { text, bodyBytes: 0, fields: null, traceId };
}

/** RFC 9110, 8.6: a method that anticipates content says that there is none. */
function mayHaveBody(method: string): boolean {
  return method === "POST" || method === "PUT" || method === "PATCH";
}

// What a sender could use to make one request into two.
const unsafe = /[^\t\x20-\x7e\x80-\xff]/;
const unsafeTarget = /[^\x21-\x7e]/;
const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/** Why this call cannot be written as HTTP; null: it can. For callers other than the gateway, whose parser has checked. */
export function refuseCall(call: Call): string | null {
  if (!token.test(call.method)) return "its method is not a token";
  if (!call.target.startsWith("/") || unsafeTarget.test(call.target)) return "its target is not a path in ASCII";
  for (let i = 0; i < call.headers.length; i += 2) {
    const name = call.headers[i]!;
    if (!token.test(name) || name !== name.toLowerCase()) return `its header "${name}" is not a lower-case token`;
    if (unsafe.test(call.headers[i + 1]!)) return `its header "${name}" has a control character`;
  }
  return null;
}
