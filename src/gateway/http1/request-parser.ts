// llhttp, Node's own HTTP/1.1 parser, fed with what a client sends: the one file that knows how to reach it without node:http.

import { createRequire } from "node:module";
import type { Socket } from "node:net";
import { METHODS } from "#lib/http.ts";

/** A request's head as it stood on the wire; checked for syntax by llhttp, and for nothing else. */
export interface RequestHead {
  readonly method: string;
  readonly target: string;
  /** Names and values in turn, as sent. */
  readonly rawHeaders: readonly string[];
  readonly versionMajor: number;
  readonly versionMinor: number;
  /** By version and `connection`: the client would go on with this connection. */
  readonly keepAlive: boolean;
  /** It came by HTTP/2: whether a body follows, which no header says there. */
  readonly http2?: { readonly bodied: boolean };
}

export interface RequestEvents {
  /** The first byte of a request has come. */
  begin(): void;
  /** True: what follows the head is another protocol's. */
  head(head: RequestHead): boolean;
  body(chunk: Buffer): void;
  end(): void;
}

/** How far a chunk was read. */
export type Fed =
  | { readonly kind: "fed" }
  | { readonly kind: "left"; readonly rest: Buffer }
  /** The preface of HTTP/2 has been read (RFC 9113, 3.4), which the connection may begin with. */
  | { readonly kind: "http2"; readonly rest: Buffer }
  | { readonly kind: "failed"; readonly code: string };

const fed: Fed = { kind: "fed" };

/** llhttp's binding (node's src/node_http_parser.cc), which `node:http` itself uses; Node is pinned. */
interface Llhttp {
  [callback: number]: unknown;
  initialize(type: number, resource: object, maxHeaderBytes: number, lenient: number): void;
  /** The bytes that were read, or why it stopped. */
  execute(chunk: Buffer): number | Error;
  /** Reads the stream itself, and tells of each read in kOnExecute as `execute` answers; `getCurrentBuffer` is that read. */
  consume(stream: object): void;
  unconsume(): void;
  getCurrentBuffer(): Buffer;
  finish(): Error | undefined;
  close(): void;
}
interface LlhttpClass {
  new (): Llhttp;
  readonly REQUEST: number;
  readonly kLenientNone: number;
  readonly kOnMessageBegin: number;
  readonly kOnHeaders: number;
  readonly kOnHeadersComplete: number;
  readonly kOnBody: number;
  readonly kOnMessageComplete: number;
  readonly kOnExecute: number;
}

/** What is below a socket (node's src/stream_base.cc). */
interface StreamHandle {
  reading: boolean;
  readStart(): number;
  readStop(): number;
}
const { HTTPParser } = createRequire(import.meta.url)("node:_http_common") as { HTTPParser: LlhttpClass };

export class RequestParser {
  readonly #events: RequestEvents;
  readonly #llhttp = new HTTPParser();
  /** What llhttp told of a head in parts, where it has more than 32 headers or came in pieces. */
  #target = "";
  #headers: string[] = [];
  #left = false;
  /** The request that is read asks for another protocol and does not get it: llhttp stops behind it, and has to be told to go on. */
  #stops = false;
  #stopped = false;
  #handle: StreamHandle | null = null;

  constructor(events: RequestEvents, maxHeadBytes: number) {
    this.#events = events;
    const llhttp = this.#llhttp;
    llhttp.initialize(HTTPParser.REQUEST, {}, maxHeadBytes, HTTPParser.kLenientNone);
    llhttp[HTTPParser.kOnMessageBegin] = () => events.begin();
    llhttp[HTTPParser.kOnHeaders] = (headers: string[], target: string) => {
      this.#headers.push(...headers);
      this.#target += target;
    };
    llhttp[HTTPParser.kOnHeadersComplete] = this.#onHead;
    llhttp[HTTPParser.kOnBody] = (chunk: Buffer) => events.body(chunk);
    llhttp[HTTPParser.kOnMessageComplete] = () => {
      // Trailers, which are nobody's here.
      if (this.#headers.length > 0) this.#headers = [];
      this.#target = "";
      this.#stopped = this.#stops;
      events.end();
    };
  }

  /** After anything but "fed" nothing more may come. */
  feed(chunk: Buffer): Fed {
    return this.#fed(this.#llhttp.execute(chunk), () => chunk);
  }

  /**
   * Reads the socket's stream without JavaScript in between, as node:http does: no buffer is made of what is read, and of a
   * body's pieces only. `read` is called after each read. The socket emits no data until `release`.
   */
  consume(socket: Socket, read: (fed: Fed) => void): void {
    const handle = (socket as Socket & { readonly _handle: (StreamHandle & { isStreamBase?: boolean }) | null })
      ._handle;
    if (handle?.isStreamBase !== true) return;
    this.#handle = handle;
    const llhttp = this.#llhttp;
    llhttp[HTTPParser.kOnExecute] = (result: number | Error) => {
      read(this.#fed(result, () => llhttp.getCurrentBuffer()));
    };
    llhttp.consume(handle);
  }

  /** The socket is read by whoever listens to it from here on. */
  release(): void {
    if (this.#handle !== null) this.#llhttp.unconsume();
    this.#handle = null;
  }

  /** Whether the socket is read at all; the stream below it does not follow its `pause` where it is consumed. */
  flow(socket: Socket, wanted: boolean): void {
    if (wanted) socket.resume();
    else socket.pause();
    const handle = this.#handle;
    if (handle === null || handle.reading === wanted) return;
    handle.reading = wanted;
    if (wanted) handle.readStart();
    else handle.readStop();
  }

  /** `chunk`: what was read, asked for only where something of it is left. */
  #fed(result: number | Error, chunk: () => Buffer): Fed {
    let read = result;
    for (let rest: Buffer | null = null; ;) {
      if (typeof read !== "number") return stopped(read, rest ?? chunk);
      if (!this.#left && !this.#stopped) return fed;
      this.#stopped = false;
      rest = (rest ?? chunk()).subarray(read);
      if (this.#left) return { kind: "left", rest };
      if (rest.length === 0) return fed;
      read = this.#llhttp.execute(rest);
    }
  }

  /** The client sends no more; the code of what that cut off, null: nothing. */
  finish(): string | null {
    const error = this.#llhttp.finish();
    return error instanceof Error ? ((error as NodeJS.ErrnoException).code ?? "unknown") : null;
  }

  /** Gives back what it holds outside of JavaScript. */
  close(): void {
    this.release();
    // It may be llhttp that has called.
    setImmediate(() => this.#llhttp.close());
  }

  readonly #onHead = (
    versionMajor: number,
    versionMinor: number,
    headers: string[] | undefined,
    method: number,
    target: string | undefined,
    _statusCode: unknown,
    _statusMessage: unknown,
    upgrade: boolean,
    keepAlive: boolean,
  ): number => {
    if (headers === undefined) {
      headers = this.#headers;
      this.#headers = [];
    }
    if (target === undefined) {
      target = this.#target;
      this.#target = "";
    }
    const name = methodNames[method] ?? "";
    const head = { method: name, target, rawHeaders: headers, versionMajor, versionMinor, keepAlive };
    // Behind a CONNECT there is nothing of HTTP, whether it is allowed or not.
    this.#left = this.#events.head(head) || name === "CONNECT";
    this.#stops = upgrade && !this.#left;
    // 2: no body, and nothing of HTTP behind it.
    return this.#left ? 2 : 0;
  };
}

interface LlhttpError extends NodeJS.ErrnoException {
  readonly bytesParsed?: number;
}

function stopped({ code, bytesParsed = 0 }: LlhttpError, chunk: Buffer | (() => Buffer)): Fed {
  if (code !== "HPE_PAUSED_H2_UPGRADE") return { kind: "failed", code: code ?? "unknown" };
  return { kind: "http2", rest: (typeof chunk === "function" ? chunk() : chunk).subarray(bytesParsed) };
}

/** llhttp tells methods by its own numbers, which it gives no list of: each is asked once. */
const methodNames: readonly string[] = (() => {
  const names: string[] = [];
  for (const method of METHODS) {
    const llhttp = new HTTPParser();
    llhttp.initialize(HTTPParser.REQUEST, {}, 0, HTTPParser.kLenientNone);
    llhttp[HTTPParser.kOnHeadersComplete] = (_major: number, _minor: number, _headers: unknown, number: number) => {
      names[number] = method;
      return 2;
    };
    llhttp.execute(Buffer.from(`${method} ${method === "CONNECT" ? "a:1" : "/"} HTTP/1.1\r\n\r\n`));
    llhttp.close();
  }
  return names;
})();
