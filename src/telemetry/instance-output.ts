// The output of one instance: its FIFOs, its bound, whose line is whose, and its last lines.

import type { Clock } from "#model/clock.ts";
import type { InvocationId } from "#model/ids.ts";
import { logLimits } from "#model/limits.ts";
import { Bucket } from "./bucket.ts";
import type { AttachOptions, LogLine } from "./door.ts";
import { Fifo } from "#lib/fifo.ts";
import { FrameReader, readFrame } from "./frames.ts";
import { KeptSource } from "./kept-source.ts";
import { LineReader, type LineSink } from "./lines.ts";
import type { LogRecord } from "./record.ts";
import { ToldIds } from "./told-ids.ts";
import { decodeLine, harmless, levelOfJson, showBytes, type Level } from "./text.ts";

/** A frame's own time counts if it is so near: clocks inside and outside are the same one. */
const frameTimeMs = { before: 60_000, after: 1_000 };
/** What no newline has ended after so long is shown as a line. */
const partialUs = 1_000_000;

export interface OutputCounters {
  readBytes: number;
  lines: number;
  droppedLines: number;
  droppedBytes: number;
}

function withoutInvocation(line: LogRecord): LogRecord {
  return { ...line, invocation: null };
}

/** Where reading goes on of each of the two streams, and whether it may. */
export interface KeptResume {
  readonly from: readonly [number, number];
  readonly mayRead: () => boolean;
}

const fromTheBegin: KeptResume = { from: [0, 0], mayRead: () => true };

export class InstanceOutput {
  readonly options: AttachOptions;
  readonly #clock: Clock;
  readonly #pending: (bytes: number) => void;
  readonly #counters: OutputCounters;
  #bucket: Bucket;
  readonly #fifos: Fifo[] = [];
  readonly #readers: LineReader[] = [];
  #lines: Array<{ readonly record: LogRecord; readonly atUs: number }> = [];
  readonly #tail: LogRecord[] = [];
  #tailBytes = 0;
  readonly #told = new ToldIds();
  #lastDataUs: number;
  #kept: KeptSource | null = null;
  /** Of kept output: when what is read now was written. */
  #writtenMs: number | null = null;
  /** Segments of kept output in which a line has begun that has not ended. */
  readonly #begunIn: [number, number] = [0, 0];
  /** Kept output before this segment is in lines that were taken. */
  #taken = 0;

  /** `pending` is called when something was read, so many bytes of it out of a pipe: there may be lines to take. */
  constructor(
    options: AttachOptions,
    clock: Clock,
    counters: OutputCounters,
    pending: (bytes: number) => void,
    resume: KeptResume = fromTheBegin,
  ) {
    this.options = options;
    this.#clock = clock;
    this.#pending = pending;
    this.#counters = counters;
    this.#lastDataUs = clock.monotonicUs();
    this.#bucket = new Bucket(logLimits.bytesPerSecond, logLimits.burstBytes, this.#lastDataUs);
    const { source } = options;
    if (source.kind === "none") return;
    if (source.kind === "kept") {
      this.#bucket = new Bucket(logLimits.bytesPerSecond, logLimits.burstBytes, 0);
      this.#kept = this.#follow(source.folder, resume);
      return;
    }
    this.#readLines(source.stdout, "stdout", "info");
    this.#readLines(source.stderr, "stderr", "error");
    if (source.frames !== null && options.concurrency > 1) this.#readFrames(source.frames);
  }

  /** These run here now; a space between each. */
  active(invocations: string): void {
    this.#told.tell(invocations);
  }

  /**
   * Lines since the last time, with the ids checked against those that were told by now. One whose id is not told yet waits a moment for
   * it, and the lines behind it with it; `toldAll`: what is not told by now never will be.
   */
  take(toldAll: boolean): readonly LogRecord[] {
    const nowUs = this.#clock.monotonicUs();
    if (nowUs - this.#lastDataUs > partialUs) this.flushPartial();
    this.#notice(nowUs);
    const waitsSinceUs = toldAll ? Infinity : nowUs - logLimits.idToldWithinMs * 1_000;
    const waits = this.#lines.findIndex(({ record, atUs }) => atUs > waitsSinceUs && !this.#isOurs(record.invocation));
    const lines = this.#lines.splice(0, waits < 0 ? this.#lines.length : waits);
    if (this.#kept) this.#taken = this.#wholeBefore(this.#kept.segment);
    return lines.map(({ record }) => (this.#isOurs(record.invocation) ? record : withoutInvocation(record)));
  }

  /** A line waits for its id. */
  get waits(): boolean {
    return this.#lines.length > 0;
  }

  /** Is there something that `take` will have to look at again, though nothing comes? */
  get unfinished(): boolean {
    return this.#bucket.dropping || this.#readers.some((reader) => reader.partialBytes > 0);
  }

  drain(): void {
    for (const fifo of this.#fifos) fifo.drain();
    this.#kept?.drain();
  }

  /** Called when the lines that were taken are written: `drop` is told what to drop. */
  get kept(): { readonly taken: number; drop(before: number): void } | null {
    return this.#kept && { taken: this.#taken, drop: (before) => this.#kept?.drop(before) };
  }

  #wholeBefore(current: number): number {
    const open = this.#readers.flatMap((reader, i) => (reader.partialBytes > 0 ? [this.#begunIn[i]!] : []));
    return Math.min(current, ...open);
  }

  /** What no newline has ended yet is a line now. */
  flushPartial(): void {
    for (const reader of this.#readers) reader.flush();
  }

  /** Reads what is left; afterwards nothing more comes, and `take` has the last lines. */
  end(): void {
    this.drain();
    for (const fifo of this.#fifos.splice(0)) fifo.close();
    this.#kept?.close();
    this.flushPartial();
    this.#readers.length = 0;
    this.#notice(null);
  }

  tail(lines: number): readonly LogLine[] {
    return this.#tail.slice(-lines).map(({ time, workload, invocation, stream, level, message }) => {
      const ours = this.#isOurs(invocation) ? invocation : null;
      return { time, workload, invocation: ours, stream, level, message };
    });
  }

  /** At concurrency 1 marks alone decide until an id has been told; above it, an id that was never told is nobody's. */
  #isOurs(invocation: InvocationId | null): boolean {
    if (invocation === null || this.#told.has(invocation)) return true;
    return this.options.concurrency === 1 && this.#told.empty;
  }

  #readLines(path: string, stream: "stdout" | "stderr", level: Level): void {
    const { nonce, concurrency } = this.options;
    const reader = new LineReader(concurrency === 1 ? nonce : null, (bytes, start, end, invocation) => {
      if (!this.#bucket.take(end - start)) return;
      const message = decodeLine(bytes, start, end);
      const time = this.#clock.wallMs();
      this.#add({ time, invocation, stream, level: levelOfJson(message) ?? level, message }, end - start);
    });
    this.#readers.push(reader);
    this.#fifos.push(new Fifo(path, (bytes) => this.#data(bytes, reader)));
  }

  /** As above, of what was read before: with the time at which it was written, and its place. */
  #follow(folder: string, { from, mayRead }: KeptResume): KeptSource {
    for (const [i, stream, level] of [
      [0, "stdout", "info"],
      [1, "stderr", "error"],
    ] as const) {
      const sink: LineSink = (bytes, start, end, invocation, at) => {
        if (!this.#bucket.take(end - start)) return;
        const message = decodeLine(bytes, start, end);
        const time = this.#writtenMs ?? this.#clock.wallMs();
        this.#add({ time, invocation, stream, level: levelOfJson(message) ?? level, message, at }, end - start);
      };
      this.#readers.push(new LineReader(null, sink, from[i]));
    }
    const source: KeptSource = new KeptSource({
      folder,
      clock: this.#clock,
      mayRead,
      data: (stream, bytes, timeMs, at) => {
        const skipped = Math.max(0, from[stream - 1]! - at);
        if (skipped >= bytes.length) return;
        this.#writtenMs = Math.floor(timeMs);
        this.#lastDataUs = this.#clock.monotonicUs();
        this.#counters.readBytes += bytes.length;
        this.#bucket.refill(timeMs * 1_000);
        const reader = this.#readers[stream - 1]!;
        if (reader.partialBytes === 0) this.#begunIn[stream - 1] = source.segment;
        reader.feed(bytes.subarray(skipped));
        this.#pending(0);
      },
      lost: (bytes, timeMs) => {
        const message = `lost ${showBytes(bytes)} of its output: there was no room for it while ebb was away, or the disk was full`;
        this.#add({ time: Math.floor(timeMs), invocation: null, stream: "ebb", level: "warn", message }, bytes);
        this.#pending(0);
      },
    });
    return source;
  }

  #readFrames(path: string): void {
    const reader = new FrameReader(
      (bytes, start, end) => {
        if (!this.#bucket.take(end - start)) return;
        const frame = readFrame(bytes.toString("utf8", start, end));
        if (!frame) return;
        const { invocation, stream } = frame;
        const now = this.#clock.wallMs();
        const near =
          frame.timeMs !== null && frame.timeMs > now - frameTimeMs.before && frame.timeMs < now + frameTimeMs.after;
        const time = near ? Math.floor(frame.timeMs ?? now) : now;
        const text = frame.text.endsWith("\n") ? frame.text.slice(0, -1) : frame.text;
        for (const part of text.split("\n")) {
          const message = harmless(part.endsWith("\r") ? part.slice(0, -1) : part);
          const level = frame.level ?? levelOfJson(message) ?? (stream === "stdout" ? "info" : "error");
          this.#add({ time, invocation, stream, level, message }, part.length);
        }
      },
      (bytes) => void this.#bucket.take(bytes + logLimits.burstBytes),
    );
    this.#fifos.push(new Fifo(path, (bytes) => this.#data(bytes, reader)));
  }

  #data(bytes: Buffer, reader: LineReader | FrameReader): void {
    this.#lastDataUs = this.#clock.monotonicUs();
    this.#counters.readBytes += bytes.length;
    this.#bucket.refill(this.#lastDataUs);
    reader.feed(bytes);
    this.#pending(bytes.length);
  }

  #notice(nowUs: number | null): void {
    // Of what is kept it is the time of writing that counts, which is now only where all has been read.
    if (nowUs !== null && !this.#kept) this.#bucket.refill(nowUs);
    else if (nowUs !== null && this.#kept?.caughtUp) this.#bucket.refill(this.#clock.wallMs() * 1_000);
    if (nowUs !== null && this.#bucket.dropping) return;
    const dropped = this.#bucket.takeDropped();
    if (!dropped) return;
    this.#counters.droppedLines += dropped.lines;
    this.#counters.droppedBytes += dropped.bytes;
    const rate = `${logLimits.bytesPerSecond / 1024 / 1024} MiB/s`;
    const message = `dropped ${dropped.lines} lines (${showBytes(dropped.bytes)}): more than ${rate}`;
    this.#add({ time: this.#clock.wallMs(), invocation: null, stream: "ebb", level: "warn", message }, message.length);
  }

  #add(line: Omit<LogRecord, "workload" | "instance">, bytes: number): void {
    const { workload, instance, execution } = this.options;
    const record: LogRecord = { ...line, workload, instance, ...execution };
    this.#counters.lines++;
    this.#lines.push({ record, atUs: this.#clock.monotonicUs() });
    this.#tail.push(record);
    this.#tailBytes += bytes;
    while (this.#tail.length > logLimits.tailLines || (this.#tailBytes > logLimits.tailBytes && this.#tail.length > 1))
      this.#tailBytes -= this.#tail.shift()!.message.length;
  }
}
