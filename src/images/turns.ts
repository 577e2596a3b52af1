// So many at a time, the others in the order of their coming, and no more of these than a bound.

import { EbbError } from "#model/errors.ts";

export class Turns {
  readonly #atOnce: number;
  readonly #waitingMax: number;
  readonly #waiting = new Set<() => void>();
  #running = 0;

  constructor(atOnce: number, waitingMax: number) {
    this.#atOnce = atOnce;
    this.#waitingMax = waitingMax;
  }

  async take<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    if (this.#running >= this.#atOnce) await this.#wait(signal);
    else this.#running += 1;
    try {
      return await work();
    } finally {
      const next = this.#waiting.values().next();
      if (next.done === true) this.#running -= 1;
      else next.value();
    }
  }

  /** Resolves with a turn that somebody else has given up. */
  #wait(signal: AbortSignal): Promise<void> {
    if (this.#waiting.size >= this.#waitingMax)
      throw new EbbError("rate_limited", `${this.#waitingMax} images wait to be fetched already; repeat it later`, {
        retryAfterSeconds: 30,
      });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const stop = (): void => {
      this.#waiting.delete(go);
      reject(signal.reason);
    };
    const go = (): void => {
      this.#waiting.delete(go);
      signal.removeEventListener("abort", stop);
      resolve();
    };
    this.#waiting.add(go);
    signal.addEventListener("abort", stop, { once: true });
    return promise;
  }
}
