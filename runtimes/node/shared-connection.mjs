// The connection that many invocations share (CONTRACT.md, 10): each request and each answer is a frame. What arrives together is read
// by one system call and answered by one, where connections of their own would each take two.

import { framedFields, headEnd, readHead, refusal } from "./http1.mjs";
import { steadyMs } from "./invocation.mjs";

/** @import { Connection, Exchange } from "./http1.mjs" */

/** Of a frame: its length and the number of its invocation, each a u32, little endian. */
const frameHeadBytes = 8;
/** Of a request, head and body. */
const requestBytes = 64 * 1024;
/** A longer answer would hold up those behind it, and goes by a connection of its own. */
const answerBytes = 64 * 1024;
/** What is beyond this stays in the socket, where it is read faster than it is served. */
const unreadMostBytes = 1024 * 1024;
/** How many there may be at once. */
const numbers = 4_096;

/** So long the requests of one read are begun one after the other; the others wait until those have been answered that could be. */
const turnMs = 1;

const accepted = "HTTP/1.1 101 \r\nconnection: upgrade\r\nupgrade: ebb-frames\r\n\r\n";

/** @param {number} length @param {number} number @returns {string} latin1 */
function frameHead(length, number) {
  return String.fromCharCode(
    length & 0xff,
    (length >> 8) & 0xff,
    (length >> 16) & 0xff,
    length >>> 24,
    number & 0xff,
    (number >> 8) & 0xff,
    0,
    0,
  );
}

/**
 * What it needs of whoever keeps the connections.
 * @typedef {{
 *   serve(exchange: Exchange): void, tellDone(id: string): void, closed(connection: SharedConnection): void,
 *   moves(id: string, invocation: FramedInvocation): void, left(id: string): void,
 * }} Keeper
 */

export class SharedConnection {
  /** @param {Connection} connection which has asked to become this one @param {Keeper} keeper */
  constructor(connection, keeper) {
    this.keeper = keeper;
    /** By their numbers: the last of each. @type {FramedInvocation[]} */
    this.invocations = [];
    this.active = 0;
    this.closing = false;
    /** What is not read yet, in pieces: the beginning of a frame, or frames whose turn has not come. @type {Buffer[]} */
    this.unread = [];
    this.unreadBytes = 0;
    /** There are such frames. */
    this.later = false;
    /** What goes out at the end of this turn; text is latin1. @type {(string | Uint8Array)[]} */
    this.parts = [];
    const { socket, rest } = connection;
    this.socket = socket;
    for (const event of ["data", "drain", "close"]) socket.removeAllListeners(event);
    socket.on("data", (chunk) => this.#received(/** @type {Buffer} */ (chunk)));
    // Code that ends the process takes no answers with it that others have given.
    process.on("exit", this.#flush);
    socket.on("close", () => {
      process.removeListener("exit", this.#flush);
      for (const invocation of this.invocations) invocation?.dropped();
      keeper.closed(this);
    });
    socket.write(accepted, "latin1");
    if (rest !== null) this.#received(rest);
  }

  /** Closes when what runs is answered. */
  finish() {
    this.closing = true;
    this.#endIfIdle();
  }

  /** @param {Buffer} chunk */
  #received(chunk) {
    this.unread.push(chunk);
    this.unreadBytes += chunk.length;
    if (!this.later) this.#read();
    else if (this.unreadBytes > unreadMostBytes) this.socket.pause();
  }

  #read = () => {
    const bytes = this.unread.length === 1 ? /** @type {Buffer} */ (this.unread[0]) : Buffer.concat(this.unread);
    const lateMs = steadyMs() + turnMs;
    let at = 0;
    this.later = false;
    while (bytes.length - at >= frameHeadBytes) {
      if (at > 0 && steadyMs() > lateMs) {
        this.later = true;
        setImmediate(this.#read);
        break;
      }
      const length = bytes.readUInt32LE(at);
      const number = bytes.readUInt32LE(at + 4);
      const from = at + frameHeadBytes;
      if (length <= requestBytes && number < numbers && bytes.length - from < length) break;
      at = from + length;
      if (length > requestBytes || number >= numbers || !this.#frame(number, bytes.subarray(from, at))) {
        this.socket.destroy();
        return;
      }
    }
    this.unread = at < bytes.length ? [bytes.subarray(at)] : [];
    this.unreadBytes = bytes.length - at;
    if (this.unreadBytes <= unreadMostBytes && this.socket.isPaused()) this.socket.resume();
  };

  /** @param {number} number @param {Buffer} frame @returns {boolean} false: nobody who keeps to the frames would send it */
  #frame(number, frame) {
    if (frame.length === 0) {
      this.invocations[number]?.dropped();
      return true;
    }
    if (this.invocations[number]?.framed === false) return false;
    const invocation = new FramedInvocation(this, number);
    const exchange = readFrame(invocation, frame);
    this.active += 1;
    if (typeof exchange === "string") this.#refuse(number, exchange);
    else {
      invocation.exchange = exchange;
      while (this.invocations.length < number) this.invocations.push(new FramedInvocation(this, -1));
      this.invocations[number] = invocation;
      this.keeper.serve(exchange);
    }
    return true;
  }

  /** What is no request fails alone: others share the connection. @param {number} number @param {string} detail */
  #refuse(number, detail) {
    const answer = refusal(400, detail, "ebb-done: 1\r\n");
    this.put(number, [answer], answer.length);
  }

  /** The one frame that answers a number. @param {number} number @param {(string | Uint8Array)[]} parts @param {number} length */
  put(number, parts, length) {
    this.active -= 1;
    if (this.parts.length === 0 && !this.later) setImmediate(this.#flush);
    this.parts.push(frameHead(length, number), ...parts);
    // Those that are read later take their time: it does not wait for them.
    if (this.later) this.#flush();
  }

  #flush = () => {
    const { parts, socket } = this;
    this.parts = [];
    let text = "";
    for (const part of parts) {
      if (typeof part === "string") {
        text += part;
        continue;
      }
      socket.cork();
      socket.write(text, "latin1");
      text = "";
      socket.write(part);
    }
    if (text !== "") socket.write(text, "latin1");
    while (socket.writableCorked > 0) socket.uncork();
    this.#endIfIdle();
  };

  #endIfIdle() {
    if (this.closing && this.active === 0 && this.parts.length === 0) this.socket.end();
  }
}

/** @param {FramedInvocation} invocation @param {Buffer} frame @returns {Exchange | string} a string: what is wrong */
function readFrame(invocation, frame) {
  const end = frame.indexOf(headEnd);
  if (end < 0) return "the request's head does not end";
  // Without the body: whoever keeps a header's value keeps the text that it is a part of.
  const exchange = readHead(invocation, frame.toString("latin1", 0, end + 2), framedFields);
  if (typeof exchange === "string") return exchange;
  const from = end + headEnd.length;
  if (exchange.body.length !== frame.length - from)
    return "a request in a frame has all of its body there, and nothing behind it";
  if (from < frame.length) {
    // A copy: what is left unread must not keep all that came with it, and that is others'.
    const body = Buffer.allocUnsafeSlow(frame.length - from);
    frame.copy(body, 0, from);
    exchange.body.feed(body);
  }
  return exchange;
}

/**
 * One invocation of a shared connection: what its exchange has for a connection. Its answer goes out whole, or, when it comes in pieces or is
 * long, by a connection for which ebb is asked.
 */
export class FramedInvocation {
  /** @param {SharedConnection} shared @param {number} number */
  constructor(shared, number) {
    this.shared = shared;
    this.number = number;
    /** @type {Exchange | null} */
    this.exchange = null;
    /** @type {Exchange | null} */
    this.doneInHead = null;
    /** Its number has had its frame. */
    this.framed = number < 0;
    /** The answer's last byte is in `parts`. */
    this.ended = false;
    /** What has been written and not gone out; text is latin1. @type {(string | Uint8Array)[]} */
    this.parts = [];
    this.length = 0;
    this.full = false;
    this.broken = false;
  }

  // --- what an exchange asks of its connection

  get socket() {
    return /** @type {import("./http1.mjs").AnswerSocket} */ (/** @type {unknown} */ (this));
  }

  get closing() {
    return false;
  }

  /** @param {string | Uint8Array} data @param {"latin1"} [encoding] @returns {boolean} */
  write(data, encoding) {
    // Bytes are copied: they go out when others have run, who may have them too.
    const part = typeof data === "string" && encoding === "latin1" ? data : Buffer.from(data);
    this.parts.push(part);
    this.length += part.length;
    return !this.full;
  }

  cork() {}
  uncork() {}
  /** Its body is here whole: nothing is held back. */
  pause() {}

  /** The answer breaks off, wherever it goes. */
  destroy() {
    this.broken = true;
    if (!this.framed) this.#moves();
  }

  /** Its answer comes in pieces. */
  begun() {
    this.#moves();
  }

  /** All of its answer is written. @param {boolean} _last of a connection's own */
  answered(_last) {
    this.ended = true;
    if (this.framed) return;
    if (this.length > answerBytes) this.#moves();
    else {
      this.#put(this.parts, this.length);
      this.parts = [];
    }
  }

  // --- how it ends

  /** Nothing more goes by the frames: ebb is to ask for it. */
  #moves() {
    this.full = true;
    this.shared.keeper.moves(this.#id(), this);
    this.#put([], 0);
  }

  /** @param {(string | Uint8Array)[]} parts @param {number} length */
  #put(parts, length) {
    this.framed = true;
    this.shared.put(this.number, parts, length);
  }

  /** ebb has asked for the rest of it, which goes by this connection. @param {Connection} connection */
  moveTo(connection) {
    const { exchange, parts } = this;
    if (exchange === null || this.broken) {
      connection.socket.destroy();
      return;
    }
    exchange.connection = connection;
    connection.exchange = exchange;
    connection.doneInHead = this.doneInHead;
    this.doneInHead = null;
    connection.socket.cork();
    for (const part of parts) {
      if (typeof part === "string") connection.socket.write(part, "latin1");
      else connection.socket.write(part);
    }
    connection.socket.uncork();
    this.parts = [];
    if (this.ended) connection.answered(false);
    else exchange.onDrain?.();
  }

  /** ebb wants no answer any more, or is gone. */
  dropped() {
    const { exchange, doneInHead } = this;
    // ebb may not have read the head that says done: said again, it is heard.
    if (doneInHead !== null) this.shared.keeper.tellDone(this.#id());
    this.doneInHead = null;
    if (exchange === null || exchange.connection !== this) return;
    exchange.abort();
    this.shared.keeper.left(this.#id());
    if (!this.framed) this.#put([], 0);
  }

  #id() {
    return this.exchange?.header("ebb-invocation-id") ?? "";
  }
}
