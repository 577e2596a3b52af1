// Links made ahead: taking one never waits while there is one, and making more goes on behind it.

import type { Cancel, Clock } from "#model/clock.ts";
import { EbbError } from "#model/errors.ts";
import { linkLimits } from "#model/limits.ts";
import { decidePool, type PoolBounds } from "./sizing.ts";

export interface PoolOptions<T> {
  /** Makes at most so many, at least one, or rejects. */
  readonly make: (count: number) => Promise<readonly T[]>;
  readonly remove: (things: readonly T[]) => void;
  readonly clock: Clock;
  readonly bounds: PoolBounds;
  /** Making failed with nobody waiting who could be told. */
  readonly failed: (error: unknown) => void;
}

interface Waiter<T> {
  resolve(thing: T): void;
  reject(error: unknown): void;
}

export class Pool<T> {
  readonly #options: PoolOptions<T>;
  readonly #spare: T[] = [];
  readonly #waiting: Waiter<T>[] = [];
  /** Takes of this window and of the one before. */
  #taken = 0;
  #takenBefore = 0;
  #making = 0;
  #batches = new Set<Promise<void>>();
  #window: Cancel | null = null;
  #retry: Cancel | null = null;
  #stopped = true;

  constructor(options: PoolOptions<T>) {
    this.#options = options;
  }

  start(): void {
    this.#stopped = false;
    this.#adjust();
  }

  /** Those who wait are refused; what is spare is the caller's to remove, as a whole. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#window?.();
    this.#retry?.();
    this.#window = this.#retry = null;
    for (const waiter of this.#waiting.splice(0)) waiter.reject(new EbbError("stopping", "ebb is stopping."));
    await Promise.allSettled(this.#batches);
    this.#spare.length = 0;
  }

  get spare(): number {
    return this.#spare.length;
  }

  /** The oldest spare one at once; otherwise waits for the next that is made. */
  take(): Promise<T> {
    if (this.#stopped) return Promise.reject(new EbbError("stopping", "ebb is stopping."));
    this.#taken++;
    const thing = this.#spare.shift();
    if (thing !== undefined) {
      // off the caller's path
      setImmediate(() => this.#adjust());
      return Promise.resolve(thing);
    }
    return new Promise<T>((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#adjust();
    });
  }

  #adjust(): void {
    if (this.#stopped) return;
    this.#watchWindow();
    const decision = decidePool(
      {
        spare: this.#spare.length,
        making: this.#making,
        waiting: this.#waiting.length,
        takenRecently: this.#taken + this.#takenBefore,
      },
      this.#options.bounds,
    );
    if (decision.remove > 0) this.#options.remove(this.#spare.splice(0, decision.remove));
    if (this.#retry) return;
    for (let left = decision.make; left > 0 && this.#batches.size < linkLimits.batchesAtOnce;) {
      const count = Math.min(left, linkLimits.batch);
      left -= count;
      const batch = this.#makeBatch(count).finally(() => {
        this.#batches.delete(batch);
        this.#adjust();
      });
      this.#batches.add(batch);
    }
  }

  /** A timer only while there is demand to forget: an idle pool costs nothing. */
  #watchWindow(): void {
    if (this.#window || this.#taken + this.#takenBefore === 0) return;
    this.#window = this.#options.clock.after(linkLimits.demandWindowMs, () => {
      this.#window = null;
      this.#takenBefore = this.#taken;
      this.#taken = 0;
      this.#adjust();
    });
  }

  async #makeBatch(count: number): Promise<void> {
    this.#making += count;
    try {
      const made = await this.#options.make(count);
      if (this.#stopped) this.#options.remove(made);
      else for (const thing of made) this.#hand(thing);
    } catch (error) {
      this.#failed(error);
    } finally {
      this.#making -= count;
    }
  }

  #hand(thing: T): void {
    const waiter = this.#waiting.shift();
    if (waiter) waiter.resolve(thing);
    else this.#spare.push(thing);
  }

  /** Who waits is told; then nothing is made for a moment, or a machine in trouble gets more of it. */
  #failed(error: unknown): void {
    if (this.#stopped) return;
    const waiting = this.#waiting.splice(0);
    if (waiting.length === 0) this.#options.failed(error);
    for (const waiter of waiting) waiter.reject(error);
    this.#retry ??= this.#options.clock.after(linkLimits.retryAfterMs, () => {
      this.#retry = null;
      this.#adjust();
    });
  }
}
