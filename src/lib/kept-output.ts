// Output of a program, kept in bounded files by one process and read by another, which may come later: whoever reads drops what he is done with.
//
// A folder holds segments `log.NUMBER`. Each begins with how many bytes of streams 1 and 2 came before it (two doubles), and goes on with
// frames: length (u32), stream (u8, then three zeros), when it was written (double, epoch ms), and the bytes. Stream 3 says in
// digits how many bytes were lost there, for there was no room. Little-endian.

import fs from "node:fs";
import { join } from "node:path";

const segmentHeadBytes = 16;
const frameHeadBytes = 16;
const lostStream = 3;
/** While there is no room it is looked for so often. */
const lookMs = 100;
const readBytes = 256 * 1024;

export interface KeptBounds {
  readonly segmentBytes: number;
  readonly segments: number;
}

function segmentPath(folder: string, number: number): string {
  return join(folder, `log.${String(number).padStart(10, "0")}`);
}

const segmentName = /^log\.(\d{10})$/;

/** Of the files of a folder. */
export function isKeptOutput(name: string): boolean {
  return segmentName.test(name);
}

function segmentsIn(folder: string): number[] {
  return fs
    .readdirSync(folder)
    .flatMap((name) => {
      const found = segmentName.exec(name);
      return found === null ? [] : [Number(found[1])];
    })
    .toSorted((a, b) => a - b);
}

/** Never throws: what finds no room is lost, and counted. */
export class KeptWriter {
  readonly #folder: string;
  readonly #bounds: KeptBounds;
  readonly #nowMs: () => number;
  readonly #head = Buffer.alloc(frameHeadBytes);
  /** Of streams 1 and 2, also what was lost. */
  readonly #streamBytes: [number, number] = [0, 0];
  #fd = -1;
  #number = 0;
  #size = 0;
  #lost = 0;
  #lookAtMs = 0;

  constructor(folder: string, bounds: KeptBounds, nowMs: () => number = Date.now) {
    this.#folder = folder;
    this.#bounds = bounds;
    this.#nowMs = nowMs;
  }

  write(stream: 1 | 2, bytes: Buffer): void {
    if (!this.#hasRoom(bytes.length) || !this.#sayLost() || !this.#frame(stream, bytes)) this.#lost += bytes.length;
    else this.#streamBytes[stream - 1]! += bytes.length;
  }

  close(): void {
    if (this.#lost > 0 && this.#hasRoom(frameHeadBytes)) this.#sayLost();
    if (this.#fd >= 0) fs.closeSync(this.#fd);
    this.#fd = -1;
  }

  #hasRoom(bytes: number): boolean {
    const { segmentBytes, segments } = this.#bounds;
    if (this.#fd >= 0 && this.#size + frameHeadBytes + bytes <= segmentBytes) return true;
    const nowMs = this.#nowMs();
    if (this.#lost > 0 && nowMs < this.#lookAtMs) return false;
    this.#lookAtMs = nowMs + lookMs;
    try {
      return segmentsIn(this.#folder).length < segments && this.#next();
    } catch {
      return false;
    }
  }

  #next(): boolean {
    const number = this.#number + 1;
    const path = segmentPath(this.#folder, number);
    const head = Buffer.alloc(segmentHeadBytes);
    head.writeDoubleLE(this.#streamBytes[0], 0);
    head.writeDoubleLE(this.#streamBytes[1], 8);
    // Whole or not at all: whoever reads must not meet half of its head.
    fs.writeFileSync(`${path}.new`, head, { mode: 0o600 });
    fs.renameSync(`${path}.new`, path);
    const fd = fs.openSync(path, "a", 0o600);
    if (this.#fd >= 0) fs.closeSync(this.#fd);
    this.#fd = fd;
    this.#number = number;
    this.#size = segmentHeadBytes;
    return true;
  }

  #sayLost(): boolean {
    if (this.#lost === 0) return true;
    if (!this.#frame(lostStream, Buffer.from(String(this.#lost)))) return false;
    this.#lost = 0;
    return true;
  }

  #frame(stream: number, bytes: Buffer): boolean {
    const head = this.#head;
    head.writeUInt32LE(bytes.length, 0);
    head.writeUInt32LE(stream, 4);
    head.writeDoubleLE(this.#nowMs(), 8);
    const length = frameHeadBytes + bytes.length;
    try {
      if (fs.writevSync(this.#fd, [head, bytes]) === length) {
        this.#size += length;
        return true;
      }
    } catch {
      // The disk is full, as below.
    }
    try {
      fs.ftruncateSync(this.#fd, this.#size);
    } catch {
      // What is torn is skipped by the next segment.
    }
    return false;
  }
}

export interface KeptReaderOptions {
  readonly folder: string;
  /** `at`: bytes of this stream before these, which are good until it returns. */
  readonly data: (stream: 1 | 2, bytes: Buffer, timeMs: number, at: number) => void;
  readonly lost: (bytes: number, timeMs: number) => void;
}

export class KeptReader {
  readonly #options: KeptReaderOptions;
  readonly #streamBytes: [number, number] = [0, 0];
  /** Made for the first that there is: most programs that are short say nothing. */
  #buffer: Buffer | null = null;
  #fd = -1;
  #number = 0;
  #offset = 0;

  constructor(options: KeptReaderOptions) {
    this.#options = options;
  }

  /** The segment that is read. */
  get segment(): number {
    return this.#number;
  }

  /** Reads a stretch; false: there is nothing more at this moment. */
  read(): boolean {
    if (this.#fd < 0 && !this.#open()) return false;
    const buffer = (this.#buffer ??= Buffer.allocUnsafeSlow(readBytes));
    const length = fs.readSync(this.#fd, buffer, 0, readBytes, this.#offset);
    const used = this.#frames(buffer.subarray(0, length));
    if (used > 0) return true;
    // Half a frame with another segment behind it was torn.
    return this.#open();
  }

  /** Drops segments before this one: all in them has been dealt with. */
  drop(before: number): void {
    const { folder } = this.#options;
    for (const number of this.#segments()) if (number < before) fs.rmSync(segmentPath(folder, number), { force: true });
  }

  close(): void {
    if (this.#fd >= 0) fs.closeSync(this.#fd);
    this.#fd = -1;
  }

  #segments(): number[] {
    try {
      return segmentsIn(this.#options.folder);
    } catch {
      return []; // its folder is gone
    }
  }

  #open(): boolean {
    const next = this.#segments().find((number) => number > this.#number);
    if (next === undefined) return false;
    this.close();
    this.#fd = fs.openSync(segmentPath(this.#options.folder, next), "r");
    this.#number = next;
    const head = Buffer.alloc(segmentHeadBytes);
    fs.readSync(this.#fd, head, 0, segmentHeadBytes, 0);
    this.#streamBytes[0] = head.readDoubleLE(0);
    this.#streamBytes[1] = head.readDoubleLE(8);
    this.#offset = segmentHeadBytes;
    return true;
  }

  #frames(bytes: Buffer): number {
    const { data, lost } = this.#options;
    let at = 0;
    while (at + frameHeadBytes <= bytes.length) {
      const length = bytes.readUInt32LE(at);
      const stream = bytes.readUInt32LE(at + 4);
      const from = at + frameHeadBytes;
      if (from + length > bytes.length) break;
      const timeMs = bytes.readDoubleLE(at + 8);
      const payload = bytes.subarray(from, from + length);
      if (stream === 1 || stream === 2) {
        data(stream, payload, timeMs, this.#streamBytes[stream - 1]!);
        this.#streamBytes[stream - 1]! += length;
      } else if (stream === lostStream) lost(Number(payload.toString("latin1")), timeMs);
      at = from + length;
    }
    this.#offset += at;
    return at;
  }
}
