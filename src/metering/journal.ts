// The writer of the journal: on the main thread, one `pwrite` a mark, into room that was made before.

import * as fs from "node:fs";
import { EbbError } from "#model/errors.ts";
import { journalLimits } from "#model/limits.ts";
import type { JournalLink } from "./door.ts";
import { FrameBuffer, type Frame } from "./frame.ts";
import { createSegment, removeUnfinished, segmentPath, segmentsIn } from "./segment.ts";
import { JournalShared } from "./shared.ts";

export interface JournalOptions {
  readonly directory: string;
  readonly link: JournalLink;
  readonly nowUs: () => number;
  readonly segmentBytes?: number;
}

/**
 * Invariant: position + reserved <= size. What is reserved (the ends of what has begun) can therefore always be
 * written in the segment that is open, also while no other can be made.
 */
export class Journal {
  readonly #out = new FrameBuffer();
  readonly #directory: string;
  readonly #link: JournalLink;
  readonly #shared: JournalShared;
  readonly #nowUs: () => number;
  readonly #segmentBytes: number;
  #fd = -1;
  #segment = 0;
  #sizeBytes = 0;
  #positionBytes = 0;
  #reservedBytes = 0;
  /** Reserved frames that the disk refused (EIO): they go before whatever is written next. */
  #owed: { readonly frame: Frame; readonly reservedBytes: number }[] = [];
  #retryUs = 0;
  #reason = "";

  constructor(options: JournalOptions) {
    this.#directory = options.directory;
    this.#link = options.link;
    this.#shared = new JournalShared(options.link.shared);
    this.#nowUs = options.nowUs;
    this.#segmentBytes = options.segmentBytes ?? journalLimits.segmentBytes;
  }

  get segment(): number {
    return this.#segment;
  }
  get reservedBytes(): number {
    return this.#reservedBytes;
  }

  /** Begins a segment after all that there are or have been. Throws EbbError storage_full, or what the file system throws. */
  start(): void {
    fs.mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    removeUnfinished(this.#directory, "writer");
    this.#segment = Math.max(segmentsIn(this.#directory).at(-1) ?? 0, this.#shared.floor);
    const problem = this.#roll(0);
    if (problem) throw problem;
  }

  stop(): void {
    if (this.#fd < 0) return;
    this.#payOwed();
    fs.fdatasyncSync(this.#fd);
    fs.closeSync(this.#fd);
    this.#fd = -1;
  }

  /** Writes what `fill` puts out and keeps `reserveBytes` more for later. An error means that nothing was written or kept. */
  write(fill: (out: FrameBuffer) => void, reserveBytes: number): EbbError | null {
    if (this.#owed.length > 0) {
      const problem = this.#payOwed();
      if (problem) return problem;
    }
    this.#out.reset();
    fill(this.#out);
    const needBytes = this.#out.length + reserveBytes;
    if (this.#positionBytes + this.#reservedBytes + needBytes > this.#sizeBytes) {
      const problem = this.#roll(needBytes);
      if (problem) return problem;
    }
    const problem = this.#put();
    if (!problem) this.#reservedBytes += reserveBytes;
    return problem;
  }

  /** Writes `frame` into room that was reserved for it, and gives that room back. An error means: it is written before the next. */
  writeReserved(frame: Frame, reservedBytes: number): EbbError | null {
    this.#owed.push({ frame, reservedBytes });
    return this.#payOwed();
  }

  #payOwed(): EbbError | null {
    for (let first = this.#owed[0]; first; first = this.#owed[0]) {
      this.#out.reset();
      this.#out.push(first.frame);
      const problem = this.#put();
      if (problem) return problem;
      this.#owed.shift();
      this.#reservedBytes -= first.reservedBytes;
    }
    return null;
  }

  #put(): EbbError | null {
    const out = this.#out;
    out.seal(this.#segment, this.#positionBytes);
    try {
      for (let written = 0; written < out.length;)
        written += fs.writeSync(this.#fd, out.bytes, written, out.length - written, this.#positionBytes + written);
    } catch (error) {
      // The position has not moved: the next write covers what this one left.
      return this.#refuse("written", error);
    }
    this.#positionBytes += out.length;
    this.#shared.moved(this.#positionBytes);
    if (this.#shared.wake()) this.#link.wake();
    return null;
  }

  /** Goes on in the next segment: the keeper's, or one made here if the keeper is late. Null: there is room now. */
  #roll(needBytes: number): EbbError | null {
    const nowUs = this.#nowUs();
    if (nowUs < this.#retryUs) return new EbbError("storage_full", this.#reason);
    try {
      this.#open(this.#segment + 1, this.#reservedBytes + needBytes);
    } catch (error) {
      this.#retryUs = nowUs + journalLimits.retryAfterMs * 1_000;
      return this.#refuse("enlarged", error);
    }
    if (this.#shared.wake()) this.#link.wake();
    return null;
  }

  /** Leaves the segment that is open only once there is another which holds all that is reserved. */
  #open(segment: number, wantedBytes: number): void {
    if (this.#shared.ready !== segment) {
      const sizeBytes = Math.max(Math.min(journalLimits.lateSegmentBytes, this.#segmentBytes), 2 * wantedBytes);
      createSegment(this.#directory, segment, { sizeBytes, maker: "writer", sync: false });
    }
    const fd = fs.openSync(segmentPath(this.#directory, segment), "r+");
    const sizeBytes = fs.fstatSync(fd).size;
    if (sizeBytes < wantedBytes) {
      // The keeper made it before the crowd came: it stays empty, and readers pass over it.
      fs.closeSync(fd);
      return this.#open(segment + 1, wantedBytes);
    }
    if (this.#fd >= 0) fs.closeSync(this.#fd);
    this.#fd = fd;
    this.#segment = segment;
    this.#sizeBytes = sizeBytes;
    this.#positionBytes = 0;
    this.#shared.rolled(segment);
  }

  #refuse(verb: string, cause: unknown): EbbError {
    const code = (cause as NodeJS.ErrnoException).code ?? "unknown error";
    const why = code === "ENOSPC" || code === "EDQUOT" ? "no space left on its disk" : code;
    this.#reason = `the metering journal cannot be ${verb} (${why}); nothing runs unmetered`;
    return new EbbError("storage_full", this.#reason, { cause });
  }
}
