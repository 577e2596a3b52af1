// Bytes from an instance to the events of one HTTP/1.1 response after another: incremental, strict, bounded.

import { httpLimits } from "#model/limits.ts";
import { BadResponse, parseResponseHead, type ResponseHead } from "./response-head.ts";

/** What the parser finds, in order: head, data …, then exactly one of end and upgrade. */
export interface ResponseEvents {
  /** `whole`: what came with it is all of the body. */
  head(head: ResponseHead, whole: boolean): void;
  data(chunk: Buffer): void;
  /** `last`: the body's final bytes, so that an end can be recorded before they go out. `done`: ebb-done in a trailer. */
  end(last: Buffer | null, done: boolean): void;
  /** 101 to a request that asked for it; `rest` is the first of the new protocol. */
  upgrade(head: ResponseHead, rest: Buffer): void;
}

type State = "idle" | "head" | "length" | "close" | "chunk-size" | "chunk-data" | "chunk-end" | "trailers";

const headEnd = Buffer.from("\r\n\r\n");
const lineEnd = Buffer.from("\r\n");
const chunkSizeLine = /^([0-9a-fA-F]{1,13})[\t ]*(?:;[\t\x20-\x7e\x80-\xff]*)?$/;
const chunkSizeLineBytes = 1_024;
const interimResponsesMax = 16;
/** What each connection may keep of the last head. */
const rememberedHeadBytes = 1_024;

export class ResponseParser {
  readonly #events: ResponseEvents;
  #state: State = "idle";
  #method = "GET";
  #upgradable = false;
  #interim = 0;
  /** Bytes of the body, or of the chunk, that are still to come. */
  #left = 0;
  /** Bytes of an unfinished head, size line or trailer, and how many of them were searched for its end. */
  #partial: Buffer | null = null;
  #partialLength = 0;
  #lastText = "";
  #lastMethod = "";
  #lastHead: ResponseHead | null = null;
  /** Something of the current response has arrived. */
  started = false;

  constructor(events: ResponseEvents) {
    this.#events = events;
  }

  /** A request with this method is on its way; its response comes next. */
  expect(method: string, upgradable: boolean): void {
    this.#state = "head";
    this.#method = method;
    this.#upgradable = upgradable;
    this.#interim = 0;
    this.#partialLength = 0;
    this.started = false;
  }

  /** Throws BadResponse; nothing may be fed after that. */
  feed(chunk: Buffer): void {
    let rest = chunk;
    this.started = true;
    while (rest.length > 0) {
      switch (this.#state) {
        case "idle":
          throw new BadResponse("it sent bytes after its answer was complete");
        case "head":
          rest = this.#head(rest);
          break;
        case "length":
          return this.#length(rest);
        case "close":
          return this.#events.data(rest);
        case "chunk-size":
          rest = this.#chunkSize(rest);
          break;
        case "chunk-data":
          rest = this.#chunkData(rest);
          break;
        case "chunk-end":
          rest = this.#chunkEnd(rest);
          break;
        case "trailers":
          rest = this.#trailers(rest);
          break;
      }
    }
  }

  /** The connection has ended. True: that was the end of a body without a length. */
  finish(): boolean {
    if (this.#state !== "close") return false;
    this.#state = "idle";
    this.#events.end(null, false);
    return true;
  }

  #head(rest: Buffer): Buffer {
    const [text, after] = this.#until(rest, headEnd, httpLimits.responseHeadBytes, "its head");
    if (text === null) return after;
    const head = this.#parsed(text);
    if (head.status < 200) return this.#interimResponse(head, after);
    this.#events.head(head, head.framing === after.length);
    if (head.framing === "chunked") this.#state = "chunk-size";
    else if (head.framing === "close") this.#state = "close";
    else if (head.framing === 0) this.#complete(null, after.length, false);
    else {
      this.#state = "length";
      this.#left = head.framing;
    }
    return after;
  }

  /** A function's answers mostly have the head of the one before, to the byte. */
  #parsed(text: string): ResponseHead {
    if (text === this.#lastText && this.#method === this.#lastMethod) return this.#lastHead!;
    const head = parseResponseHead(text, this.#method);
    if (text.length > rememberedHeadBytes) return head;
    this.#lastText = text;
    this.#lastMethod = this.#method;
    this.#lastHead = head;
    return head;
  }

  #interimResponse(head: ResponseHead, after: Buffer): Buffer {
    if (head.status === 101) {
      if (!this.#upgradable) throw new BadResponse("it switched protocols without being asked");
      this.#state = "idle";
      this.#events.upgrade(head, after);
      return after.subarray(after.length);
    }
    if (++this.#interim > interimResponsesMax) throw new BadResponse("it has too many interim responses");
    return after;
  }

  #length(rest: Buffer): void {
    if (rest.length < this.#left) {
      this.#left -= rest.length;
      this.#events.data(rest);
    } else {
      const last = rest.length === this.#left ? rest : rest.subarray(0, this.#left);
      this.#complete(last, rest.length - this.#left, false);
    }
  }

  #chunkSize(rest: Buffer): Buffer {
    const [line, after] = this.#until(rest, lineEnd, chunkSizeLineBytes, "a chunk's size");
    if (line === null) return after;
    const size = chunkSizeLine.exec(line)?.[1];
    if (size === undefined) throw new BadResponse("it has a chunk whose size is not hexadecimal");
    this.#left = Number.parseInt(size, 16);
    this.#state = this.#left === 0 ? "trailers" : "chunk-data";
    return after;
  }

  #chunkData(rest: Buffer): Buffer {
    const take = Math.min(this.#left, rest.length);
    this.#left -= take;
    if (this.#left === 0) {
      this.#state = "chunk-end";
      this.#left = 2;
    }
    this.#events.data(take === rest.length ? rest : rest.subarray(0, take));
    return rest.subarray(take);
  }

  #chunkEnd(rest: Buffer): Buffer {
    if (rest[0] !== (this.#left === 2 ? 13 : 10)) throw new BadResponse("it has a chunk that is longer than its size");
    if (--this.#left === 0) this.#state = "chunk-size";
    return rest.subarray(1);
  }

  // Trailers are read for ebb-done and dropped (RFC 9110, 6.5.1 allows it).
  #trailers(rest: Buffer): Buffer {
    if (this.#partialLength === 0 && rest[0] === 13 && rest[1] === 10) {
      this.#complete(null, rest.length - 2, this.#trailerDone);
      return rest.subarray(2);
    }
    const [line, after] = this.#until(rest, lineEnd, httpLimits.responseHeadBytes, "its trailer");
    if (line === null) return after;
    if (line === "") this.#complete(null, after.length, this.#trailerDone);
    else this.#trailer(line);
    return after;
  }

  #trailerDone = false;
  #trailerBytes = 0;
  #trailer(line: string): void {
    this.#trailerBytes += line.length;
    if (this.#trailerBytes > httpLimits.responseHeadBytes) throw new BadResponse("its trailers are too long");
    if (!/^[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*$/.test(line))
      throw new BadResponse("it has a trailer that is not `name: value`");
    if (/^ebb-done:[\t ]*1[\t ]*$/i.test(line)) this.#trailerDone = true;
  }

  #complete(last: Buffer | null, extraBytes: number, done: boolean): void {
    if (extraBytes > 0) throw new BadResponse("it sent bytes after its answer was complete");
    this.#state = "idle";
    this.#trailerDone = false;
    this.#trailerBytes = 0;
    this.#events.end(last, done);
  }

  /** Text up to `mark` (which is swallowed) and what follows; null text: more is needed. Almost always nothing is copied. */
  #until(rest: Buffer, mark: Buffer, maxBytes: number, what: string): [string | null, Buffer] {
    const before = this.#partialLength;
    if (before === 0) {
      const at = rest.indexOf(mark);
      if (at >= 0 && at <= maxBytes) return [rest.toString("latin1", 0, at), rest.subarray(at + mark.length)];
    }
    const bytes = this.#append(rest, maxBytes + mark.length);
    const at = bytes.indexOf(mark, Math.max(0, before - mark.length + 1));
    if (at >= 0 && at <= maxBytes) {
      this.#partialLength = 0;
      return [bytes.toString("latin1", 0, at), rest.subarray(at + mark.length - before)];
    }
    // A line that ends in LF alone would otherwise be waited for until the timeout.
    if (bytes[0] === 10 || /[^\r]\n/.test(bytes.toString("latin1", Math.max(0, before - 1))))
      throw new BadResponse(`${what} has a line that ends without CR LF`);
    if (bytes.length >= maxBytes + mark.length) throw new BadResponse(`${what} is longer than ${maxBytes} bytes`);
    return [null, rest.subarray(rest.length)];
  }

  #append(rest: Buffer, maxBytes: number): Buffer {
    const wanted = Math.min(this.#partialLength + rest.length, maxBytes);
    if (this.#partial === null || this.#partial.length < wanted) {
      const grown = Buffer.allocUnsafe(Math.min(Math.max(1_024, wanted * 2), maxBytes));
      this.#partial?.copy(grown, 0, 0, this.#partialLength);
      this.#partial = grown;
    }
    rest.copy(this.#partial, this.#partialLength, 0, wanted - this.#partialLength);
    this.#partialLength = wanted;
    return this.#partial.subarray(0, wanted);
  }
}
