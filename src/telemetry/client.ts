// The main thread's side of telemetry: tells the worker what to read, asks it, and starts a new one when it dies. Never reads output itself.

import { closeSync, existsSync } from "node:fs";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import type { Cancel, Clock } from "#model/clock.ts";
import { EbbError } from "#model/errors.ts";
import type { Fact } from "#model/fact.ts";
import type { InstanceId, InvocationId } from "#model/ids.ts";
import { lifecycle, logLimits } from "#model/limits.ts";
import type { OutputSource } from "#sandbox/door.ts";
import type { AttachOptions, LogLine, LogQuery, Telemetry } from "./door.ts";
import { linesOf } from "./facts.ts";
import { openFifo } from "#lib/fifo.ts";
import { Metrics } from "./metrics.ts";
import type { FromWorker, TelemetryWorkerData, ToWorker, WorkerCounters } from "./protocol.ts";

export interface TelemetryOptions {
  /** The data directory; logs lie in a folder of it. */
  readonly directory: string;
  readonly clock: Clock;
  /** Telemetry cannot be kept alive: the daemon must end, with this reason. */
  readonly fatal: (reason: string) => void;
  /** What runs in an instance now: a new worker is told of it again. */
  readonly runningIn: (instance: InstanceId) => Iterable<InvocationId>;
  readonly keptBytes?: number;
  readonly segmentBytes?: number;
  /** For tests: another way to start the thread. */
  readonly startWorker?: (data: TelemetryWorkerData) => Worker;
}

const deathsWithinUs = 60_000_000;
/** Linux; elsewhere the worker opens the path. */
const namesOpenFiles = existsSync("/proc/self/fd");
const stopWithinMs = 2_000;
/** Ids are told together: frames are looked at no sooner than a flush. */
const activeBatchMs = 10;
/** An instance that starts has the CPUs first: what it prints meanwhile waits in its pipes. */
const attachBatchMs = 20;

export function createTelemetry(options: TelemetryOptions): Telemetry {
  return new TelemetryClient(options);
}

function startTelemetryWorker(data: TelemetryWorkerData): Worker {
  return new Worker(new URL("../threads/telemetry.ts", import.meta.url), {
    workerData: data,
    name: "telemetry",
    resourceLimits: { maxYoungGenerationSizeMb: 8 },
    // What fs.openSync opened and a socket closed stays on Node's list of the thread's descriptors; at its end Node would
    // close those numbers, which are somebody else's by then (the listening socket's, the database's). The sockets close their own.
    trackUnmanagedFds: false,
  });
}

interface Attached {
  readonly options: AttachOptions;
  /** The FIFOs, held open: no writer meets a pipe without a reader while a worker dies, and nothing in it is lost. */
  readonly held: readonly number[];
  detached: boolean;
  /** Invocations to be told of with the next batch, a space before each. */
  toTell: string;
}

class TelemetryClient implements Telemetry {
  readonly #options: TelemetryOptions;
  readonly #metrics = new Metrics();
  readonly #attached = new Map<InstanceId, Attached>();
  readonly #pending = new Map<number, PromiseWithResolvers<unknown>>();
  readonly #followers = new Map<
    number,
    { readonly query: Omit<LogQuery, "limit">; readonly line: (line: LogLine) => void }
  >();
  readonly #toTell: Attached[] = [];
  #batch: Cancel | null = null;
  /** The worker is told of them with the next batch, before anything else that names them. */
  #toAttach: Attached[] = [];
  #attaching: Cancel | null = null;
  #ids = 0;
  #worker: Worker | null = null;
  #state: "new" | "running" | "stopping" | "stopped" = "new";
  #deathsUs: number[] = [];

  constructor(options: TelemetryOptions) {
    this.#options = options;
  }

  start(): Promise<void> {
    this.#state = "running";
    return this.#open();
  }

  async stop(): Promise<void> {
    if (this.#state !== "running") return;
    this.#state = "stopping";
    this.#sendActive();
    const worker = this.#worker;
    if (worker) {
      const gone = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
      this.#post({ kind: "stop" });
      const cancel = this.#options.clock.after(stopWithinMs, () => void worker.terminate());
      await gone;
      cancel();
    }
    this.#state = "stopped";
    this.#failAll("ebb is stopping");
    for (const instance of this.#attached.keys()) this.#letGo(instance);
  }

  tell(fact: Fact): void {
    this.#metrics.count(fact);
    // Of the most frequent one there is nothing to say in a log.
    if (fact.kind === "invocation_ended") return;
    for (const { project, record } of linesOf(fact, this.#options.clock.wallMs()))
      this.#post({ kind: "record", project, record });
  }

  attach(options: AttachOptions): void {
    const { source, instance } = options;
    const held: number[] = [];
    const hold = (path: string): string => {
      try {
        const fd = openFifo(path);
        held.push(fd);
        // The same pipe, also when its name is gone before the worker comes to open it.
        return namesOpenFiles ? `/proc/self/fd/${fd}` : path;
      } catch {
        // The worker meets the same, and says so in the log of the workload.
        return path;
      }
    };
    const heldSource: OutputSource =
      source.kind !== "fifo"
        ? source
        : {
            kind: "fifo",
            stdout: hold(source.stdout),
            stderr: hold(source.stderr),
            frames: source.frames === null ? null : hold(source.frames),
          };
    const attached = {
      options: { ...options, source: heldSource },
      held,
      detached: false,
      toTell: "",
    };
    this.#letGo(instance);
    this.#attached.set(instance, attached);
    this.#toAttach.push(attached);
    this.#attaching ??= this.#options.clock.after(attachBatchMs, () => this.#sendAttached());
  }

  detach(instance: InstanceId): void {
    const attached = this.#attached.get(instance);
    if (!attached) return;
    attached.detached = true;
    this.#sendActive();
    this.#post({ kind: "detach", instance });
  }

  async settled(instance: InstanceId): Promise<void> {
    this.#sendActive();
    const project = this.#attached.get(instance)?.options.project;
    if (project !== undefined) await this.#ask((id) => ({ kind: "settle", id, instance, project }));
  }

  active(instance: InstanceId, invocation: InvocationId): void {
    const attached = this.#attached.get(instance);
    if (!attached) return;
    // The worker remembers ids after their end: what they wrote is read late.
    if (attached.toTell === "") this.#toTell.push(attached);
    attached.toTell += ` ${invocation}`;
    this.#batch ??= this.#options.clock.after(activeBatchMs, () => this.#sendActive());
  }

  async logs(query: LogQuery): Promise<readonly LogLine[]> {
    this.#sendActive();
    return (await this.#ask((id) => ({ kind: "logs", id, query }))) as readonly LogLine[];
  }

  follow(query: Omit<LogQuery, "limit">, line: (line: LogLine) => void): { stop(): void } {
    const id = ++this.#ids;
    this.#followers.set(id, { query, line });
    this.#post({ kind: "follow", id, query });
    return {
      stop: () => {
        if (this.#followers.delete(id)) this.#post({ kind: "unfollow", id });
      },
    };
  }

  async tail(instance: InstanceId, lines: number): Promise<readonly LogLine[]> {
    this.#sendActive();
    const count = Math.min(lines, logLimits.tailLines);
    return (await this.#ask((id) => ({ kind: "tail", id, instance, lines: count }))) as readonly LogLine[];
  }

  rest(): void {
    this.#post({ kind: "rest" });
  }

  /** Without the worker's counters while there is no worker. */
  async metrics(): Promise<string> {
    const counters = await this.#ask((id) => ({ kind: "counters", id })).catch(() => null);
    return this.#metrics.text(counters as WorkerCounters | null);
  }

  #sendAttached(): void {
    this.#attaching?.();
    this.#attaching = null;
    for (const { options } of this.#toAttach) this.#post({ kind: "attach", options });
    this.#toAttach = [];
  }

  #sendActive(): void {
    this.#sendAttached();
    this.#batch?.();
    this.#batch = null;
    if (this.#toTell.length === 0) return;
    // One text for all of a batch: to build and send it takes half the time of a list of as many strings.
    let told = "";
    for (const attached of this.#toTell) {
      told += `${attached.options.instance}${attached.toTell}\n`;
      attached.toTell = "";
    }
    this.#toTell.length = 0;
    this.#post({ kind: "active", told });
  }

  #ask(message: (id: number) => ToWorker): Promise<unknown> {
    if (!this.#worker) return Promise.reject(new EbbError("store_unavailable", "the log is not being read just now"));
    const id = ++this.#ids;
    const answer = Promise.withResolvers<unknown>();
    this.#pending.set(id, answer);
    this.#post(message(id));
    return answer.promise;
  }

  #post(message: ToWorker): void {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    this.#worker?.postMessage(message);
  }

  async #open(): Promise<void> {
    const { directory, keptBytes = null, segmentBytes = null, startWorker = startTelemetryWorker } = this.#options;
    const worker = startWorker({ directory: join(directory, "logs"), keptBytes, segmentBytes });
    this.#worker = worker;
    this.#toAttach = [];
    for (const [instance, { options, detached }] of this.#attached) {
      // What the dead one has read of kept output is in the log, or is read again.
      this.#post({ kind: "attach", options: { ...options, resumes: true } });
      const running = [...this.#options.runningIn(instance)];
      if (running.length > 0) this.#post({ kind: "active", told: `${instance} ${running.join(" ")}\n` });
      if (detached) this.#post({ kind: "detach", instance });
    }
    for (const [id, { query }] of this.#followers) this.#post({ kind: "follow", id, query });

    let reason = "its thread ended";
    const ready = Promise.withResolvers<void>();
    ready.promise.catch(() => undefined);
    worker.on("message", (message: FromWorker) => {
      if (message.kind === "ready") ready.resolve();
      else this.#received(message);
    });
    worker.on("error", (error) => (reason = error instanceof Error ? error.message : String(error)));
    worker.on("exit", () => {
      ready.reject(new Error(`the telemetry worker died: ${reason}`));
      this.#died(worker, reason);
    });
    await ready.promise;
  }

  #received(message: FromWorker): void {
    switch (message.kind) {
      case "answer":
      case "failed": {
        const pending = this.#pending.get(message.id);
        this.#pending.delete(message.id);
        if (message.kind === "answer") pending?.resolve(message.value);
        else pending?.reject(new Error(message.message));
        return;
      }
      case "lines":
        for (const line of message.lines) this.#followers.get(message.id)?.line(line);
        return;
      case "detached":
        if (this.#attached.get(message.instance)?.detached) this.#letGo(message.instance);
        return;
      case "ready":
      case "stopped":
    }
  }

  #letGo(instance: InstanceId): void {
    for (const fd of this.#attached.get(instance)?.held ?? []) closeSync(fd);
    this.#attached.delete(instance);
  }

  #failAll(why: string): void {
    const waiting = [...this.#pending.values()];
    this.#pending.clear();
    for (const pending of waiting) pending.reject(new EbbError("store_unavailable", why, { retryAfterSeconds: 1 }));
  }

  #died(worker: Worker, reason: string): void {
    if (this.#worker !== worker) return;
    this.#worker = null;
    if (this.#state !== "running") return;
    this.#failAll("the telemetry worker died");
    const { clock, fatal } = this.#options;
    const nowUs = clock.monotonicUs();
    this.#deathsUs = [...this.#deathsUs.filter((deathUs) => nowUs - deathUs < deathsWithinUs), nowUs];
    if (this.#deathsUs.length >= lifecycle.workerRestartsPerMinute)
      return fatal(`the telemetry worker died ${this.#deathsUs.length} times within a minute, last: ${reason}`);
    // The new one's death is counted like this one's: nobody waits for it to be ready.
    this.#open().catch(() => undefined);
    this.tell({ kind: "worker_restarted", worker: "telemetry", reason });
  }
}
