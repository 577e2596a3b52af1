// So many at a time, the others in the order of their coming, and no more of these than a bound. Where it is said whose they are, nobody has
// all of them: what one project waits for, an hour if its registry is slow, is not waited for by the others.

import { EbbError } from "#model/errors.ts";

interface Waiting {
  readonly whose: string;
  readonly go: () => void;
}

export class Turns {
  readonly #atOnce: number;
  readonly #waitingMax: number;
  /** Of one. */
  readonly #eachMax: number;
  readonly #waiting = new Set<Waiting>();
  readonly #running = new Map<string, number>();
  #count = 0;

  constructor(atOnce: number, waitingMax: number, eachMax = atOnce) {
    this.#atOnce = atOnce;
    this.#waitingMax = waitingMax;
    this.#eachMax = eachMax;
  }

  async take<T>(signal: AbortSignal, work: () => Promise<T>, whose = ""): Promise<T> {
    signal.throwIfAborted();
    if (this.#mayRun(whose)) this.#begin(whose);
    else await this.#wait(signal, whose);
    try {
      return await work();
    } finally {
      this.#end(whose);
    }
  }

  #mayRun(whose: string): boolean {
    return this.#count < this.#atOnce && this.#runningOf(whose) < this.#eachMax;
  }

  #runningOf(whose: string): number {
    return this.#running.get(whose) ?? 0;
  }

  #begin(whose: string): void {
    this.#count += 1;
    this.#running.set(whose, this.#runningOf(whose) + 1);
  }

  /** Whoever has the fewest is next, and of these who came first. */
  #end(whose: string): void {
    this.#count -= 1;
    const left = this.#runningOf(whose) - 1;
    if (left === 0) this.#running.delete(whose);
    else this.#running.set(whose, left);
    let next: Waiting | null = null;
    for (const one of this.#waiting) {
      if (!this.#mayRun(one.whose)) continue;
      if (next === null || this.#runningOf(one.whose) < this.#runningOf(next.whose)) next = one;
    }
    if (next === null) return;
    this.#begin(next.whose);
    next.go();
  }

  /** Resolves with a turn that is counted already. */
  #wait(signal: AbortSignal, whose: string): Promise<void> {
    if (this.#waiting.size >= this.#waitingMax)
      throw new EbbError("rate_limited", `${this.#waitingMax} images wait to be fetched already; repeat it later`, {
        retryAfterSeconds: 30,
      });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const stop = (): void => {
      this.#waiting.delete(waiting);
      reject(signal.reason);
    };
    const waiting: Waiting = {
      whose,
      go: () => {
        this.#waiting.delete(waiting);
        signal.removeEventListener("abort", stop);
        resolve();
      },
    };
    this.#waiting.add(waiting);
    signal.addEventListener("abort", stop, { once: true });
    return promise;
  }
}
