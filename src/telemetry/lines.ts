// Bytes of one stream -> lines, each with the invocation that wrote it, by the marks that the runtime writes in between.

import { isInvocationId } from "#model/ids.ts";
import { logLimits } from "#model/limits.ts";
import { cutAt, indexOfNewline } from "./text.ts";

const markIdChars = 26;
const nothing: Buffer = Buffer.alloc(0);

export interface LineSink {
  /** `bytes` are good until it returns. `invocation` null: written outside any. `after`: where the stream goes on behind it. */
  (bytes: Buffer, start: number, end: number, invocation: string | null, after: number): void;
}

/**
 * Lines of at most `logLimits.lineBytes`; longer ones are cut. A mark is `RS nonce SP (+|-) SP id LF`, and may stand behind
 * text that no newline has ended. Whatever only looks like one is text: the nonce is known in this instance alone.
 */
export class LineReader {
  readonly #mark: Buffer | null;
  readonly #sink: LineSink;
  #carry: Buffer = nothing;
  #invocation: string | null = null;
  /** Bytes of the stream that were fed. */
  #fed: number;
  /** Where the buffer that is looked at begins in the stream. */
  #base = 0;

  /** `from`: bytes of the stream that came before. */
  constructor(nonce: string | null, sink: LineSink, from = 0) {
    this.#fed = from;
    this.#mark = nonce === null ? null : Buffer.from(`\x1e${nonce} `, "latin1");
    this.#sink = sink;
  }

  get partialBytes(): number {
    return this.#carry.length;
  }

  feed(chunk: Buffer): void {
    let start = 0;
    const base = this.#fed;
    this.#base = base - this.#carry.length;
    this.#fed += chunk.length;
    // What was left over ends within this chunk, or grows. Only that line is copied, not the chunk.
    if (this.#carry.length > 0) {
      const end = indexOfNewline(chunk, 0);
      const line = Buffer.concat([this.#carry, end < 0 ? chunk : chunk.subarray(0, end)]);
      this.#carry = nothing;
      if (end < 0) return this.#keep(line, 0);
      this.#line(line, 0, line.length);
      start = end + 1;
    }
    this.#base = base;
    for (let end = indexOfNewline(chunk, start); end >= 0; end = indexOfNewline(chunk, start)) {
      this.#line(chunk, start, end);
      start = end + 1;
    }
    this.#keep(chunk, start);
  }

  /** What has no newline yet, cut to what a line may be. The chunk's memory is the reader's, and is used again. */
  #keep(bytes: Buffer, from: number): void {
    let start = from;
    while (bytes.length - start > logLimits.lineBytes) {
      const cut = cutAt(bytes, start, logLimits.lineBytes);
      this.#sink(bytes, start, cut, this.#invocation, this.#base + cut);
      start = cut;
    }
    if (start < bytes.length) this.#carry = Buffer.from(bytes.subarray(start));
  }

  /** No more comes (or nothing has for long): what no newline ended is a line as well. */
  flush(): void {
    const rest = this.#carry;
    this.#carry = nothing;
    if (rest.length > 0) this.#sink(rest, 0, rest.length, this.#invocation, this.#fed);
  }

  #line(bytes: Buffer, start: number, end: number): void {
    const mark = this.#mark;
    if (mark) {
      const at = end - mark.length - 2 - markIdChars;
      if (at >= start && bytes[at] === 0x1e && this.#isMark(bytes, at, end, mark)) {
        if (at > start) this.#pieces(bytes, start, at);
        const begins = bytes[at + mark.length] === 0x2b;
        this.#invocation = begins ? bytes.toString("latin1", end - markIdChars, end) : null;
        return;
      }
    }
    this.#pieces(bytes, start, end);
  }

  #isMark(bytes: Buffer, at: number, end: number, mark: Buffer): boolean {
    if (bytes.compare(mark, 0, mark.length, at, at + mark.length) !== 0) return false;
    const sign = bytes[at + mark.length];
    if ((sign !== 0x2b && sign !== 0x2d) || bytes[at + mark.length + 1] !== 0x20) return false;
    return isInvocationId(bytes.toString("latin1", end - markIdChars, end));
  }

  #pieces(bytes: Buffer, start: number, end: number): void {
    let from = start;
    while (end - from > logLimits.lineBytes) {
      const cut = cutAt(bytes, from, logLimits.lineBytes);
      this.#sink(bytes, from, cut, this.#invocation, this.#base + cut);
      from = cut;
    }
    this.#sink(bytes, from, end, this.#invocation, this.#base + end + 1);
  }
}
