// The writer of the journal: on the main thread, one `pwrite` for all marks of a turn, into room that was made before.

import * as fs from "node:fs";
import type { Cancel, Clock } from "#model/clock.ts";
import { EbbError } from "#model/errors.ts";
import { journalLimits } from "#model/limits.ts";
import type { JournalLink, Marked } from "./door.ts";
import { FrameBuffer, type Frame } from "./frame.ts";
import { createSegment, removeUnfinished, segmentPath, segmentsIn } from "./segment.ts";
import { JournalShared } from "./shared.ts";

export interface JournalOptions {
  readonly directory: string;
  readonly link: JournalLink;
  readonly clock: Pick<Clock, "monotonicUs" | "after">;
  /** Runs once after what is going on now. */
  readonly defer: (run: () => void) => void;
  /** Marks that had their room were refused by the disk; they are kept, and written before the next. */
  readonly late: (problem: EbbError) => void;
  readonly segmentBytes?: number;
}

/** A mark that this turn writes. */
interface Added {
  /** Where it ends in the buffer. */
  readonly endBytes: number;
  /** Kept for marks to come: given back if this one cannot be written. */
  readonly keptBytes: number;
  /** Kept for this one: given back when it is written. */
  readonly usedBytes: number;
  readonly marked: Marked | null;
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
  readonly #options: JournalOptions;
  readonly #segmentBytes: number;
  #fd = -1;
  #segment = 0;
  #sizeBytes = 0;
  #positionBytes = 0;
  #reservedBytes = 0;
  #added: Added[] = [];
  #deferred = false;
  #waking: Cancel | null = null;
  /** Reserved frames that the disk refused (EIO): they go before whatever is written next. */
  #owed: { readonly frames: Buffer; readonly usedBytes: number }[] = [];
  #retryUs = 0;
  #reason = "";

  constructor(options: JournalOptions) {
    this.#directory = options.directory;
    this.#link = options.link;
    this.#shared = new JournalShared(options.link.shared);
    this.#options = options;
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
    this.#waking?.();
    if (this.#fd < 0) return;
    while (this.#added.length > 0) this.flush();
    this.#payOwed();
    fs.fdatasyncSync(this.#fd);
    fs.closeSync(this.#fd);
    this.#fd = -1;
  }

  /**
   * Adds a mark to those that this turn writes, and keeps `reserveBytes` more for later ones. An error: there is no room, and
   * nothing was added or kept.
   */
  add(frame: Frame, reserveBytes: number, marked: Marked | null): EbbError | null {
    const out = this.#out;
    while (out.full) this.flush();
    const before = out.length;
    out.push(frame);
    if (!this.#fits(reserveBytes)) {
      const needBytes = out.length - before + reserveBytes;
      out.truncate(before);
      this.flush();
      const problem = this.#fits(needBytes) ? null : this.#roll(needBytes + out.length);
      if (problem) return problem;
      while (out.full) this.flush();
      out.push(frame);
    }
    this.#reservedBytes += reserveBytes;
    this.#wait({ endBytes: out.length, keptBytes: reserveBytes, usedBytes: 0, marked });
    return null;
  }

  /** Adds a mark for which room was kept, and gives that room back when it is written. */
  addReserved(frame: Frame, usedBytes: number, marked: Marked | null): void {
    while (this.#out.full) this.flush();
    this.#out.push(frame);
    this.#wait({ endBytes: this.#out.length, keptBytes: 0, usedBytes, marked });
  }

  /** Writes what was added since the last time, and tells those who wait for it. */
  flush(): void {
    const added = this.#added;
    if (added.length === 0) return;
    const out = this.#out;
    this.#added = [];
    const problem = this.#payOwed() ?? this.#put(out);
    if (problem === null) for (const { usedBytes } of added) this.#reservedBytes -= usedBytes;
    else this.#keepOwed(added, problem);
    out.reset();
    for (const { marked } of added) marked?.marked(problem);
  }

  /** What is added counts in full beside what is reserved for some of it: at worst a segment ends a little early. */
  #fits(moreBytes: number): boolean {
    return this.#positionBytes + this.#out.length + this.#reservedBytes + moreBytes <= this.#sizeBytes;
  }

  #wait(added: Added): void {
    this.#added.push(added);
    if (this.#deferred) return;
    this.#deferred = true;
    this.#options.defer(this.#endOfTurn);
  }

  readonly #endOfTurn = (): void => {
    this.#deferred = false;
    this.flush();
  };

  #keepOwed(added: readonly Added[], problem: EbbError): void {
    let from = 0;
    let late = false;
    for (const { endBytes, keptBytes, usedBytes } of added) {
      if (usedBytes > 0) {
        this.#owed.push({ frames: Buffer.from(this.#out.bytes.subarray(from, endBytes)), usedBytes });
        late = true;
      }
      this.#reservedBytes -= keptBytes;
      from = endBytes;
    }
    if (late) this.#options.late(problem);
  }

  #payOwed(): EbbError | null {
    if (this.#owed.length === 0) return null;
    const out = new FrameBuffer();
    for (let first = this.#owed[0]; first; first = this.#owed[0]) {
      out.reset();
      out.pushCopied(first.frames);
      const problem = this.#put(out);
      if (problem) return problem;
      this.#owed.shift();
      this.#reservedBytes -= first.usedBytes;
    }
    return null;
  }

  #put(out: FrameBuffer): EbbError | null {
    out.seal(this.#segment, this.#positionBytes);
    let written = 0;
    try {
      while (written < out.length)
        written += fs.writeSync(this.#fd, out.bytes, written, out.length - written, this.#positionBytes + written);
    } catch (error) {
      this.#wipe(written);
      // The position has not moved: the next write covers what this one left.
      return this.#refuse("written", error);
    }
    this.#positionBytes += out.length;
    this.#shared.moved(this.#positionBytes);
    this.#wakeSoon();
    return null;
  }

  /** Not at once: a first mark stands before a first call, and the keeper's thread would have the core that this one is handed over on. */
  #wakeSoon(): void {
    if (!this.#shared.wake()) return;
    this.#waking = this.#options.clock.after(journalLimits.wakeAfterMs, () => this.#link.wake());
  }

  /** Whole frames before a tear would be believed after a kill, though their invocations were refused. */
  #wipe(bytes: number): void {
    if (bytes === 0) return;
    try {
      fs.writeSync(this.#fd, Buffer.alloc(bytes), 0, bytes, this.#positionBytes);
    } catch {
      // A disk that takes nothing any more: the next write covers it, if there is one.
    }
  }

  /** Goes on in the next segment: the keeper's, or one made here if the keeper is late. Null: there is room now. */
  #roll(needBytes: number): EbbError | null {
    const nowUs = this.#options.clock.monotonicUs();
    if (nowUs < this.#retryUs) return new EbbError("storage_full", this.#reason);
    try {
      this.#open(this.#segment + 1, this.#reservedBytes + needBytes);
    } catch (error) {
      this.#retryUs = nowUs + journalLimits.retryAfterMs * 1_000;
      return this.#refuse("enlarged", error);
    }
    this.#wakeSoon();
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
