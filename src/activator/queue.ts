// Those who wait for an instance: first in, first out within a workload, bounded for each workload and in all.

import { waitingLimits } from "#model/limits.ts";

export interface Waiter {
  /** Monotonic us. */
  readonly arrivedUs: number;
}

/** The waiting of one workload. Leaving from the middle is O(1): a Set keeps the order of arrival. */
export class Line<W extends Waiter> {
  readonly #waiters = new Set<W>();

  get length(): number {
    return this.#waiters.size;
  }

  /** Who came first, and stays; undefined: nobody waits. */
  first(): W | undefined {
    return this.#waiters.values().next().value;
  }

  /** @internal by WaitingRoom alone, which counts. */
  get waiters(): Set<W> {
    return this.#waiters;
  }
}

export interface WaitingBounds {
  readonly perWorkload: number;
  readonly inAll: number;
}

/** Where a newcomer ended up. `displaced`: who lost its place to it, and out of which line. */
export type Placed<W extends Waiter> =
  | { readonly placed: true; readonly displaced: W | null }
  | { readonly placed: false; readonly full: "workload" | "all" };

/**
 * All lines together. When the room is full the longest line gives way: a workload that is flooded can take the
 * places that nobody else wants, and no others.
 */
export class WaitingRoom<W extends Waiter> {
  readonly #bounds: WaitingBounds;
  /** Lines by their length, so that the longest is found without looking at all of them. */
  readonly #byLength: Array<Set<Line<W>> | undefined> = [];
  #longest = 0;
  #count = 0;

  constructor(bounds: WaitingBounds = waitingLimits) {
    this.#bounds = bounds;
  }

  get length(): number {
    return this.#count;
  }

  add(line: Line<W>, waiter: W): Placed<W> {
    if (line.length >= this.#bounds.perWorkload) return { placed: false, full: "workload" };
    let displaced: W | null = null;
    if (this.#count >= this.#bounds.inAll) {
      const longest = this.#longestLine();
      if (longest === null || longest.length <= line.length + 1) return { placed: false, full: "all" };
      displaced = [...longest.waiters].at(-1)!;
      this.remove(longest, displaced);
    }
    line.waiters.add(waiter);
    this.#moved(line, line.length - 1);
    this.#count++;
    return { placed: true, displaced };
  }

  /** False: it was not waiting there. */
  remove(line: Line<W>, waiter: W): boolean {
    if (!line.waiters.delete(waiter)) return false;
    this.#moved(line, line.length + 1);
    this.#count--;
    return true;
  }

  /** Who has waited longest; undefined: nobody. */
  take(line: Line<W>): W | undefined {
    const waiter = line.first();
    if (waiter !== undefined) this.remove(line, waiter);
    return waiter;
  }

  #moved(line: Line<W>, from: number): void {
    this.#byLength[from]?.delete(line);
    const to = line.length;
    if (to === 0) return;
    (this.#byLength[to] ??= new Set()).add(line);
    if (to > this.#longest) this.#longest = to;
  }

  #longestLine(): Line<W> | null {
    while (this.#longest > 0) {
      const line = this.#byLength[this.#longest]?.values().next().value;
      if (line !== undefined) return line;
      this.#longest--;
    }
    return null;
  }
}
