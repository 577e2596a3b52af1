// Moves the journal into the ledger: reads from where it stopped, folds, and commits a stretch at a time, each exactly once.

import * as fs from "node:fs";
import { journalLimits } from "#model/limits.ts";
import { RecordPacker } from "#model/record-block.ts";
import type { JournalPosition, Ledger } from "./door.ts";
import { FrameReader } from "./frame.ts";
import { segmentPath, segmentsIn } from "./segment.ts";
import type { JournalShared } from "./shared.ts";
import { SpanFold } from "./spans.ts";

/** The longest frame there can be: what a stretch may end inside of. */
const frameMaxBytes = 8 + 255;

export interface LoaderOptions {
  readonly directory: string;
  readonly shared: Pick<JournalShared, "written">;
  readonly ledger: Pick<Ledger, "journal" | "commit">;
}

export interface LoadResult {
  readonly marks: number;
  readonly records: number;
  readonly damagedBytes: number;
}

export class Loader {
  readonly #options: LoaderOptions;
  #fold: SpanFold | null = null;
  #packer = new RecordPacker();
  #position: JournalPosition = { segment: 0, offsetBytes: 0 };
  #fd = -1;
  #fdSegment = 0;
  readonly #buffer = Buffer.allocUnsafeSlow(journalLimits.loadBytes + frameMaxBytes);
  /** Zeros that may be the end of a segment that was not filled, or a hole that a power cut left. */
  #emptyBytes = 0;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: LoaderOptions) {
    this.#options = options;
  }

  /** Whether the writer has written what is not loaded yet. */
  get behind(): boolean {
    const { segment, position } = this.#options.shared.written();
    if (segment === 0) return false;
    return segment > this.#position.segment || position > this.#position.offsetBytes;
  }

  /** Segments before this one are in the ledger, all of them. */
  get segment(): number {
    return this.#position.segment;
  }

  /** Loads to where the journal ends now. Rejects with the ledger's error; what was not committed is loaded again. */
  load(): Promise<LoadResult> {
    const run = this.#turn.then(() => this.#load());
    this.#turn = run.catch(() => {});
    return run;
  }

  async close(): Promise<void> {
    await this.#turn;
    this.#closeFile();
  }

  async #load(): Promise<LoadResult> {
    const target = this.#options.shared.written();
    const result = { marks: 0, records: 0, damagedBytes: 0 };
    // No writer yet: a segment that looks complete may be the one that it is about to open.
    if (target.segment === 0) return result;
    try {
      await this.#resume();
      for (;;) {
        const done = await this.#stretch(target, result);
        if (done) return result;
      }
    } catch (error) {
      this.#fold = null;
      this.#position = { segment: 0, offsetBytes: 0 };
      throw error;
    }
  }

  async #resume(): Promise<void> {
    if (this.#fold) return;
    const saved = await this.#options.ledger.journal();
    const packer = new RecordPacker();
    this.#packer = packer;
    this.#fold = new SpanFold(saved?.state ?? null, (record) => packer.add(record));
    this.#position = saved?.position ?? { segment: 0, offsetBytes: 0 };
    this.#emptyBytes = 0;
    this.#closeFile();
  }

  /** Reads and commits one stretch; true at the target. */
  async #stretch(
    target: { segment: number; position: number },
    result: { marks: number; records: number; damagedBytes: number },
  ): Promise<boolean> {
    const fold = this.#fold!;
    if (!this.#openSegment(target.segment)) return true;
    const { segment, offsetBytes } = this.#position;
    const live = segment === target.segment;
    const limit = live ? target.position : fs.fstatSync(this.#fd).size;
    const wanted = Math.min(this.#buffer.length, limit - offsetBytes);
    if (wanted <= 0 && live) return true;
    const got = wanted > 0 ? fs.readSync(this.#fd, this.#buffer, 0, wanted, offsetBytes) : 0;
    const whole = offsetBytes + got >= limit || got < wanted;
    const read = this.#read(fold, this.#buffer.subarray(0, got), whole);
    result.marks += read.marks;
    result.damagedBytes += read.damagedBytes;
    this.#position =
      whole && !live
        ? { segment: segment + 1, offsetBytes: 0 }
        : { segment, offsetBytes: live && whole ? limit : offsetBytes + read.usedBytes };
    if (whole) this.#emptyBytes = 0;
    const blocks = this.#packer.take();
    for (const block of blocks) result.records += block.records;
    await this.#options.ledger.commit({
      blocks,
      totals: fold.takeTotals(),
      position: this.#position,
      state: fold.save(),
      damagedBytes: read.damagedBytes,
    });
    return live && whole;
  }

  /** The segment at the position, or the next that exists; false: there is none up to `last`. */
  #openSegment(last: number): boolean {
    const { directory } = this.#options;
    if (this.#fdSegment === this.#position.segment && this.#fd >= 0) return true;
    this.#closeFile();
    const next = segmentsIn(directory).find((segment) => segment >= this.#position.segment && segment <= last);
    if (next === undefined) return false;
    if (next !== this.#position.segment) this.#position = { segment: next, offsetBytes: 0 };
    this.#fd = fs.openSync(segmentPath(directory, next), "r");
    this.#fdSegment = next;
    return true;
  }

  #closeFile(): void {
    if (this.#fd >= 0) fs.closeSync(this.#fd);
    this.#fd = -1;
  }

  /** Folds the frames of one stretch. `whole`: nothing follows it in this segment. */
  #read(fold: SpanFold, bytes: Buffer, whole: boolean): { marks: number; usedBytes: number; damagedBytes: number } {
    const reader = new FrameReader(bytes, this.#position.segment, this.#position.offsetBytes);
    let at = 0;
    let marks = 0;
    let damagedBytes = 0;
    while (at < bytes.length) {
      const size = reader.sizeAt(at);
      if (size > 0) {
        const frame = reader.frameAt(at);
        if (frame) fold.apply(frame);
        else damagedBytes += size;
        // Zeros with frames after them were no end.
        damagedBytes += this.#emptyBytes;
        this.#emptyBytes = 0;
        marks++;
        at += size;
        continue;
      }
      if (size < 0 && !whole) break;
      const next = nextMarker(bytes, at + 1);
      if (isZero(bytes, at, next)) this.#emptyBytes += next - at;
      else {
        damagedBytes += next - at + this.#emptyBytes;
        this.#emptyBytes = 0;
      }
      at = next;
    }
    return { marks, usedBytes: at, damagedBytes };
  }
}

function nextMarker(bytes: Buffer, from: number): number {
  const found = bytes.indexOf(0xeb, from);
  return found < 0 ? bytes.length : found;
}

/** Of a segment that was made ahead nearly all is: compared in pieces, not byte by byte. */
const zeros = Buffer.alloc(64 * 1024);

function isZero(bytes: Buffer, from: number, to: number): boolean {
  for (let at = from; at < to; at += zeros.length) {
    const end = Math.min(to, at + zeros.length);
    if (bytes.compare(zeros, 0, end - at, at, end) !== 0) return false;
  }
  return true;
}
