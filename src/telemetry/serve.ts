// The worker's side: reads all output, writes it within a flush, answers queries, feeds followers, keeps the bounds.

import fs from "node:fs";
import { join } from "node:path";
import { giveBack } from "#lib/give-back.ts";
import type { Cancel, Clock } from "#model/clock.ts";
import type { InstanceId } from "#model/ids.ts";
import { logLimits, recordLimits } from "#model/limits.ts";
import { refuseProjectName } from "#model/names.ts";
import type { AttachOptions, LogLine, LogQuery } from "./door.ts";
import type { Gathering } from "./gathering.ts";
import { InstanceOutput } from "./instance-output.ts";
import { ProjectLog } from "./project-log.ts";
import type { FromWorker, TelemetryWorkerData, ToWorker } from "./protocol.ts";
import { encodeRecord, type LogRecord } from "./record.ts";

export interface ServeOptions extends TelemetryWorkerData {
  readonly clock: Clock;
  readonly post: (message: FromWorker) => void;
  /** Left out: each piece of output is read as it comes. */
  readonly gathering?: Gathering;
}

interface Follower {
  readonly query: Omit<LogQuery, "limit">;
  lines: LogLine[];
  skipped: number;
}

export class TelemetryServer {
  readonly #options: ServeOptions;
  readonly #outputs = new Map<InstanceId, InstanceOutput>();
  /** Of instances that are gone; the oldest go first. */
  readonly #tails = new Map<InstanceId, readonly LogLine[]>();
  readonly #logs = new Map<string, ProjectLog>();
  readonly #followers = new Map<number, Follower>();
  /** Kept output of which it is looked how far it is in the log. */
  readonly #resuming = new Map<InstanceId, Promise<void>>();
  readonly #dirty = new Set<InstanceOutput>();
  readonly #counters = { readBytes: 0, lines: 0, droppedLines: 0, droppedBytes: 0, writeErrors: 0 };
  #waitingBytes = 0;
  #flushing: Cancel | null = null;
  #flushedUs = -Infinity;
  #pass: Cancel | null = null;

  constructor(options: ServeOptions) {
    this.#options = options;
    fs.mkdirSync(options.directory, { recursive: true, mode: 0o700 });
    this.#expire();
  }

  /** Errors of a query go back to its asker; any other is the worker's end, and a new one takes over. */
  receive(message: ToWorker): void {
    switch (message.kind) {
      case "attach":
        return this.#attach(message.options);
      case "detach":
        return this.#detach(message.instance);
      case "active":
        for (const line of message.told.split("\n")) {
          const between = line.indexOf(" ");
          this.#outputs.get(line.slice(0, between))?.active(line.slice(between + 1));
        }
        return;
      case "record":
        this.#write(message.project, message.record);
        return this.#flushSoon();
      case "logs":
        return this.#answer(message.id, async () => this.#query(message.query));
      case "tail":
        return this.#answer(message.id, async () => this.#tail(message.instance, message.lines));
      case "settle":
        return this.#answer(message.id, async () => this.#settle(message.instance, message.project));
      case "counters":
        return this.#answer(message.id, async () => this.#counters);
      case "follow":
        this.#followers.set(message.id, { query: message.query, lines: [], skipped: 0 });
        return;
      case "unfollow":
        this.#followers.delete(message.id);
        return;
      case "rest":
        return giveBack({ thoroughly: true });
      case "stop":
        void this.#stop();
    }
  }

  #attach(options: AttachOptions): void {
    this.#outputs.get(options.instance)?.end();
    const invocation = options.execution?.invocation;
    if (options.source.kind !== "kept" || options.resumes !== true || invocation === undefined)
      return this.#open(options, [0, 0]);
    // Rare: after a death of the thread, or of ebb.
    const places = this.#log(options.project)?.places(invocation) ?? Promise.resolve([0, 0] as const);
    const resumed = places
      .catch(() => [0, 0] as const)
      .then((from) => {
        this.#resuming.delete(options.instance);
        return this.#open(options, from);
      });
    this.#resuming.set(options.instance, resumed);
  }

  #open(options: AttachOptions, from: readonly [number, number]): void {
    const { clock, gathering } = this.#options;
    try {
      const pending = (bytes: number): void => {
        if (bytes > 0) gathering?.read(bytes);
        this.#dirty.add(output);
        this.#flushSoon();
      };
      const mayRead = (): boolean => this.#waitingBytes < logLimits.pendingBytes / 2;
      const resume = { from, mayRead };
      const output: InstanceOutput = new InstanceOutput(options, clock, this.#counters, pending, resume);
      this.#outputs.set(options.instance, output);
    } catch (error) {
      const message = `the output of this instance cannot be read: ${String(error)}`;
      this.#write(options.project, {
        time: clock.wallMs(),
        workload: options.workload,
        instance: options.instance,
        invocation: null,
        stream: "ebb",
        level: "error",
        message,
      });
      this.#flushSoon();
    }
  }

  #detach(instance: InstanceId): void {
    const resuming = this.#resuming.get(instance);
    if (resuming) return void resuming.then(() => this.#detach(instance));
    const output = this.#outputs.get(instance);
    if (output) {
      output.end();
      this.#take(output, true);
      this.#outputs.delete(instance);
      this.#dirty.delete(output);
      if (this.#tails.size >= logLimits.tailsKept)
        for (const oldest of this.#tails.keys()) if (this.#tails.delete(oldest)) break;
      this.#tails.set(instance, output.tail(logLimits.tailLines));
      this.#flushSoon();
    }
    this.#options.post({ kind: "detached", instance });
  }

  async #settle(instance: InstanceId, project: string): Promise<void> {
    await this.#resuming.get(instance);
    await this.#log(project)?.flush();
  }

  #tail(instance: InstanceId, lines: number): readonly LogLine[] {
    const output = this.#outputs.get(instance);
    if (!output) return (this.#tails.get(instance) ?? []).slice(-lines);
    output.drain();
    output.flushPartial();
    return output.tail(lines);
  }

  #flushSoon(inMs = this.#pauseMs()): void {
    this.#flushing ??= this.#options.clock.after(inMs, () => {
      this.#flushing = null;
      this.#flushedUs = this.#options.clock.monotonicUs();
      this.#takeAll();
      for (const log of this.#logs.values()) if (log.pendingBytes > 0) this.#flush(log);
      // What a slow disk has not begun to take still waits, and is looked at again.
      this.#waitingBytes = [...this.#logs.values()].reduce((sum, log) => sum + log.pendingBytes, 0);
      if (this.#waitingBytes > 0) this.#flushSoon();
    });
  }

  /** After a pause the first line goes at once, for whoever waits for it; those that follow go together. */
  #pauseMs(): number {
    const sinceMs = (this.#options.clock.monotonicUs() - this.#flushedUs) / 1_000;
    return Math.max(logLimits.firstFlushMs, logLimits.flushMs - logLimits.idToldWithinMs - sinceMs);
  }

  #takeAll(): void {
    let waits = false;
    for (const output of this.#dirty) {
      this.#take(output, false);
      waits ||= output.waits;
      if (!output.unfinished && !output.waits) this.#dirty.delete(output);
    }
    if (waits) this.#flushSoon(logLimits.idToldWithinMs);
    else if (this.#dirty.size > 0) this.#flushSoon();
    this.#feedFollowers();
  }

  #take(output: InstanceOutput, toldAll: boolean): void {
    for (const record of output.take(toldAll)) this.#write(output.options.project, record);
  }

  #flush(log: ProjectLog): void {
    const kept = [...this.#outputs.values()].flatMap(({ kept: one, options }) =>
      one && this.#logs.get(options.project) === log ? [one] : [],
    );
    log.flush().then(
      () => {
        for (const one of kept) one.drop(one.taken);
        return undefined;
      },
      // A full disk loses lines, and is counted; it must not take anything else with it.
      () => this.#counters.writeErrors++,
    );
  }

  #write(project: string, record: LogRecord): void {
    const log = this.#log(project);
    if (!log) return;
    if (this.#waitingBytes > logLimits.pendingBytes) {
      this.#counters.droppedLines++;
      this.#counters.droppedBytes += record.message.length;
      return;
    }
    const text = encodeRecord(record);
    this.#waitingBytes += text.length;
    log.append(text, record.time);
    for (const follower of this.#followers.values())
      if (matches(follower.query, project, record)) follow(follower, record);
  }

  #feedFollowers(): void {
    for (const [id, follower] of this.#followers) {
      if (follower.lines.length === 0) continue;
      if (follower.skipped > 0) follower.lines.push(skippedLine(follower, this.#options.clock.wallMs()));
      this.#options.post({ kind: "lines", id, lines: follower.lines });
      follower.lines = [];
      follower.skipped = 0;
    }
  }

  #log(project: string): ProjectLog | null {
    let log = this.#logs.get(project);
    if (log) return log;
    // A project's name becomes a folder's: what is no name becomes nothing.
    if (refuseProjectName(project) !== null) return null;
    const { keptBytes, segmentBytes, directory } = this.#options;
    log = new ProjectLog(join(directory, project), {
      ...(keptBytes === null ? {} : { keptBytes }),
      ...(segmentBytes === null ? {} : { segmentBytes }),
    });
    this.#logs.set(project, log);
    return log;
  }

  async #query(query: LogQuery): Promise<readonly LogLine[]> {
    for (const output of this.#outputs.values()) if (output.options.project === query.project) output.drain();
    // Whoever asks has told all ids first: only what has begun since then may have to wait.
    this.#takeAll();
    return (await this.#log(query.project)?.query(query)) ?? [];
  }

  #answer(id: number, run: () => Promise<unknown>): void {
    run().then(
      (value) => this.#options.post({ kind: "answer", id, value }),
      (error: unknown) => this.#options.post({ kind: "failed", id, message: String(error) }),
    );
  }

  /** Once an hour, over every project there is a folder of. */
  #expire(): void {
    const { directory, clock } = this.#options;
    for (const entry of fs.readdirSync(directory, { withFileTypes: true }))
      if (entry.isDirectory()) this.#log(entry.name)?.expire();
    this.#pass = clock.after(recordLimits.passEveryMs, () => this.#expire());
  }

  async #stop(): Promise<void> {
    this.#pass?.();
    this.#flushing?.();
    for (const output of this.#outputs.values()) {
      output.end();
      this.#take(output, true);
    }
    this.#outputs.clear();
    this.#feedFollowers();
    await Promise.allSettled([...this.#logs.values()].map((log) => log.flush()));
    this.#options.post({ kind: "stopped" });
  }
}

function matches(query: Omit<LogQuery, "limit">, project: string, record: LogRecord): boolean {
  return (
    query.project === project &&
    (query.workload === undefined || query.workload === record.workload) &&
    (query.invocation === undefined || query.invocation === record.invocation) &&
    (query.run === undefined || query.run === record.run) &&
    (query.sinceMs === undefined || query.sinceMs <= record.time)
  );
}

function follow(follower: Follower, record: LogRecord): void {
  const { time, workload, invocation, stream, level, message } = record;
  if (follower.lines.length < logLimits.followLines)
    follower.lines.push({ time, workload, invocation, stream, level, message });
  else follower.skipped++;
}

function skippedLine(follower: Follower, time: number): LogLine {
  const message = `${follower.skipped} more lines are in the log and not shown here: too many at once`;
  return { time, workload: follower.lines[0]!.workload, invocation: null, stream: "ebb", level: "warn", message };
}
