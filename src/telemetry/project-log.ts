// The log of one project on the disk: append-only files, each of one day and of bounded size, thrown away whole when they are too old or too many.

import fs from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { logLimits, recordLimits } from "#model/limits.ts";
import type { LogLine, LogQuery } from "./door.ts";
import { decodeRecord, needleOf, placeOf } from "./record.ts";

const dayMs = 86_400_000;
const blockBytes = 256 * 1024;
const writeBytes = 256 * 1024;
/** Lines of several instances lie in the order of their writing, not to the millisecond of their time. */
const disorderMs = 5 * 60_000;
const fileName = /^(\d{10})-(\d{4}-\d{2}-\d{2})\.ndjson$/;

interface Segment {
  readonly number: number;
  /** UTC, of its records: "2026-11-24". */
  readonly day: string;
  readonly path: string;
  bytes: number;
}

/** Lines of one day that are written together: bytes already, because many small strings weigh several times as much. */
class Chunk {
  readonly day: string;
  size = 0;
  #bytes = Buffer.allocUnsafeSlow(4 * 1024);

  constructor(day: string) {
    this.day = day;
  }

  add(text: string): void {
    // UTF-8 takes at most three bytes a UTF-16 unit.
    const needed = this.size + text.length * 3;
    if (needed > this.#bytes.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.#bytes.length * 2));
      this.#bytes.copy(larger, 0, 0, this.size);
      this.#bytes = larger;
    }
    this.size += this.#bytes.write(text, this.size);
  }

  take(): Buffer {
    return this.#bytes.subarray(0, this.size);
  }
}

export interface ProjectLogOptions {
  readonly keptBytes?: number;
  readonly segmentBytes?: number;
}

export class ProjectLog {
  readonly #directory: string;
  readonly #keptBytes: number;
  readonly #segmentBytes: number;
  readonly #segments: Segment[];
  #pending: Chunk[] = [];
  /** Bytes (characters, which are never more) that wait to be written. */
  pendingBytes = 0;
  #writing: Promise<void> | null = null;

  constructor(directory: string, options: ProjectLogOptions = {}) {
    this.#directory = directory;
    this.#keptBytes = options.keptBytes ?? logLimits.keptBytesPerProject;
    this.#segmentBytes = options.segmentBytes ?? logLimits.segmentBytes;
    fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
    this.#segments = fs
      .readdirSync(directory)
      .flatMap((name) => {
        const found = fileName.exec(name);
        if (!found) return [];
        const path = join(directory, name);
        return [{ number: Number(found[1]), day: found[2]!, path, bytes: fs.statSync(path).size }];
      })
      .toSorted((a, b) => a.number - b.number);
  }

  get bytes(): number {
    return this.#segments.reduce((sum, segment) => sum + segment.bytes, 0);
  }

  append(text: string, timeMs: number): void {
    const day = dayOf(timeMs);
    let chunk = this.#pending.at(-1);
    if (!chunk || chunk.day !== day || chunk.size >= writeBytes) {
      chunk = new Chunk(day);
      this.#pending.push(chunk);
    }
    chunk.add(text);
    this.pendingBytes += text.length;
  }

  /** Resolves when all that was appended before is written; throws what the disk says, and what was not written is lost. */
  async flush(): Promise<void> {
    while (this.#writing) await this.#writing.catch(() => undefined);
    if (this.#pending.length === 0) return;
    this.#writing = this.#write().finally(() => (this.#writing = null));
    await this.#writing;
  }

  async #write(): Promise<void> {
    const chunks = this.#pending;
    this.#pending = [];
    this.pendingBytes = 0;
    for (let chunk = chunks.shift(); chunk; chunk = chunks.shift()) await this.#appendTo(chunk.day, chunk.take());
  }

  async #appendTo(day: string, bytes: Buffer): Promise<void> {
    let last = this.#segments.at(-1);
    if (!last || last.day !== day || last.bytes + bytes.length > this.#segmentBytes) {
      const number = (last?.number ?? 0) + 1;
      const path = join(this.#directory, `${String(number).padStart(10, "0")}-${day}.ndjson`);
      last = { number, day, path, bytes: 0 };
      this.#segments.push(last);
      this.#dropOldest();
    }
    const file = await open(last.path, "a+", 0o600);
    try {
      // A line that a crash has torn is ended, or the next one would be lost with it.
      const { size } = await file.stat();
      const end = Buffer.alloc(1);
      if (size > 0) await file.read(end, 0, 1, size - 1);
      const torn = size > 0 && end[0] !== 0x0a;
      await file.appendFile(torn ? Buffer.concat([Buffer.from("\n"), bytes]) : bytes);
      last.bytes = size + bytes.length + (torn ? 1 : 0);
    } finally {
      await file.close();
    }
  }

  /** The bound of bytes holds at any time, whatever the day: a flood throws away its own project's past only. */
  #dropOldest(): void {
    let bytes = this.bytes;
    while (this.#segments.length > 1 && bytes + this.#segmentBytes > this.#keptBytes) bytes -= this.#drop();
  }

  #drop(): number {
    const oldest = this.#segments.shift();
    if (!oldest) return 0;
    fs.rmSync(oldest.path, { force: true });
    return oldest.bytes;
  }

  /** One pass of retention: what is older than the newest record by more than is kept, and of that the oldest day only. */
  expire(): void {
    const newest = this.#segments.reduce((max, { day }) => (day > max ? day : max), "");
    const oldest = this.#segments.reduce((min, { day }) => (day < min ? day : min), newest);
    if (oldest >= newest) return;
    if (Date.parse(newest) - Date.parse(oldest) <= logLimits.keptDays * dayMs) return;
    const untilMs = Date.parse(oldest) + recordLimits.deletedPerPassDays * dayMs;
    for (const segment of this.#segments.filter(({ day }) => Date.parse(day) < untilMs)) {
      this.#segments.splice(this.#segments.indexOf(segment), 1);
      fs.rmSync(segment.path, { force: true });
    }
  }

  /** The newest lines that match, oldest first. */
  async query(query: LogQuery): Promise<readonly LogLine[]> {
    await this.flush();
    const limit = Math.min(query.limit, logLimits.queryLines);
    const began = [query.invocation, query.run].map((id) => (id === undefined ? 0 : beganMs(id)));
    const sinceMs = Math.max(query.sinceMs ?? 0, ...began);
    const needles: Buffer[] = [];
    if (query.workload !== undefined) needles.push(needleOf("w", query.workload));
    if (query.invocation !== undefined) needles.push(needleOf("i", query.invocation));
    if (query.run !== undefined) needles.push(needleOf("r", query.run));
    const found: LogLine[] = [];
    for (const segment of [...this.#segments].toReversed()) {
      if (Date.parse(segment.day) + dayMs < sinceMs) continue;
      if (found.length >= limit) break;
      await readBackwards(segment.path, needles, (line) => {
        const record = decodeRecord(line);
        if (!record) return true;
        if (record.time < sinceMs - disorderMs) return false;
        if (record.time >= sinceMs) found.push(record);
        return found.length < limit;
      });
    }
    return found.toReversed();
  }

  /** How far the streams of an execution are in the log: where reading goes on. */
  async places(invocation: string): Promise<readonly [number, number]> {
    await this.flush();
    const found: [number, number] = [0, 0];
    const needles = [needleOf("i", invocation)];
    const sinceMs = beganMs(invocation);
    for (const segment of [...this.#segments].toReversed()) {
      const writtenMs = fs.statSync(segment.path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
      if (writtenMs < sinceMs || (found[0] > 0 && found[1] > 0)) break;
      await readBackwards(segment.path, needles, (line) => {
        const place = placeOf(line);
        if (place && found[place.stream - 1] === 0) found[place.stream - 1] = place.at;
        return found[0] === 0 || found[1] === 0;
      });
    }
    return found;
  }
}

/** Gives the lines that hold every needle, the last first, until told false. A file that is gone has none. */
async function readBackwards(path: string, needles: readonly Buffer[], each: (line: string) => boolean): Promise<void> {
  const file = await open(path, "r").catch(() => null);
  if (!file) return;
  try {
    let position = (await file.stat()).size;
    let rest = Buffer.alloc(0);
    while (position > 0) {
      const length = Math.min(blockBytes, position);
      position -= length;
      const block = Buffer.allocUnsafe(length + rest.length);
      await file.read(block, 0, length, position);
      rest.copy(block, length);
      // The first line of the block may begin in the one before.
      const whole = position === 0 ? 0 : block.indexOf(0x0a) + 1;
      if (position > 0 && whole === 0) {
        rest = block;
        continue;
      }
      rest = block.subarray(0, whole);
      if (!needles.every((needle) => block.includes(needle, whole))) continue;
      let end = block.length;
      while (end > whole) {
        const before = block.lastIndexOf(0x0a, end - 2);
        const start = end - 2 < whole || before < whole ? whole : before + 1;
        const line = block.subarray(start, end);
        if (needles.every((needle) => line.includes(needle)) && !each(line.toString("utf8"))) return;
        end = start;
      }
    }
  } finally {
    await file.close();
  }
}

let lastDay = { number: Number.NaN, text: "" };

/** Asked once a line, and the same for every line of a day. */
function dayOf(timeMs: number): string {
  const number = Math.floor(timeMs / dayMs);
  if (number !== lastDay.number) lastDay = { number, text: new Date(number * dayMs).toISOString().slice(0, 10) };
  return lastDay.text;
}

/** An id carries the time of its making: what it wrote is not older. */
function beganMs(invocation: string): number {
  let ms = 0;
  for (const digit of invocation.slice(0, 10)) ms = ms * 32 + "0123456789abcdefghjkmnpqrstvwxyz".indexOf(digit);
  return Math.max(0, ms - disorderMs);
}
