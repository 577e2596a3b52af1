// A clock that a test moves by hand: timers fire in the order of their time, then of their making.

import type { Cancel, Clock } from "#model/clock.ts";

interface Timer {
  readonly atUs: number;
  readonly order: number;
  /** null: cancelled. */
  run: (() => void) | null;
}

export class VirtualClock implements Clock {
  #nowUs: number;
  #wallOffsetMs: number;
  #made = 0;
  #live = 0;
  /** Binary heap, the earliest first. */
  readonly #heap: Timer[] = [];

  constructor(options: { startUs?: number; wallMs?: number } = {}) {
    this.#nowUs = options.startUs ?? 1_000_000_000;
    this.#wallOffsetMs = (options.wallMs ?? Date.UTC(2026, 0, 1)) - this.#nowUs / 1000;
  }

  wallMs(): number {
    return Math.floor(this.#nowUs / 1000 + this.#wallOffsetMs);
  }

  monotonicUs(): number {
    return this.#nowUs;
  }

  /** The wall clock alone jumps, as NTP or an operator makes it. */
  jumpWallMs(ms: number): void {
    this.#wallOffsetMs += ms;
  }

  after(delayMs: number, run: () => void): Cancel {
    const timer: Timer = {
      atUs: this.#nowUs + Math.max(0, Math.round(delayMs * 1000)),
      order: this.#made++,
      run,
    };
    this.#live++;
    this.#push(timer);
    return () => {
      if (timer.run) this.#live--;
      timer.run = null;
    };
  }

  /** Timers that have neither run nor been cancelled: an idle thing has none. */
  pending(): number {
    return this.#live;
  }

  /** When the next timer is due; null: there is none. */
  nextUs(): number | null {
    while (this.#heap[0] && !this.#heap[0].run) this.#pop();
    return this.#heap[0]?.atUs ?? null;
  }

  /** Moves to the next timer, at most to `limitUs`, and runs it. False: none was due until then (the clock is at `limitUs`). */
  step(limitUs: number): boolean {
    const next = this.nextUs();
    if (next === null || next > limitUs) {
      this.#nowUs = Math.max(this.#nowUs, limitUs);
      return false;
    }
    this.#nowUs = Math.max(this.#nowUs, next);
    const timer = this.#pop();
    const run = timer?.run;
    if (timer && run) {
      timer.run = null;
      this.#live--;
      run();
    }
    return true;
  }

  /** Moves on by so much, running what falls due; promises settle between timers. */
  async advance(ms: number): Promise<void> {
    const limitUs = this.#nowUs + Math.round(ms * 1000);
    await settle();
    while (this.step(limitUs)) await settle();
  }

  #push(timer: Timer): void {
    const heap = this.#heap;
    let at = heap.push(timer) - 1;
    while (at > 0) {
      const up = (at - 1) >> 1;
      if (before(heap[up]!, timer)) break;
      heap[at] = heap[up]!;
      at = up;
    }
    heap[at] = timer;
  }

  #pop(): Timer | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (!first || !last || heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      if (before(last, heap[child]!)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

function before(a: Timer, b: Timer): boolean {
  return a.atUs < b.atUs || (a.atUs === b.atUs && a.order < b.order);
}

/** Lets promises that are already resolved run their continuations, however deep the chain (bounded by a turn of the loop). */
export function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
