// The output of one instance: its FIFOs, its bound, whose line is whose, and its last lines.

import type { Clock } from "#model/clock.ts";
import type { InvocationId } from "#model/ids.ts";
import { logLimits } from "#model/limits.ts";
import { Bucket } from "./bucket.ts";
import type { AttachOptions, LogLine } from "./door.ts";
import { Fifo } from "#lib/fifo.ts";
import { FrameReader, readFrame } from "./frames.ts";
import { LineReader } from "./lines.ts";
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

export class InstanceOutput {
  readonly options: AttachOptions;
  readonly #clock: Clock;
  readonly #pending: () => void;
  readonly #counters: OutputCounters;
  readonly #bucket: Bucket;
  readonly #fifos: Fifo[] = [];
  readonly #readers: LineReader[] = [];
  #lines: Array<{ readonly record: LogRecord; readonly atUs: number }> = [];
  readonly #tail: LogRecord[] = [];
  #tailBytes = 0;
  readonly #told = new ToldIds();
  #lastDataUs: number;

  /** `pending` is called when there are lines to take. */
  constructor(options: AttachOptions, clock: Clock, counters: OutputCounters, pending: () => void) {
    this.options = options;
    this.#clock = clock;
    this.#pending = pending;
    this.#counters = counters;
    this.#lastDataUs = clock.monotonicUs();
    this.#bucket = new Bucket(logLimits.bytesPerSecond, logLimits.burstBytes, this.#lastDataUs);
    const { source } = options;
    if (source.kind === "none") return;
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
  }

  /** What no newline has ended yet is a line now. */
  flushPartial(): void {
    for (const reader of this.#readers) reader.flush();
  }

  /** Reads what is left; afterwards nothing more comes, and `take` has the last lines. */
  end(): void {
    this.drain();
    for (const fifo of this.#fifos.splice(0)) fifo.close();
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
    this.#pending();
  }

  #notice(nowUs: number | null): void {
    if (nowUs !== null) this.#bucket.refill(nowUs);
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
