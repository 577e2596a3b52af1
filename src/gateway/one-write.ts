// A small, complete answer in one write of one string. node:http's own way is a writev of head, body and an empty end, which
// costs a third of the gateway's time. The response is then ended as one that has nothing left to write.

import { STATUS_CODES, type ServerResponse } from "node:http";
import { httpLimits } from "#model/limits.ts";

/**
 * What node:http keeps of a response whose head has gone out (lib/_http_outgoing.js). Not documented, but what many
 * frameworks lean on; Node is pinned, and gateway.test.ts holds keep-alive, pipelining and `finish` to it.
 */
interface SentResponse {
  _header: string | null;
  _headerSent: boolean;
  _hasBody: boolean;
}

export const oneWriteBytes = 16 * 1024;
const keepAlive = `keep-alive: timeout=${Math.floor(httpLimits.keepAliveTimeoutMs / 1_000)}\r\n`;

/** Not where an earlier answer of the same connection is still going out, nor where the connection ends with this one. */
export function canWriteOnce(response: ServerResponse): boolean {
  const { socket, req } = response;
  return (
    socket !== null &&
    socket.writableLength === 0 &&
    response.shouldKeepAlive &&
    req.httpVersionMinor === 1 &&
    req.method !== "HEAD"
  );
}

/** `headers` with content-length; their names and values have been checked. */
export function writeOnce(
  response: ServerResponse,
  status: number,
  headers: readonly string[],
  body: Uint8Array,
): void {
  let text = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\n`;
  let dated = false;
  for (let i = 0; i < headers.length; i += 2) {
    if (headers[i] === "date") dated = true;
    text += `${headers[i]}: ${headers[i + 1]}\r\n`;
  }
  if (!dated) text += dateLine();
  text += `${keepAlive}\r\n`;
  // latin1 is byte for byte.
  if (body.length > 0) text += Buffer.from(body.buffer, body.byteOffset, body.length).toString("latin1");
  const sent = response as ServerResponse & SentResponse;
  sent.statusCode = status;
  sent._header = text;
  sent._headerSent = true;
  sent._hasBody = false;
  response.socket!.write(text, "latin1");
  response.end();
}

let second = 0;
let line = "";
function dateLine(): string {
  const now = Math.floor(Date.now() / 1_000);
  if (now !== second) {
    second = now;
    line = `date: ${new Date(now * 1_000).toUTCString()}\r\n`;
  }
  return line;
}
