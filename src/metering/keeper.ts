// The journal's keeper, in the store's worker: syncs what the main thread writes, makes segments ahead, loads, retains.

import * as fs from "node:fs";
import type { Cancel, Clock } from "#model/clock.ts";
import { journalLimits, lifecycle, recordLimits } from "#model/limits.ts";
import { decideRetention } from "./decide.ts";
import type { Ledger } from "./door.ts";
import { Loader, type LoadResult } from "./loader.ts";
import { createSegment, removeUnfinished, segmentPath, segmentsIn, syncDirectory } from "./segment.ts";
import { JournalShared } from "./shared.ts";

export interface KeeperOptions {
  readonly directory: string;
  readonly shared: SharedArrayBuffer;
  readonly ledger: Ledger;
  readonly clock: Clock;
  /** Something did not work and is tried again: for the operator. */
  readonly failed: (where: string, error: unknown) => void;
  readonly segmentBytes?: number;
}

export interface Keeper {
  /** Says which segments are used up; the writer must not begin before. */
  start(): Promise<void>;
  /** The writer has written after a silence. */
  wake(): void;
  /** Loads to where the journal ends now. */
  load(): Promise<LoadResult>;
  /** Syncs, loads what is left and lets go of the files. */
  stop(): Promise<void>;
}

export function createKeeper(options: KeeperOptions): Keeper {
  return new JournalKeeper(options);
}

const ahead = "metering: a segment ahead";
/** From the message on, which comes that much after the mark. */
const firstSyncMs = lifecycle.fsyncEveryMs - journalLimits.wakeAfterMs;

class JournalKeeper implements Keeper {
  readonly #options: KeeperOptions;
  readonly #shared: JournalShared;
  readonly #loader: Loader;
  #timer: Cancel | null = null;
  #synced = { segment: 0, position: 0 };
  #syncFd = -1;
  #syncSegment = 0;
  #loadedUs = 0;
  /** Something was loaded, by whomever, since old records were looked for. */
  #unretained = false;
  #working: Promise<unknown> | null = null;
  #stopped = false;
  readonly #failing = new Set<string>();

  constructor(options: KeeperOptions) {
    this.#options = options;
    this.#shared = new JournalShared(options.shared);
    fs.mkdirSync(options.directory, { recursive: true, mode: 0o700 });
    this.#loader = new Loader({ directory: options.directory, shared: this.#shared, ledger: options.ledger });
  }

  async start(): Promise<void> {
    removeUnfinished(this.#options.directory, "keeper");
    this.#shared.floor = (await this.#options.ledger.journal())?.position.segment ?? 0;
    // A worker that replaces another finds the writer awake and writing.
    this.wake();
  }

  wake(): void {
    this.#shared.wake();
    if (!this.#stopped) this.#timer ??= this.#options.clock.after(firstSyncMs, () => this.#work());
  }

  async load(): Promise<LoadResult> {
    if (this.#loader.behind) this.#unretained = true;
    const loaded = await this.#loader.load();
    this.#attempt("metering: loaded segments", () => this.#removeLoaded());
    return loaded;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.();
    this.#timer = null;
    await this.#working;
    this.#attempt("metering: sync", () => this.#sync());
    try {
      await this.load();
    } finally {
      await this.#loader.close();
      if (this.#syncFd >= 0) fs.closeSync(this.#syncFd);
      this.#syncFd = -1;
    }
  }

  #work(): void {
    this.#timer = null;
    this.#attempt("metering: sync", () => this.#sync());
    const nowUs = this.#options.clock.monotonicUs();
    const due = nowUs - this.#loadedUs >= journalLimits.loadEveryMs * 1_000;
    // On a full disk each try fills what is left of it for a moment: once a second is often enough.
    if (due || !this.#failing.has(ahead)) this.#attempt(ahead, () => this.#makeAhead());
    const behind = this.#loader.behind || this.#unretained;
    if (behind && due && !this.#working) {
      this.#loadedUs = nowUs;
      this.#working = this.#loadAndRetain().finally(() => (this.#working = null));
    }
    if (this.#stopped) return;
    const idle = !this.#loader.behind && !this.#unretained && !this.#working && this.#failing.size === 0;
    if (idle) {
      this.#shared.sleep();
      // A mark may have come between the look and the sleep; it saw us awake and sent nothing.
      if (!this.#loader.behind || !this.#shared.wake()) return;
    }
    this.#timer = this.#options.clock.after(lifecycle.fsyncEveryMs, () => this.#work());
  }

  async #loadAndRetain(): Promise<void> {
    try {
      await this.load();
      this.#failing.delete("load");
      this.#unretained = false;
      await this.#retain();
    } catch (error) {
      if (!this.#failing.has("load")) this.#options.failed("metering: the journal cannot be loaded", error);
      this.#failing.add("load");
    }
  }

  /** `fdatasync` by our own descriptor: it is the file that is synced, whoever wrote it. */
  #sync(): void {
    const written = this.#shared.written();
    if (written.segment === 0) return;
    if (written.segment === this.#synced.segment && written.position === this.#synced.position) return;
    const from = this.#synced.segment === 0 ? written.segment : this.#synced.segment;
    for (let segment = from; segment <= written.segment; segment++) this.#syncOne(segment);
    this.#synced = written;
  }

  #syncOne(segment: number): void {
    if (this.#syncSegment !== segment || this.#syncFd < 0) {
      if (this.#syncFd >= 0) fs.closeSync(this.#syncFd);
      this.#syncFd = -1;
      const path = segmentPath(this.#options.directory, segment);
      // Loaded and deleted already, or a number that was never used.
      if (!fs.existsSync(path)) return;
      this.#syncFd = fs.openSync(path, "r+");
      this.#syncSegment = segment;
      // One that the writer made has its name only in memory yet.
      syncDirectory(this.#options.directory);
    }
    fs.fdatasyncSync(this.#syncFd);
  }

  #makeAhead(): void {
    const { segment } = this.#shared.written();
    if (segment === 0 || this.#shared.ready > segment) return;
    const sizeBytes = this.#options.segmentBytes ?? journalLimits.segmentBytes;
    createSegment(this.#options.directory, segment + 1, { sizeBytes, maker: "keeper", sync: true });
    this.#shared.ready = segment + 1;
  }

  #removeLoaded(): void {
    const kept = this.#loader.segment;
    for (const segment of segmentsIn(this.#options.directory))
      if (segment < kept) fs.rmSync(segmentPath(this.#options.directory, segment), { force: true });
  }

  async #retain(): Promise<void> {
    const { ledger, clock } = this.#options;
    const last = await ledger.lastRetention();
    // An hour by either sign: a clock that was set back must not stop retention for years.
    if (last !== null && Math.abs(clock.wallMs() - last) < recordLimits.passEveryMs) return;
    await ledger.retained(clock.wallMs());
    const decision = decideRetention(await ledger.recordDays(), await ledger.totalHours());
    for (const { project, dayMs, records } of decision.delete) {
      await this.#inSteps(records, (limit) => ledger.deleteRecords({ project, dayMs, limit }));
    }
    const hourMs = decision.totalsBeforeMs;
    if (hourMs !== null) await this.#inSteps(Infinity, (limit) => ledger.deleteTotals({ hourMs, limit }));
  }

  /** Until so many are deleted, or there is nothing more: of 100,000 functions a day's totals are two million. */
  async #inSteps(count: number, deleteSome: (limit: number) => Promise<number>): Promise<void> {
    for (let left = count; left > 0 && !this.#stopped;) {
      const deleted = await deleteSome(Math.min(left, recordLimits.deletedPerStep));
      if (deleted === 0) return;
      left -= deleted;
      // Requests to the store go first.
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Runs what may fail and is tried again with the next turn; tells a failure once until it works again. */
  #attempt(where: string, run: () => void): void {
    try {
      run();
      this.#failing.delete(where);
    } catch (error) {
      if (!this.#failing.has(where)) this.#options.failed(where, error);
      this.#failing.add(where);
    }
  }
}
