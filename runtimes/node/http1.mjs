// HTTP/1.1 on the server's side, for one peer that is known: ebb. Leaner than node:http (no req/res objects, one write an
// answer) and stricter (no LF alone, no folding, no length said twice), because nothing else ever speaks to it.

import { Body, chunked } from "./http1-body.mjs";

/** @import { Socket } from "node:net" */

/** Names and values in turn. @typedef {string[]} FlatHeaders */
/** @typedef {Pick<Socket, "cork" | "uncork" | "destroy"> & { write(data: string | Uint8Array, encoding?: "latin1"): boolean }} AnswerSocket */
/**
 * What carries an exchange: a connection, or a frame of one that is shared. `begun`: an answer in pieces is about to be written; `answered`: all of it is.
 * @typedef {{ socket: AnswerSocket, readonly closing: boolean, doneInHead: Exchange | null, begun(): void, answered(last: boolean): void }} Carrier
 */

const headBytes = 64 * 1024;
const headerCount = 256;
/** How much of an unread request body is thrown away after the answer, so that the peer gets to read that answer. */
const lingerBytes = 16 * 1024 * 1024;
const lingerMs = 2_000;

const requestLine = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ([!-~\x80-\xff]+) HTTP\/1\.1\r\n/;
/** One pass over the whole head: no control characters, and CR and LF only as a pair. */
const wellFormed = /^(?:[\t -~\x80-\xff]|\r\n)*$/;
export const headEnd = Buffer.from("\r\n\r\n");
const lastChunk = "0\r\n\r\n";
const fieldName = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const fieldValue = /^[\t -~\x80-\xff]*$/;
/** What belongs to the connection and not to the answer: ours alone to say. */
const hopByHop = new Set(["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "trailer"]);

/** A header that cannot be sent; its author is told. */
export class BadHeader extends Error {}

/**
 * The head of an answer, without its length and its end. Hop-by-hop fields and `skip` are left out.
 * @param {number} status @param {FlatHeaders} headers @param {boolean} keepLength @returns {string}
 */
function renderHead(status, headers, keepLength) {
  let head = status === 200 ? "HTTP/1.1 200 OK\r\n" : `HTTP/1.1 ${status} \r\n`;
  for (let i = 0; i < headers.length; i += 2) {
    const name = /** @type {string} */ (headers[i]);
    const value = /** @type {string} */ (headers[i + 1]);
    if (!fieldName.test(name)) throw new BadHeader(`the answer's header name ${JSON.stringify(name)} is not allowed`);
    if (!fieldValue.test(value)) throw new BadHeader(`the value of the answer's header ${name} is not allowed`);
    const lower = name.toLowerCase();
    if (hopByHop.has(lower) || (lower === "content-length" && !keepLength)) continue;
    head += `${name}: ${value}\r\n`;
  }
  return head;
}

/** One request and its answer. */
export class Exchange {
  /** @param {Carrier} connection @param {string} method @param {string} target @param {FlatHeaders} headers @param {number} length */
  constructor(connection, method, target, headers, length) {
    /** What carries it. */
    this.connection = connection;
    this.method = method;
    /** Path and query as they came. */
    this.target = target;
    /** Names in lower case. */
    this.headers = headers;
    // Of one that is framed all is here: it is asked to pause at most.
    this.body = new Body(/** @type {Connection} */ (connection), length);
    /** What happens when the peer goes before the answer is complete. @type {(() => void) | null} */
    this.onAbort = null;
    /** Called when a streamed answer may go on. @type {(() => void) | null} */
    this.onDrain = null;
    this.aborted = false;
    this.headSent = false;
    this.complete = false;
    this.bodyless = false;
    this.chunked = false;
    /** Bytes of the body that content-length still promises; -1: none promised. */
    this.promised = -1;
  }

  /** @param {string} name in lower case @returns {string | undefined} */
  header(name) {
    const { headers } = this;
    for (let i = 0; i < headers.length; i += 2) if (headers[i] === name) return headers[i + 1];
    return undefined;
  }

  /**
   * A complete answer in one write. @throws {BadHeader} before anything is sent.
   * @param {number} status @param {FlatHeaders} headers @param {string | Uint8Array | null} body
   * @param {(() => boolean) | null} done asked once nothing can fail any more: is the invocation over with this answer?
   */
  answer(status, headers, body, done) {
    const none = status === 204 || status === 304;
    const bodyless = none || this.method === "HEAD";
    const keepLength = bodyless && !none && (body === null || body.length === 0);
    let head = renderHead(status, headers, keepLength);
    if (this.complete) return;
    const length = body === null ? 0 : typeof body === "string" ? Buffer.byteLength(body) : body.byteLength;
    if (!none && !keepLength) head += `content-length: ${length}\r\n`;
    if (done?.() === true) {
      head += "ebb-done: 1\r\n";
      this.connection.doneInHead = this;
    }
    const last = this.#mustClose();
    head += last ? "connection: close\r\n\r\n" : "\r\n";
    this.headSent = true;
    const { socket } = this.connection;
    if (bodyless || length === 0 || body === null) socket.write(head, "latin1");
    else if (typeof body === "string") {
      // An ASCII body is as long in bytes as in characters, and goes out with the head in one string.
      if (length === body.length) socket.write(head + body, "latin1");
      else writeTwo(socket, head, body);
    } else writeTwo(socket, head, body);
    this.#completed(last);
  }

  /**
   * Begins an answer whose body follows by `write` and `end`. @throws {BadHeader} before anything is sent.
   * @param {number} status @param {FlatHeaders} headers
   */
  begin(status, headers) {
    const none = status === 204 || status === 304;
    let head = renderHead(status, headers, !none);
    if (this.complete) return;
    this.bodyless = none || this.method === "HEAD";
    const promised = none ? undefined : promisedLength(headers);
    if (promised !== undefined) this.promised = this.bodyless ? -1 : promised;
    else if (!this.bodyless) {
      this.chunked = true;
      head += "transfer-encoding: chunked\r\n";
    }
    this.headSent = true;
    this.connection.begun();
    // What is left of the request's body at the end of the answer decides then whether the connection stays.
    this.connection.socket.write(head + (this.connection.closing ? "connection: close\r\n\r\n" : "\r\n"), "latin1");
  }

  /** False: full; wait for onDrain. @param {string | Uint8Array} chunk @returns {boolean} */
  write(chunk) {
    const { socket } = this.connection;
    if (this.complete || this.bodyless) return true;
    const length = typeof chunk === "string" ? Buffer.byteLength(chunk) : chunk.byteLength;
    if (length === 0) return true;
    if (!this.chunked) {
      if (length > this.promised) throw new Error("the answer's body is longer than its content-length");
      this.promised -= length;
      return socket.write(chunk);
    }
    socket.cork();
    socket.write(`${length.toString(16)}\r\n`, "latin1");
    socket.write(chunk);
    const open = socket.write("\r\n", "latin1");
    socket.uncork();
    return open;
  }

  /** The end of a streamed answer; what falls short of its content-length is cut instead. */
  end() {
    if (this.complete) return;
    if (this.promised > 0) return this.cut();
    if (this.chunked) this.connection.socket.write(lastChunk, "latin1");
    this.#completed(this.#mustClose());
  }

  /** An answer that went wrong half-way: the peer must see that it is not complete. */
  cut() {
    if (this.complete) return;
    this.complete = true;
    this.connection.socket.destroy();
  }

  /** Whoever asked has gone. */
  abort() {
    this.body.fail(new Error("the client has gone"));
    if (this.complete) return;
    this.complete = true;
    this.aborted = true;
    this.onAbort?.();
    this.onDrain?.();
  }

  #mustClose() {
    return !this.body.complete || this.connection.closing;
  }

  /** @param {boolean} last */
  #completed(last) {
    this.complete = true;
    this.connection.answered(last);
  }
}

/** @param {FlatHeaders} headers @returns {number | undefined} */
function promisedLength(headers) {
  for (let i = 0; i < headers.length; i += 2) {
    if (/** @type {string} */ (headers[i]).toLowerCase() !== "content-length") continue;
    const value = /** @type {string} */ (headers[i + 1]);
    if (!/^\d{1,15}$/.test(value)) throw new BadHeader("the answer's content-length is not a number");
    return Number(value);
  }
  return undefined;
}

/** @param {AnswerSocket} socket @param {string} head @param {string | Uint8Array} body */
function writeTwo(socket, head, body) {
  socket.cork();
  socket.write(head, "latin1");
  socket.write(body);
  socket.uncork();
}

/** One connection: requests one after the other. `serve` gets each Exchange; `closed` is told once. */
export class Connection {
  /** @param {Socket} socket @param {(exchange: Exchange) => void} serve @param {(connection: Connection) => void} closed */
  constructor(socket, serve, closed) {
    this.socket = socket;
    this.serve = serve;
    /** No request is taken after the current one. */
    this.closing = false;
    /** @type {Exchange | null} */
    this.exchange = null;
    /** Bytes that nobody has parsed yet. @type {Buffer | null} */
    this.rest = null;
    this.discarded = -1;
    /** The last whose head said that it is done: the peer may close before it reads that. @type {Exchange | null} */
    this.doneInHead = null;
    socket.on("data", (chunk) => this.#received(/** @type {Buffer} */ (chunk)));
    socket.on("drain", () => this.exchange?.onDrain?.());
    socket.on("error", () => {}); // "close" follows, and says enough
    socket.on("close", () => {
      const { exchange } = this;
      this.exchange = null;
      exchange?.abort();
      closed(this);
    });
    // The peer never closes its half alone: an end is a goodbye.
    socket.on("end", () => socket.destroy());
    // A connection that was held back (pauseOnConnect) begins to flow here.
    socket.resume();
  }

  get idle() {
    return this.exchange === null && this.rest === null;
  }

  /** Takes no further request; closes when the current one is answered. */
  finish() {
    this.closing = true;
    if (this.exchange === null) this.socket.end();
  }

  /** @param {Buffer} chunk */
  #received(chunk) {
    if (this.discarded >= 0) {
      this.discarded += chunk.length;
      if (this.discarded > lingerBytes) this.socket.destroy();
      return;
    }
    if (this.exchange !== null && !this.exchange.body.complete) {
      const rest = this.exchange.body.feed(chunk);
      if (rest === null) return;
      chunk = rest;
    }
    this.rest = this.rest === null ? chunk : Buffer.concat([this.rest, chunk]);
    if (this.exchange === null) this.#parse();
    // Pipelined behind a request that is being served: it may wait in the socket.
    else if (this.rest.length > headBytes) this.socket.pause();
  }

  /** The bytes in `rest` are a head, whole or in part. */
  #parse() {
    const { rest } = this;
    if (rest === null) return;
    const end = rest.indexOf(headEnd);
    if (end < 0 || end > headBytes) {
      if (rest.length > headBytes) this.refuse(431, "the request's head is too large");
      return;
    }
    const head = rest.toString("latin1", 0, end + 2);
    const after = end + 4;
    this.rest = rest.length > after ? rest.subarray(after) : null;
    const exchange = readHead(this, head);
    if (typeof exchange === "string") return this.refuse(400, exchange);
    this.exchange = exchange;
    if (this.rest !== null && !exchange.body.complete) {
      const body = this.rest;
      this.rest = null;
      this.rest = exchange.body.feed(body);
    }
    if (this.exchange === exchange) this.serve(exchange);
  }

  begun() {}

  /** An answer has gone out whole. @param {boolean} last */
  answered(last) {
    const body = this.exchange?.body;
    this.exchange = null;
    if (last) {
      this.closing = true;
      this.socket.end();
      if (body?.complete === false) this.#linger();
      return;
    }
    if (this.rest === null) return;
    this.socket.resume();
    // Not from inside the handler of the one before.
    queueMicrotask(() => {
      if (this.exchange === null) this.#parse();
    });
  }

  /** The peer is still sending a body that nobody wants; a close now could cost it the answer. */
  #linger() {
    this.discarded = 0;
    this.socket.resume();
    setTimeout(() => this.socket.destroy(), lingerMs).unref();
  }

  /** Not a request: says so once and closes. @param {number} status @param {string} detail */
  refuse(status, detail) {
    const current = this.exchange;
    this.exchange = null;
    this.closing = true;
    this.rest = null;
    this.discarded = 0;
    current?.abort();
    if (current?.headSent) {
      this.socket.destroy();
      return;
    }
    this.socket.end(refusal(status, detail, "connection: close\r\n"));
    setTimeout(() => this.socket.destroy(), lingerMs).unref();
  }
}

/** What is answered to what is no request. @param {number} status @param {string} detail @param {string} fields more of its head @returns {string} ASCII */
export function refusal(status, detail, fields) {
  const body = JSON.stringify({ type: "about:blank", title: "Bad request", status, code: "bad_request", detail });
  return `HTTP/1.1 ${status} \r\ncontent-type: application/problem+json\r\ncontent-length: ${body.length}\r\n${fields}\r\n${body}`;
}

/**
 * @param {Carrier} connection @param {string} head without its empty line
 * @param {(head: string, from: number) => FlatHeaders | string} fields reads them @returns {Exchange | string} a string: what is wrong
 */
export function readHead(connection, head, fields = parseFields) {
  const start = requestLine.exec(head);
  if (start === null) return "the request line is malformed";
  const headers = fields(head, start[0].length);
  if (typeof headers === "string") return headers;
  const length = bodyLength(headers);
  if (typeof length === "string") return length;
  return new Exchange(connection, /** @type {string} */ (start[1]), /** @type {string} */ (start[2]), headers, length);
}

/**
 * Those that ebb has written, and where nothing depends on where they end: names are in lower case, and values without blanks around them.
 * @param {string} head @param {number} from @returns {FlatHeaders | string} a string: what is wrong
 */
export function framedFields(head, from) {
  /** @type {FlatHeaders} */
  const headers = [];
  for (let start = from; start < head.length;) {
    const end = head.indexOf("\r\n", start);
    const colon = head.indexOf(": ", start);
    if (colon < 0 || colon > end) return "a header line is malformed";
    headers.push(head.slice(start, colon), head.slice(colon + 2, end));
    if (headers.length > 2 * headerCount) return "too many headers";
    start = end + 2;
  }
  return headers;
}

/** @param {string} head @param {number} from @returns {FlatHeaders | string} a string: what is wrong */
function parseFields(head, from) {
  /** @type {FlatHeaders} */
  const headers = [];
  if (!wellFormed.test(head)) return "a header line is malformed";
  for (let start = from; start < head.length;) {
    const end = head.indexOf("\r\n", start);
    const colon = head.indexOf(":", start);
    if (colon < 0 || colon > end) return "a header line is malformed";
    const name = head.slice(start, colon).toLowerCase();
    if (!fieldName.test(name)) return "a header line is malformed";
    headers.push(name, fieldValueOf(head, colon + 1, end));
    if (headers.length > 2 * headerCount) return "too many headers";
    start = end + 2;
  }
  return headers;
}

/**
 * Without the blanks around it: spaces and tabs only, since what `trim` takes as well can be a byte of a character (RFC 9110, 5.5).
 * @param {string} head @param {number} start @param {number} end
 */
function fieldValueOf(head, start, end) {
  while (start < end && isBlank(head.charCodeAt(start))) start++;
  while (end > start && isBlank(head.charCodeAt(end - 1))) end--;
  return head.slice(start, end);
}

/** @param {number} code */
function isBlank(code) {
  return code === 0x20 || code === 0x09;
}

/** @param {FlatHeaders} headers @returns {number | string} bytes, or `chunked`, or in words what is wrong */
function bodyLength(headers) {
  let length = -2;
  let coding = false;
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i];
    const value = /** @type {string} */ (headers[i + 1]);
    if (name === "content-length") {
      if (length !== -2 || !/^\d{1,15}$/.test(value)) return "content-length is malformed or repeated";
      length = Number(value);
    } else if (name === "transfer-encoding") {
      if (coding || value.toLowerCase() !== "chunked") return "transfer-encoding is unknown or repeated";
      coding = true;
    }
  }
  if (coding && length !== -2) return "content-length and transfer-encoding together";
  return coding ? chunked : Math.max(length, 0);
}
