// ebb's own errors as answers: problem+json (RFC 9457).

import { EbbError, problemOf } from "#model/errors.ts";
import type { ClientExchange } from "./client-exchange.ts";
import { grpcAnswer, isGrpc } from "./grpc.ts";
import { headTimeout } from "./http1/connection.ts";

export interface ProblemOptions {
  /** On a workload's host: a page of another origin may read why. */
  readonly anyOrigin?: boolean;
  readonly invocation?: string;
  /** Of a 405; what functions may be asked with where left out. */
  readonly allow?: string;
  /** The connection cannot carry another request. */
  readonly close?: boolean;
}

const noBytes = new Uint8Array(0);

/** With what RFC 9110 wants beside certain codes. */
function headersOf(error: EbbError, options: ProblemOptions): string[] {
  const headers = ["content-type", "application/problem+json", "cache-control", "no-store"];
  if (error.status === 401) headers.push("www-authenticate", "ebb-token");
  if (error.status === 405) headers.push("allow", options.allow ?? "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
  if (error.retryAfterSeconds !== null) headers.push("retry-after", String(error.retryAfterSeconds));
  if (options.anyOrigin) headers.push("access-control-allow-origin", "*");
  if (options.invocation !== undefined) headers.push("ebb-invocation-id", options.invocation);
  return headers;
}

/** To a client of gRPC in the only form that it reads. */
export function sendProblem(exchange: ClientExchange, error: EbbError, options: ProblemOptions = {}): void {
  if (exchange.head.http2 !== undefined && isGrpc(exchange.head.rawHeaders))
    return exchange.send(200, grpcAnswer(error, options.invocation), noBytes, false);
  const body = Buffer.from(`${JSON.stringify(problemOf(error))}\n`);
  exchange.send(error.status, headersOf(error, options), body, options.close ?? false);
}

/** What llhttp refused, in our words. */
export function parserError(code: string): EbbError {
  switch (code) {
    case "HPE_HEADER_OVERFLOW":
      return new EbbError("headers_too_large", "The request's head is too large.");
    case "HPE_CHUNK_EXTENSIONS_OVERFLOW":
      return new EbbError("payload_too_large", "The body's chunk extensions are too large.");
    case headTimeout:
      return new EbbError("request_timeout", "The request's head did not arrive in time.");
    default:
      return new EbbError("bad_request", `The request is not HTTP/1.1 (${code}).`);
  }
}
