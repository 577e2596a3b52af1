// Whose turn it is to start: projects in turn, and within a project its revisions in turn. Nobody starts twice while another waits,
// nobody has all turns, and nobody keeps one.

import type { Cancel, Clock } from "#model/clock.ts";

export class Turns<T> {
  /** A Map keeps its order of insertion: its first key is next. */
  readonly #projects = new Map<string, Set<T>>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** At the end of its project's row; once only. */
  add(project: string, one: T): void {
    let row = this.#projects.get(project);
    if (!row) {
      row = new Set();
      this.#projects.set(project, row);
    }
    if (row.has(one)) return;
    row.add(one);
    this.#size++;
  }

  delete(project: string, one: T): void {
    const row = this.#projects.get(project);
    if (!row?.delete(one)) return;
    this.#size--;
    if (row.size === 0) this.#projects.delete(project);
  }

  /** Takes the next of those that `may` out; its project goes to the end. */
  take(may: (one: T) => boolean = () => true): T | null {
    for (const [project, row] of this.#projects) {
      for (const one of row) {
        if (!may(one)) continue;
        this.#projects.delete(project);
        row.delete(one);
        this.#size--;
        if (row.size > 0) this.#projects.set(project, row);
        return one;
      }
    }
    return null;
  }
}

export interface StartsOptions {
  readonly clock: Clock;
  readonly atOnce: number;
  /** A start that takes longer waits for something of its own: its turn goes to the next. */
  readonly turnMs: number;
}

/** The starts that run. The last turn is for whoever has none: one function that starts many leaves the others theirs. */
export class Starts<T> {
  readonly #options: StartsOptions;
  readonly #held = new Map<T, number>();
  #count = 0;

  constructor(options: StartsOptions) {
    this.#options = options;
  }

  get count(): number {
    return this.#count;
  }

  get full(): boolean {
    return this.#count >= this.#options.atOnce;
  }

  may(one: T): boolean {
    const { atOnce } = this.#options;
    return this.#count < (atOnce > 1 && this.#held.has(one) ? atOnce - 1 : atOnce);
  }

  /** Takes a turn. `over` is called when it is given back: by what this returns, once, or by itself when its time is up. */
  begin(one: T, over: () => void): () => void {
    this.#count++;
    this.#held.set(one, (this.#held.get(one) ?? 0) + 1);
    let cancel: Cancel | null = null;
    const end = (): void => {
      if (cancel === null) return;
      cancel();
      cancel = null;
      this.#count--;
      const left = this.#held.get(one)! - 1;
      if (left > 0) this.#held.set(one, left);
      else this.#held.delete(one);
      over();
    };
    cancel = this.#options.clock.after(this.#options.turnMs, end);
    return end;
  }
}
