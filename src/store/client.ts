// The main thread's side of the store: calls over the port, the mirror, and a new worker when one dies.

import { Worker } from "node:worker_threads";
import type { Cancel, Clock } from "#model/clock.ts";
import { EbbError } from "#model/errors.ts";
import type { Tell } from "#model/fact.ts";
import { newErrorId } from "#model/ids.ts";
import { lifecycle, storeLimits } from "#model/limits.ts";
import type { Revision, WorkloadKey } from "#model/workload.ts";
import type { JournalLink } from "#metering/door.ts";
import type { Change, Mirror, Snapshot, Store } from "./door.ts";
import type { Part, StoreDriver } from "./driver.ts";
import { lockDirectory, type DirectoryLock } from "./lock.ts";
import { MapMirror } from "./mirror.ts";
import { eachPart, loadAll } from "./parts.ts";
import { receiveError, type FromWorker, type Method, type StoreWorkerData, type ToWorker } from "./protocol.ts";

export interface StoreOptions {
  /** The data directory. */
  readonly directory: string;
  readonly clock: Clock;
  readonly tell: Tell;
  /** The store cannot be kept alive: the daemon must end, with this reason. */
  readonly fatal: (reason: string) => void;
  readonly segmentBytes?: number;
  /** For tests: another way to start the thread. */
  readonly startWorker?: (data: StoreWorkerData) => Worker;
}

const deathsWithinUs = 60_000_000;
/** After this a worker that does not stop is ended: it hangs in a disk. */
const stopWithinMs = 5_000;

export function createStore(options: StoreOptions): {
  readonly store: Store;
  readonly mirror: Mirror;
  readonly journal: JournalLink;
  /** Nothing has happened for a while: the worker gives memory back. */
  readonly rest: () => void;
} {
  const mirror = new MapMirror();
  const client = new StoreClient(options, mirror);
  const journal = { shared: client.shared, wake: () => client.wake() };
  return { store: client, mirror, journal, rest: () => client.rest() };
}

/** A small nursery: with V8's own choice a busy hour leaves the worker 30 MB larger, and no faster. */
const youngGenerationMb = 4;

function startStoreWorker(data: StoreWorkerData): Worker {
  const resourceLimits = { maxYoungGenerationSizeMb: youngGenerationMb };
  return new Worker(new URL("../threads/store.ts", import.meta.url), {
    workerData: data,
    name: "store",
    resourceLimits,
  });
}

interface Pending {
  /** Runs in the order of the answers, before anybody who waits. */
  readonly answered: (value: unknown) => void;
  readonly failed: (error: Error) => void;
}

type Answer<M extends Method> = Awaited<ReturnType<StoreDriver[M]>>;

class StoreClient implements Store {
  readonly shared = new SharedArrayBuffer(storeLimits.journalSharedBytes);
  readonly #options: StoreOptions;
  readonly #mirror: MapMirror;
  #lock: DirectoryLock | null = null;
  #worker: Worker | null = null;
  #state: "new" | "starting" | "ready" | "replacing" | "stopping" | "stopped" = "new";
  readonly #pending = new Map<number, Pending>();
  #ids = 0;
  #deathsUs: number[] = [];
  #restart: Cancel | null = null;

  constructor(options: StoreOptions, mirror: MapMirror) {
    this.#options = options;
    this.#mirror = mirror;
  }

  async start(): Promise<void> {
    if (this.#state !== "new" && this.#state !== "stopped") throw new Error("the store is started already");
    this.#lock = lockDirectory(this.#options.directory);
    this.#state = "starting";
    try {
      await this.#open();
    } catch (error) {
      this.#state = "stopped";
      await this.#worker?.terminate();
      this.#lock.release();
      throw error;
    }
  }

  async stop(): Promise<void> {
    if (this.#state === "new" || this.#state === "stopped" || this.#state === "stopping") return;
    this.#state = "stopping";
    this.#restart?.();
    const worker = this.#worker;
    if (worker) {
      const gone = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
      this.#post(worker, { kind: "stop" });
      const cancel = this.#options.clock.after(stopWithinMs, () => void worker.terminate());
      await gone;
      cancel();
    }
    this.#failAll("ebb is stopping");
    this.#state = "stopped";
    this.#lock?.release();
  }

  load(): Promise<Snapshot> {
    return loadAll((after) => this.#call("load", [after]));
  }
  async apply(change: Change): Promise<void> {
    await this.#request("apply", [change], (revisions) =>
      this.#mirror.apply(change.mutations, revisions as readonly Revision[]),
    );
  }
  async audit(...args: Parameters<Store["audit"]>): Promise<void> {
    await this.#call("audit", args);
  }
  audits(...args: Parameters<Store["audits"]>): ReturnType<Store["audits"]> {
    return this.#call("audits", args);
  }
  revisions(...args: Parameters<Store["revisions"]>): ReturnType<Store["revisions"]> {
    return this.#call("revisions", args);
  }
  runs(...args: Parameters<Store["runs"]>): ReturnType<Store["runs"]> {
    return this.#call("runs", args);
  }
  openRuns(): ReturnType<Store["openRuns"]> {
    return this.#call("openRuns", []);
  }
  async updateRuns(...args: Parameters<Store["updateRuns"]>): Promise<void> {
    await this.#call("updateRuns", args);
  }
  async contentDigests(): Promise<ReadonlySet<string>> {
    return new Set(await this.#call("contentDigests", []));
  }
  invocations(...args: Parameters<Store["invocations"]>): ReturnType<Store["invocations"]> {
    return this.#call("invocations", args);
  }
  usage(...args: Parameters<Store["usage"]>): ReturnType<Store["usage"]> {
    return this.#call("usage", args);
  }
  retention(): ReturnType<Store["retention"]> {
    return this.#call("retention", []);
  }

  /** The journal's writer ends the keeper's sleep. With no worker there is none: the next one starts awake. */
  wake(): void {
    if (this.#worker) this.#post(this.#worker, { kind: "wake" });
  }

  rest(): void {
    if (this.#worker) this.#post(this.#worker, { kind: "rest" });
  }

  /** Starts a worker, waits until it has opened the store, and makes the mirror what the store says. */
  async #open(): Promise<void> {
    const { directory, segmentBytes = null, startWorker = startStoreWorker } = this.#options;
    const worker = startWorker({ directory, shared: this.shared, segmentBytes });
    this.#worker = worker;
    let reason = "its thread ended";
    const opened = new Promise<void>((resolve, reject) => {
      worker.on("message", (message: FromWorker) => {
        if (message.kind === "ready") resolve();
        else if (message.kind === "cannot_open") {
          reason = message.error.message;
          reject(receiveError(message.error));
        } else this.#received(message);
      });
      worker.on("error", (error) => (reason = error instanceof Error ? error.message : String(error)));
      worker.on("exit", () => {
        reject(new EbbError("store_unavailable", `the store's worker died: ${reason}`));
        this.#died(worker, reason);
      });
    });
    await opened;
    const refill = this.#mirror.refill();
    const load = (after: WorkloadKey | null): Promise<Part> =>
      this.#request("load", [after], () => {}, true) as Promise<Part>;
    await eachPart(load, (part) => refill.add(part)).catch((error: unknown) => {
      throw error instanceof SyntaxError ? unreadable(directory, error) : error;
    });
    refill.done();
    if (this.#worker === worker && this.#state !== "stopping") this.#state = "ready";
  }

  #call<M extends Method>(method: M, args: Parameters<StoreDriver[M]>): Promise<Answer<M>> {
    return this.#request(method, args) as Promise<Answer<M>>;
  }

  /** `opening`: the client's own, while nobody else may call yet. */
  #request(
    method: Method,
    args: readonly unknown[],
    answered: (value: unknown) => void = () => {},
    opening = false,
  ): Promise<unknown> {
    const worker = this.#worker;
    if (!worker || (this.#state !== "ready" && !opening)) return Promise.reject(this.#unavailable());
    if (this.#pending.size >= storeLimits.inFlight)
      return Promise.reject(
        new EbbError("store_unavailable", `the store has ${this.#pending.size} requests waiting`, {
          retryAfterSeconds: 1,
        }),
      );
    return new Promise((resolve, reject) => {
      const id = ++this.#ids;
      this.#pending.set(id, {
        answered: (value) => {
          answered(value);
          resolve(value);
        },
        failed: reject,
      });
      try {
        this.#post(worker, { kind: "call", id, method, args });
      } catch (error) {
        // What cannot be cloned was never sent: a defect of the caller.
        this.#pending.delete(id);
        reject(error);
      }
    });
  }

  #post(worker: Worker, message: ToWorker): void {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    worker.postMessage(message);
  }

  #received(message: Exclude<FromWorker, { kind: "ready" | "cannot_open" }>): void {
    switch (message.kind) {
      case "answer":
      case "failed": {
        const pending = this.#pending.get(message.id);
        this.#pending.delete(message.id);
        if (message.kind === "failed") pending?.failed(receiveError(message.error));
        else
          try {
            pending?.answered(message.value);
          } catch (error) {
            pending?.failed(error as Error);
          }
        return;
      }
      case "defect":
        return this.#defect(message.where, receiveError(message.error));
      case "stopped":
        if (message.error) this.#defect("store: stop", receiveError(message.error));
    }
  }

  #defect(where: string, error: unknown): void {
    this.#options.tell({ kind: "defect", errorId: newErrorId(), where, error });
  }

  #unavailable(): EbbError {
    const why = this.#state === "replacing" || this.#state === "starting" ? "is restarting" : "is not running";
    return new EbbError("store_unavailable", `the store ${why}`, { retryAfterSeconds: 1 });
  }

  #failAll(why: string): void {
    const waiting = [...this.#pending.values()];
    this.#pending.clear();
    for (const pending of waiting) pending.failed(new EbbError("store_unavailable", why, { retryAfterSeconds: 1 }));
  }

  /** What was under way may be committed or not: the new worker's snapshot says, before anybody may call again. */
  #died(worker: Worker, reason: string): void {
    if (this.#worker !== worker) return;
    this.#worker = null;
    if (this.#state === "stopping" || this.#state === "stopped") return;
    const first = this.#state === "starting";
    this.#failAll("the store's worker died; whether it had stored the change is not known");
    if (first) return;
    this.#state = "replacing";
    const { clock, tell, fatal } = this.#options;
    const nowUs = clock.monotonicUs();
    this.#deathsUs = [...this.#deathsUs.filter((deathUs) => nowUs - deathUs < deathsWithinUs), nowUs];
    if (this.#deathsUs.length >= lifecycle.workerRestartsPerMinute)
      return fatal(`the store's worker died ${this.#deathsUs.length} times within a minute, last: ${reason}`);
    tell({ kind: "worker_restarted", worker: "store", reason });
    // The first at once; one that dies again gets a moment, in case it is the disk.
    const delayMs = this.#deathsUs.length > 1 ? storeLimits.restartDelayMs : 0;
    this.#restart = clock.after(delayMs, () => {
      this.#open().catch((error: unknown) => this.#failedToOpen(error));
    });
  }

  /** A worker that cannot open the store, or not read it, ends, and its end counts as a death. */
  #failedToOpen(error: unknown): void {
    if (this.#state !== "replacing") return;
    if (!(error instanceof EbbError)) this.#defect("store: restart", error);
    void this.#worker?.terminate();
  }
}

/** A revision's text is none: SQLite does not look into what it keeps. */
function unreadable(directory: string, cause: SyntaxError): EbbError {
  return new EbbError(
    "data_directory",
    `the data directory ${directory} is broken: its database ebb.db is damaged (${cause.message}); restore a backup, or start with an empty one`,
    { cause },
  );
}
