// Says when ebb is at rest with something to give back: V8 and malloc keep what a burst needed until the next one comes.

import type { Clock } from "#model/clock.ts";
import type { Fact } from "#model/fact.ts";

const quietMs = 10_000;
/** Less is not worth 20 to 50 ms of the main loop, which a call might meet after all. */
const worthwhileBytes = 2 * 1024 * 1024;

export interface RestOptions {
  readonly clock: Clock;
  /** Of the main thread's heap, whose growth stands for all that has been done. */
  readonly usedBytes: () => number;
  readonly giveBack: () => void;
}

/** Told every fact, the start of ebb being the first. At rest it has no timer. */
export function createRest({ clock, usedBytes, giveBack }: RestOptions): (fact: Fact) => void {
  let lastUs = clock.monotonicUs();
  let waiting = true;
  /** After the last collection. */
  let leftBytes = 0;
  const look = (): void => {
    const restMs = quietMs - (clock.monotonicUs() - lastUs) / 1_000;
    waiting = restMs > 0;
    if (waiting) return void clock.after(restMs, look);
    if (usedBytes() - leftBytes < worthwhileBytes) return;
    giveBack();
    leftBytes = usedBytes();
  };
  clock.after(quietMs, look);
  return () => {
    lastUs = clock.monotonicUs();
    if (waiting) return;
    // One timer every `quietMs` while it is busy, and none an invocation.
    waiting = true;
    clock.after(quietMs, look);
  };
}
