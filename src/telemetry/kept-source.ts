// Follows what the supervisor keeps of one run's output: woken by the file system, at the pace at which the log is written.

import fs from "node:fs";
import { isKeptOutput, KeptReader, type KeptReaderOptions } from "#lib/kept-output.ts";
import type { Cancel, Clock } from "#model/clock.ts";
import { logLimits } from "#model/limits.ts";

export interface KeptSourceOptions extends KeptReaderOptions {
  readonly clock: Clock;
  /** False: what was read before must be written first. */
  readonly mayRead: () => boolean;
}

export class KeptSource {
  readonly #options: KeptSourceOptions;
  readonly #reader: KeptReader;
  #watcher: fs.FSWatcher | null = null;
  #next: NodeJS.Immediate | null = null;
  #later: Cancel | null = null;
  /** Nothing was there when it was looked last. */
  caughtUp = false;

  constructor(options: KeptSourceOptions) {
    this.#options = options;
    this.#reader = new KeptReader(options);
    try {
      this.#watcher = fs.watch(options.folder, { persistent: false }, (_, name) => {
        if (name === null || isKeptOutput(name)) this.#soon();
      });
      this.#watcher.on("error", () => this.#look());
    } catch {
      // No more of them are to be had on this machine.
      this.#look();
    }
    this.#soon();
  }

  get segment(): number {
    return this.#reader.segment;
  }

  drop(before: number): void {
    this.#reader.drop(before);
  }

  drain(): void {
    while (this.#reader.read());
    this.caughtUp = true;
  }

  close(): void {
    this.#watcher?.close();
    this.#later?.();
    if (this.#next) clearImmediate(this.#next);
    this.#reader.close();
  }

  /** Without a watcher. */
  #look(): void {
    this.#later = this.#options.clock.after(logLimits.flushMs, () => {
      this.#soon();
      this.#look();
    });
  }

  #soon(): void {
    this.#next ??= setImmediate(() => {
      this.#next = null;
      this.#read();
    });
  }

  #read(): void {
    if (!this.#options.mayRead()) {
      this.#later?.();
      this.#later = this.#options.clock.after(logLimits.flushMs, () => this.#soon());
      return;
    }
    this.caughtUp = !this.#reader.read();
    if (!this.caughtUp) this.#soon();
  }
}
