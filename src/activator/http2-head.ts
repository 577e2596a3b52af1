// Heads of an instance that speaks HTTP/2: what ebb adds to a request's, and what of an answer's goes on.

import { belongsToConnection } from "#lib/http2.ts";
import { randomHex } from "#model/ids.ts";
import type { Call } from "./door.ts";
import { traceIdOf, type InstanceRequest } from "./request-head.ts";
import type { ResponseHead } from "./response-head.ts";

/** `deadlineMs`: what remains of the workload's timeout. */
export function http2RequestHead(call: Call, deadlineMs: number): InstanceRequest {
  const { headers, body } = call;
  let authority = "";
  let traceparent: string | null = null;
  const kept: string[] = [];
  const tracestate: string[] = [];
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i]!;
    const value = headers[i + 1]!;
    if (name === "host") authority = value;
    // Two of them are as good as none.
    else if (name === "traceparent") traceparent = traceparent === null ? value : "";
    else if (name === "tracestate") tracestate.push(name, value);
    else if (name !== "content-length" && name !== "expect" && !belongsToConnection(name) && !name.startsWith("ebb-"))
      kept.push(name, value);
  }
  const fields = [":method", call.method, ":scheme", "http", ":authority", authority, ":path", call.target];
  fields.push(...kept);
  let traceId = traceparent === null ? null : traceIdOf(traceparent);
  if (traceId === null) {
    const fresh = randomHex(24);
    traceId = fresh.slice(0, 32);
    fields.push("traceparent", `00-${traceId}-${fresh.slice(32)}-01`);
  } else {
    fields.push("traceparent", traceparent!, ...tracestate);
  }
  // Trailers go on to whoever can read them; servers of gRPC refuse a client that does not say so.
  fields.push("te", "trailers");
  if (body !== null && body.lengthBytes !== null) fields.push("content-length", String(body.lengthBytes));
  fields.push("ebb-invocation-id", call.id, "ebb-deadline-ms", String(deadlineMs), "ebb-trigger", call.trigger);
  return { text: "", bodyBytes: 0, fields, traceId };
}

/** `raw`: as node:http2 tells them; nghttp2 has checked their form. null: its status or its length is none. */
export function http2ResponseHead(raw: readonly string[]): ResponseHead | null {
  let status = 0;
  let lengthBytes: number | null = null;
  const headers: string[] = [];
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = raw[i]!;
    const value = raw[i + 1]!;
    if (name === ":status") status = /^[2-5]\d\d$/.test(value) ? Number(value) : 0;
    else if (name === "content-length") {
      if (lengthBytes !== null || !/^\d{1,15}$/.test(value)) return null;
      lengthBytes = Number(value);
    } else if (!name.startsWith(":") && !name.startsWith("ebb-") && !belongsToConnection(name))
      headers.push(name, value);
  }
  if (status === 0) return null;
  return {
    status,
    headers,
    framing: "close",
    lengthBytes,
    keepAlive: true,
    keepAliveMs: null,
    done: false,
    trails: true,
  };
}
