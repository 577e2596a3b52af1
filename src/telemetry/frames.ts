// Frames: how a runtime says above concurrency 1 which invocation wrote what. One JSON a line; nothing in it is believed.

import { isInvocationId } from "#model/ids.ts";
import { logLimits } from "#model/limits.ts";
import { indexOfNewline, isLevel, readObject, type Level } from "./text.ts";

export interface Frame {
  readonly invocation: string | null;
  readonly stream: "stdout" | "stderr";
  /** As the runtime says, epoch ms; whoever uses it checks it. */
  readonly timeMs: number | null;
  readonly level: Level | null;
  readonly text: string;
}

/** null: not a frame. */
export function readFrame(line: string): Frame | null {
  const said = readObject(line);
  if (said === null) return null;
  const { i, s, t, m, l } = said;
  if (typeof m !== "string" || (s !== "out" && s !== "err")) return null;
  return {
    invocation: typeof i === "string" && isInvocationId(i) ? i : null,
    stream: s === "out" ? "stdout" : "stderr",
    timeMs: typeof t === "number" && Number.isFinite(t) ? t : null,
    level: isLevel(l) ? l : null,
    text: m.toWellFormed(),
  };
}

/** Cuts the third FIFO into frames; what is longer than a frame may be is counted and left out. */
export class FrameReader {
  readonly #sink: (line: Buffer, start: number, end: number) => void;
  readonly #tooLong: (bytes: number) => void;
  #carry: Buffer = Buffer.alloc(0);
  /** Bytes of a frame that is too long, so far; 0: none. */
  #skipped = 0;

  constructor(sink: (line: Buffer, start: number, end: number) => void, tooLong: (bytes: number) => void) {
    this.#sink = sink;
    this.#tooLong = tooLong;
  }

  feed(chunk: Buffer): void {
    const bytes = this.#carry.length > 0 ? Buffer.concat([this.#carry, chunk]) : chunk;
    this.#carry = Buffer.alloc(0);
    let start = 0;
    for (let end = indexOfNewline(bytes, 0); end >= 0; end = indexOfNewline(bytes, start)) {
      const length = end - start + this.#skipped;
      if (length > logLimits.frameBytes) this.#tooLong(length);
      else this.#sink(bytes, start, end);
      this.#skipped = 0;
      start = end + 1;
    }
    const rest = bytes.length - start;
    if (this.#skipped > 0 || rest > logLimits.frameBytes) this.#skipped += rest;
    else if (rest > 0) this.#carry = Buffer.from(bytes.subarray(start));
  }
}
