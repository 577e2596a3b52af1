// The body of a request: counted or chunked, read as a whole up to a bound, or pulled with back-pressure.

/** @import { Connection } from "./http1.mjs" */

/**
 * Who takes the bytes. `data` answers false when it is full; then it calls `Body.resume`.
 * @typedef {{ data(chunk: Buffer): boolean, end(): void, failed(error: Error): void }} BodySink
 */

/** The length of a body that does not know it. */
export const chunked = -1;

/** What is kept of a body that nobody reads yet, before its bytes are left in the socket. */
const heldBytes = 64 * 1024;
/** The line that holds a chunk's size, extensions and all; and the trailer fields together. */
const chunkLineBytes = 1024;
const trailerBytes = 16 * 1024;

const empty = Buffer.alloc(0);

/** The body is larger than the reader allows. */
export class TooLarge extends Error {}

export class Body {
  /** @param {Connection} connection @param {number} length bytes, or `chunked` */
  constructor(connection, length) {
    this.connection = connection;
    /** From content-length; -1: chunked. */
    this.length = length;
    /** Every byte has arrived (perhaps not yet read). */
    this.complete = length === 0;
    this.remaining = length;
    /** @type {Buffer[] | null} */
    this.held = null;
    this.heldLength = 0;
    /** @type {BodySink | null} */
    this.sink = null;
    /** @type {Error | null} */
    this.error = null;
    this.full = false;
    /** @type {ChunkDecoder | null} */
    this.decoder = null;
  }

  /** Bytes from the connection. @param {Buffer} chunk @returns {Buffer | null} what lies behind the body's end */
  feed(chunk) {
    if (this.length === chunked) {
      this.decoder ??= new ChunkDecoder(this);
      return this.decoder.feed(chunk);
    }
    if (chunk.length < this.remaining) {
      this.remaining -= chunk.length;
      this.deliver(chunk);
      return null;
    }
    const rest = chunk.length > this.remaining ? chunk.subarray(this.remaining) : null;
    this.deliver(rest === null ? chunk : chunk.subarray(0, this.remaining));
    this.remaining = 0;
    this.finish();
    return rest;
  }

  /** @param {Buffer} chunk */
  deliver(chunk) {
    if (this.sink !== null && !this.full) {
      if (!this.sink.data(chunk)) this.#stopReading();
      return;
    }
    (this.held ??= []).push(chunk);
    this.heldLength += chunk.length;
    if (this.heldLength > heldBytes) this.connection.socket.pause();
  }

  finish() {
    this.complete = true;
    if (this.sink !== null && !this.full) this.sink.end();
  }

  /** @param {Error} error */
  fail(error) {
    if (this.error !== null || this.complete) return;
    this.error = error;
    this.sink?.failed(error);
  }

  #stopReading() {
    this.full = true;
    this.connection.socket.pause();
  }

  /** Starts the flow, once. @param {BodySink} sink */
  read(sink) {
    this.sink = sink;
    if (this.error !== null) return sink.failed(this.error);
    if (!this.complete && this.connection.exchange?.header("expect")?.toLowerCase() === "100-continue")
      this.connection.socket.write("HTTP/1.1 100 Continue\r\n\r\n", "latin1");
    this.#flow();
  }

  /** After `data` answered false: go on. */
  resume() {
    if (!this.full) return;
    this.full = false;
    this.#flow();
  }

  /** Hands over what is held, and lets the socket go on. */
  #flow() {
    const { sink } = this;
    if (sink === null) return;
    while (this.held !== null) {
      const chunk = this.held.shift();
      if (this.held.length === 0) this.held = null;
      if (chunk === undefined) break;
      this.heldLength -= chunk.length;
      if (!sink.data(chunk)) {
        this.#stopReading();
        return;
      }
    }
    if (this.complete) sink.end();
    else this.connection.socket.resume();
  }

  /**
   * The whole body. Synchronous when it is there already, as it mostly is: a turn of the loop saved.
   * @param {number} limit @returns {Buffer | Promise<Buffer>} @throws {TooLarge} also by rejection
   */
  all(limit) {
    if (this.length > limit) throw new TooLarge();
    if (this.complete && this.heldLength <= limit && this.sink === null) {
      const { held } = this;
      this.held = null;
      return held === null ? empty : held.length === 1 ? /** @type {Buffer} */ (held[0]) : Buffer.concat(held);
    }
    return new Promise((resolve, reject) => {
      /** @type {Buffer[]} */
      const parts = [];
      let total = 0;
      this.read({
        data: (chunk) => {
          total += chunk.length;
          if (total > limit) {
            reject(new TooLarge());
            return false;
          }
          parts.push(chunk);
          return true;
        },
        end: () => resolve(Buffer.concat(parts, total)),
        failed: reject,
      });
    });
  }
}

/** Transfer-encoding chunked, strictly: sizes in hex, CRLF, trailers read and dropped. */
class ChunkDecoder {
  /** @param {Body} body */
  constructor(body) {
    this.body = body;
    /** @type {"size" | "data" | "data-end" | "trailer"} */
    this.state = "size";
    this.left = 0;
    this.line = "";
    this.trailerLength = 0;
  }

  /** @param {Buffer} chunk @returns {Buffer | null} */
  feed(chunk) {
    let at = 0;
    while (at < chunk.length) {
      if (this.state === "data") {
        const take = Math.min(this.left, chunk.length - at);
        this.body.deliver(chunk.subarray(at, at + take));
        at += take;
        this.left -= take;
        if (this.left === 0) this.state = "data-end";
        continue;
      }
      const end = chunk.indexOf(10, at);
      this.line += chunk.toString("latin1", at, end < 0 ? chunk.length : end + 1);
      if (this.line.length > chunkLineBytes) return this.#malformed();
      if (end < 0) return null;
      at = end + 1;
      const line = this.line;
      this.line = "";
      if (!line.endsWith("\r\n") || !this.#line(line.slice(0, -2))) return this.#malformed();
      if (this.body.complete) return at < chunk.length ? chunk.subarray(at) : null;
    }
    return null;
  }

  /** @param {string} line @returns {boolean} */
  #line(line) {
    if (this.state === "data-end") {
      this.state = "size";
      return line === "";
    }
    if (this.state === "trailer") {
      this.trailerLength += line.length;
      if (line === "") this.body.finish();
      return this.trailerLength <= trailerBytes;
    }
    const size = /^([0-9A-Fa-f]{1,12})(?:;[\t -~]*)?$/.exec(line);
    if (size === null) return false;
    this.left = Number.parseInt(/** @type {string} */ (size[1]), 16);
    this.state = this.left === 0 ? "trailer" : "data";
    return true;
  }

  #malformed() {
    this.body.connection.refuse(400, "the request's chunked body is malformed");
    return null;
  }
}
