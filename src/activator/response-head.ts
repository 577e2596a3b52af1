// The head of an instance's response: text to values, strictly (RFC 9112). What is wrong throws BadResponse.

import { httpLimits } from "#model/limits.ts";

/** What the instance sent is not HTTP as RFC 9112 has it; the words are for the author of the function. */
export class BadResponse extends Error {}

export interface ResponseHead {
  readonly status: number;
  /** Lower-case names and values in turn; hop-by-hop ones and `ebb-*` are gone. */
  readonly headers: readonly string[];
  /** Bytes of the body; "chunked"; or "close": until the connection ends. 0 where the status or the method allows none. */
  readonly framing: number | "chunked" | "close";
  /** content-length as sent, also where no body follows (HEAD, 304). */
  readonly lengthBytes: number | null;
  readonly keepAlive: boolean;
  /** From `keep-alive: timeout=N`; null: not said. */
  readonly keepAliveMs: number | null;
  /** `ebb-done: 1`: the invocation ends with the response. */
  readonly done: boolean;
  /** Trailers may follow, which go on. */
  readonly trails?: boolean;
}

const statusLine = /^HTTP\/1\.([01]) ([1-5]\d\d)(?: .*)?$/;
const token = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
// One pass over the whole head: no control characters, and CR and LF only as a pair.
const wellFormed = /^(?:[\t\x20-\x7e\x80-\xff]|\r\n)*$/;
const digits = /^\d{1,15}$/;
const bodyless = (status: number, method: string) =>
  method === "HEAD" || status === 204 || status === 304 || status < 200;

/** What is gathered while the lines are read. */
interface Draft {
  headers: string[];
  length: string | null;
  encoding: string | null;
  connection: string | null;
  upgrade: string | null;
  keepAliveMs: number | null;
  done: boolean;
}

/** `text`: from the status line to the last header line, without the empty line, decoded as latin1. */
export function parseResponseHead(text: string, method: string): ResponseHead {
  if (!wellFormed.test(text))
    throw new BadResponse("its head has a control character, or a line that ends without CR LF");
  let lineEnd = text.indexOf("\r\n");
  const first = statusLine.exec(lineEnd < 0 ? text : text.slice(0, lineEnd));
  if (!first) throw new BadResponse("its first line is not a status line such as HTTP/1.1 200 OK");
  const status = Number(first[2]);
  const draft: Draft = {
    headers: [],
    length: null,
    encoding: null,
    connection: null,
    upgrade: null,
    keepAliveMs: null,
    done: false,
  };
  let count = 0;
  while (lineEnd >= 0) {
    const start = lineEnd + 2;
    lineEnd = text.indexOf("\r\n", start);
    if (++count > httpLimits.responseHeaderCount)
      throw new BadResponse(`it has more than ${httpLimits.responseHeaderCount} headers`);
    readHeader(draft, text, start, lineEnd < 0 ? text.length : lineEnd);
  }
  return finish(draft, status, method, first[1] === "1");
}

function readHeader(draft: Draft, text: string, start: number, end: number): void {
  const colon = text.indexOf(":", start);
  const name = colon < 0 || colon > end ? "" : text.slice(start, colon).toLowerCase();
  if (!token.test(name)) throw new BadResponse("it has a header line that is not `name: value`");
  const value = fieldValueOf(text, colon + 1, end);
  switch (name) {
    case "content-length":
      if (draft.length !== null) throw new BadResponse("it has two content-length headers");
      draft.length = value;
      return;
    case "transfer-encoding":
      if (draft.encoding !== null) throw new BadResponse("it has two transfer-encoding headers");
      draft.encoding = value.toLowerCase();
      return;
    case "connection":
      draft.connection = draft.connection === null ? value.toLowerCase() : `${draft.connection},${value.toLowerCase()}`;
      return;
    case "upgrade":
      draft.upgrade = value;
      return;
    case "keep-alive":
      draft.keepAliveMs = keepAliveMs(value);
      return;
    case "proxy-connection":
    case "te":
    case "trailer":
      return;
    case "ebb-done":
      draft.done = value === "1";
      return;
    default:
      if (!name.startsWith("ebb-")) draft.headers.push(name, value);
  }
}

/** Without the spaces and tabs around it; what `trim` takes as well can be a byte of a character (RFC 9110, 5.5). */
function fieldValueOf(text: string, start: number, end: number): string {
  while (start < end && isBlank(text.charCodeAt(start))) start++;
  while (end > start && isBlank(text.charCodeAt(end - 1))) end--;
  return text.slice(start, end);
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09;
}

function keepAliveMs(value: string): number | null {
  const seconds = /(?:^|[,\s])timeout=(\d{1,6})/.exec(value)?.[1];
  return seconds === undefined ? null : Number(seconds) * 1_000;
}

function finish(draft: Draft, status: number, method: string, http11: boolean): ResponseHead {
  const { length, encoding } = draft;
  if (length !== null && !digits.test(length)) throw new BadResponse("its content-length is not a number");
  if (encoding !== null) {
    if (length !== null) throw new BadResponse("it has both content-length and transfer-encoding");
    if (encoding !== "chunked") throw new BadResponse("its transfer-encoding is not chunked");
    if (!http11) throw new BadResponse("it is HTTP/1.0 and has a transfer-encoding");
  }
  const lengthBytes = length === null ? null : Number(length);
  const empty = bodyless(status, method);
  const framing = empty ? 0 : encoding !== null ? "chunked" : (lengthBytes ?? "close");
  if (status === 101 && draft.upgrade !== null) draft.headers.push("upgrade", draft.upgrade);
  const { connection } = draft;
  const usual = connection === null || connection === "keep-alive" || connection === "close";
  const options = usual ? null : new Set(connection.split(",").map((option) => option.trim()));
  return {
    status,
    headers: options === null ? draft.headers : withoutNominated(draft.headers, options),
    framing,
    lengthBytes,
    keepAlive: http11 && framing !== "close" && connection !== "close" && options?.has("close") !== true,
    keepAliveMs: draft.keepAliveMs,
    done: draft.done,
  };
}

/** RFC 9110, 7.6.1: what `connection` names is for this hop alone; `upgrade` means something with 101 only. */
function withoutNominated(headers: readonly string[], options: ReadonlySet<string>): readonly string[] {
  const kept: string[] = [];
  for (let i = 0; i < headers.length; i += 2) {
    if (!options.has(headers[i]!) || headers[i] === "upgrade") kept.push(headers[i]!, headers[i + 1]!);
  }
  return kept;
}
