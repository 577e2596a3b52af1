// Step 1: reads the head once, strictly. What llhttp lets through and two servers could read in two ways is refused here.

import { METHODS } from "#lib/http.ts";
import { EbbError } from "#model/errors.ts";
import { httpLimits } from "#model/limits.ts";
import type { Inbound, KnownHeaders } from "../inbound.ts";

/** llhttp knows these alone; HTTP/2 lets any word be one. */
const methods = new Set(METHODS);

export function readHead(inbound: Inbound): EbbError | null {
  const { request } = inbound;
  const { rawHeaders } = request;
  if (request.versionMajor > 1 && request.http2 === undefined)
    return new EbbError("bad_request", `HTTP/${request.versionMajor} is not spoken here in this way.`);
  if (request.method === "TRACE" || request.method === "CONNECT")
    return new EbbError("method_not_allowed", `${request.method} is not allowed here.`);
  if (request.http2 !== undefined && !methods.has(request.method))
    return new EbbError("method_not_allowed", "Nobody knows the request's method here; methods are in upper case.");
  if (request.target.length > httpLimits.requestTargetBytes)
    return new EbbError("uri_too_long", `The request target is longer than ${httpLimits.requestTargetBytes} bytes.`);
  if (rawHeaders.length > httpLimits.requestHeaderCount * 2)
    return new EbbError("headers_too_large", `The request has more than ${httpLimits.requestHeaderCount} headers.`);
  // A target of another form would be another request in HTTP/1.1.
  if (request.http2 !== undefined && !request.target.startsWith("/"))
    return new EbbError("bad_request", "The :path does not begin with a slash.");
  let length: string | null = null;
  let encoding: string | null = null;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!.toLowerCase();
    const value = rawHeaders[i + 1]!;
    switch (name) {
      case "content-length":
        if (length !== null) return new EbbError("bad_request", "The request has two Content-Length headers.");
        length = value;
        break;
      case "transfer-encoding":
        if (encoding !== null) return new EbbError("bad_request", "The request has two Transfer-Encoding headers.");
        encoding = value;
        break;
      case "host":
        if (inbound.known.host !== null) return new EbbError("bad_host", "The request has two Host headers.");
        inbound.known.host = value;
        break;
      default: {
        const problem = note(inbound, name, value);
        if (problem) return problem;
      }
    }
  }
  dropNominated(inbound);
  return readFraming(inbound, length, encoding);
}

/** Headers of this hop, and ours, do not go on as they are. Nothing else is touched. */
function note(inbound: Inbound, name: string, value: string): EbbError | null {
  const { known } = inbound;
  switch (name) {
    case "connection":
      known.connection = joined(known.connection, value);
      return null;
    case "upgrade":
      known.upgrade = joined(known.upgrade, value);
      return null;
    case "expect":
      // RFC 9110, 10.1.1: HTTP/1.0 has none.
      if (inbound.request.versionMajor === 1 && inbound.request.versionMinor === 0) return null;
      known.expect = joined(known.expect, value);
      return known.expect.toLowerCase() === "100-continue"
        ? null
        : new EbbError("expectation_failed", "Only `expect: 100-continue` can be met.");
    case "keep-alive":
    case "proxy-connection":
    case "proxy-authorization":
    case "te":
    case "trailer":
    case "forwarded":
      return null;
    case "authorization":
      known.authorization = joined(known.authorization, value);
      inbound.headers.push(name, value);
      return null;
    case "cookie":
      return noteCookie(inbound, value);
    case "traceparent":
      known.traceparent = joined(known.traceparent, value);
      inbound.headers.push(name, value);
      return null;
    default:
      if (name.startsWith("ebb-")) return noteOurs(known, name, value);
      if (name.startsWith("x-forwarded-")) return noteForwarded(inbound, name, value);
      inbound.headers.push(name, value);
      return null;
  }
}

function noteOurs(known: KnownHeaders, name: string, value: string): EbbError | null {
  if (name === "ebb-token") {
    if (known.ebbToken !== null) return new EbbError("bad_request", "The request has two ebb-token headers.");
    known.ebbToken = value;
  } else if (name === "ebb-credential") {
    if (known.ebbCredential !== null) return new EbbError("bad_request", "The request has two ebb-credential headers.");
    known.ebbCredential = value;
  } else if (name === "ebb-invocation-id") known.ebbInvocation = value;
  return null;
}

function noteForwarded(inbound: Inbound, name: string, value: string): null {
  const { known } = inbound;
  if (name === "x-forwarded-for") known.forwardedFor = joined(known.forwardedFor, value);
  else if (name === "x-forwarded-proto") known.forwardedProto = joined(known.forwardedProto, value);
  else if (name === "x-forwarded-host") known.forwardedHost = joined(known.forwardedHost, value);
  else if (name === "x-forwarded-prefix") known.forwardedPrefix = joined(known.forwardedPrefix, value);
  // x-forwarded-port and what else there is: a trusted proxy's word goes on, anybody else's does not.
  else if (inbound.trusted) inbound.headers.push(name, value);
  return null;
}

/** Cookies whose name begins with `ebb-` are the console's: no function sees them. */
function noteCookie(inbound: Inbound, value: string): null {
  const kept = /(?:^|;)\s*ebb-/i.test(value)
    ? value
        .split(";")
        .filter((pair) => !/^\s*ebb-/i.test(pair))
        .join(";")
        .trim()
    : value;
  if (kept !== "") inbound.headers.push("cookie", kept);
  return null;
}

/** RFC 9110, 7.6.1: what `connection` names is for this hop alone. What ebb itself adds comes later, and cannot be named away. */
function dropNominated(inbound: Inbound): void {
  const { connection } = inbound.known;
  if (connection === null || /^(?:close|keep-alive|upgrade)$/i.test(connection)) return;
  const names = new Set(connection.split(",").map((option) => option.trim().toLowerCase()));
  const kept: string[] = [];
  for (let i = 0; i < inbound.headers.length; i += 2) {
    if (!names.has(inbound.headers[i]!)) kept.push(inbound.headers[i]!, inbound.headers[i + 1]!);
  }
  inbound.headers = kept;
}

function readFraming(inbound: Inbound, length: string | null, encoding: string | null): EbbError | null {
  // Its bytes and the other protocol's would follow the head alike: which is which, two servers could read in two ways.
  if (inbound.upgrade && (encoding !== null || (length !== null && length !== "0")))
    return new EbbError("bad_request", "A request to switch to a WebSocket has no body.");
  const { http2 } = inbound.request;
  // node:http2 refuses such headers itself, and a body that is not as long as it says.
  if (http2 !== undefined && (encoding !== null || inbound.known.connection !== null))
    return new EbbError("bad_request", "HTTP/2 has no Connection and no Transfer-Encoding.");
  if (encoding !== null) {
    if (length !== null)
      return new EbbError("bad_request", "The request has both Content-Length and Transfer-Encoding.");
    if (encoding.toLowerCase() !== "chunked")
      return new EbbError("bad_request", "The only Transfer-Encoding that is read is chunked.");
    if (inbound.request.versionMinor === 0) return new EbbError("bad_request", "HTTP/1.0 has no Transfer-Encoding.");
    inbound.bodyBytes = null;
  } else if (length !== null) {
    if (!/^\d{1,15}$/.test(length)) return new EbbError("bad_request", "The Content-Length is not a number.");
    inbound.bodyBytes = Number(length);
    if (inbound.bodyBytes > httpLimits.requestBodyBytes)
      return new EbbError("payload_too_large", `The body is longer than ${httpLimits.requestBodyBytes} bytes.`);
  } else if (http2?.bodied === true) inbound.bodyBytes = null;
  return null;
}

function joined(before: string | null, value: string): string {
  return before === null ? value : `${before}, ${value}`;
}
