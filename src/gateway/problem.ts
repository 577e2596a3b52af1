// ebb's own errors as answers: problem+json (RFC 9457).

import type { OutgoingHttpHeaders, ServerResponse } from "node:http";
import { STATUS_CODES } from "#lib/http.ts";
import type { Duplex } from "node:stream";
import { EbbError, problemOf } from "#model/errors.ts";

export interface ProblemOptions {
  /** On a workload's host: a page of another origin may read why. */
  readonly anyOrigin?: boolean;
  readonly invocation?: string;
  /** Of a 405; what functions may be asked with where left out. */
  readonly allow?: string;
  /** The connection cannot carry another request. */
  readonly close?: boolean;
}

/** What RFC 9110 wants beside certain codes. */
function headersOf(error: EbbError, bodyBytes: number, options: ProblemOptions): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = {
    "content-type": "application/problem+json",
    "content-length": String(bodyBytes),
    "cache-control": "no-store",
  };
  if (error.status === 401) headers["www-authenticate"] = "ebb-token";
  if (error.status === 405) headers["allow"] = options.allow ?? "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
  if (error.retryAfterSeconds !== null) headers["retry-after"] = String(error.retryAfterSeconds);
  if (options.anyOrigin) headers["access-control-allow-origin"] = "*";
  if (options.invocation !== undefined) headers["ebb-invocation-id"] = options.invocation;
  if (options.close) headers["connection"] = "close";
  return headers;
}

export function sendProblem(response: ServerResponse, error: EbbError, options: ProblemOptions = {}): void {
  const body = Buffer.from(`${JSON.stringify(problemOf(error))}\n`);
  response.writeHead(error.status, headersOf(error, body.length, options));
  response.end(body);
}

/** Where node:http has made no response: what could not be parsed. The connection ends with it. */
export function sendRawProblem(socket: Duplex, error: EbbError): void {
  const body = `${JSON.stringify(problemOf(error))}\n`;
  const headers = { ...headersOf(error, Buffer.byteLength(body), { close: true }), date: new Date().toUTCString() };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${String(value)}\r\n`);
  socket.end(`HTTP/1.1 ${error.status} ${STATUS_CODES[error.status] ?? ""}\r\n${lines.join("")}\r\n${body}`);
}

/** What llhttp refused, in our words. */
export function parserError(code: string | undefined): EbbError {
  switch (code) {
    case "HPE_HEADER_OVERFLOW":
      return new EbbError("headers_too_large", "The request's head is too large.");
    case "HPE_CHUNK_EXTENSIONS_OVERFLOW":
      return new EbbError("payload_too_large", "The body's chunk extensions are too large.");
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return new EbbError("request_timeout", "The request's head did not arrive in time.");
    default:
      return new EbbError("bad_request", `The request is not HTTP/1.1${code === undefined ? "" : ` (${code})`}.`);
  }
}
