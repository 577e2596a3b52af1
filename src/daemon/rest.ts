// Says when ebb is at rest with something to give back: V8 and malloc keep what a burst needed until the next one comes.

import type { Clock } from "#model/clock.ts";
import type { Fact } from "#model/fact.ts";

const quietMs = 10_000;
/** Less is not worth 20 to 50 ms of the main loop, which a call might meet after all: some 40 calls, or the end of 15 instances. */
const worthwhileBytes = 1024 * 1024;
/**
 * More than the least that was ever held at rest, and less is left alone: with what is collected goes what V8 has learned of code that
 * runs seldom, and the next cold start takes some 3 of 12 ms longer.
 */
const slackBytes = 16 * 1024 * 1024;
/** One at a time: collections that run at once lengthen each other, the main thread's to 200 ms on two cores. */
const betweenStepsMs = 1_000;

export interface RestOptions {
  readonly clock: Clock;
  /**
   * What the main thread has ever put on its heap, which stands for all that has been done. Not what is there now: what dies with
   * the last instances was there when the burst of them was over, and the heap does not grow by it.
   */
  readonly allocatedBytes: () => number;
  /** Of the process. */
  readonly residentBytes: () => number;
  /** Each gives back something of its own. */
  readonly steps: ReadonlyArray<() => unknown>;
}

/** Told every fact, the start of ebb being the first. At rest it has no timer. */
export function createRest({ clock, allocatedBytes, residentBytes, steps }: RestOptions): (fact: Fact) => void {
  let lastUs = clock.monotonicUs();
  let waiting = true;
  /** Of what was allocated until then, what was garbage has been given back. */
  let doneBytes = 0;
  /** Held when it was given back, at the least; before the first time nothing is little. */
  let leastBytes = 0;
  const look = (): void => {
    const restMs = quietMs - (clock.monotonicUs() - lastUs) / 1_000;
    waiting = restMs > 0;
    if (waiting) return void clock.after(restMs, look);
    if (allocatedBytes() - doneBytes < worthwhileBytes || residentBytes() < leastBytes + slackBytes) return;
    step(0, lastUs);
  };
  /** Stops where something happens meanwhile: the next rest begins again. */
  const step = (index: number, restingSinceUs: number): void => {
    if (lastUs !== restingSinceUs) return;
    steps[index]?.();
    if (index + 1 === steps.length) {
      doneBytes = allocatedBytes();
      leastBytes = Math.min(leastBytes || Infinity, residentBytes());
    } else clock.after(betweenStepsMs, () => step(index + 1, restingSinceUs));
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
