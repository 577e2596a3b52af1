// Lets output gather in its pipes: after a turn in which little was read the thread sleeps for a moment, and then reads all at once
// what came meanwhile. At concurrency 1 each invocation writes four marks; without this each of them wakes the thread by itself.

import { logLimits } from "#model/limits.ts";

export interface GatheringOptions {
  /** Holds the thread. */
  readonly sleep: (ms: number) => void;
  /** Runs when all that can be read now was read. */
  readonly afterTurn: (run: () => void) => void;
}

export class Gathering {
  readonly #options: GatheringOptions;
  #due = false;
  #bytes = 0;

  constructor(options: GatheringOptions) {
    this.#options = options;
  }

  /** So much was read. */
  read(bytes: number): void {
    this.#bytes += bytes;
    if (this.#due) return;
    this.#due = true;
    this.#options.afterTurn(this.#over);
  }

  readonly #over = (): void => {
    // Whoever writes much would soon be held back by a full pipe.
    const little = this.#bytes < logLimits.gatheredBytes;
    this.#due = false;
    this.#bytes = 0;
    if (little) this.#options.sleep(logLimits.gatherMs);
  };
}
