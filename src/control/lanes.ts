// One at a time per key, first come first served: what must not interleave.

import { EbbError } from "#model/errors.ts";

export interface Lanes {
  /** Runs when all earlier of `key` have ended. EbbError over_quota when too many wait. */
  run<T>(key: string, task: () => Promise<T>): Promise<T>;
}

export function createLanes(what: string, waitingMax: number): Lanes {
  const tails = new Map<string, { last: Promise<void>; count: number }>();
  return {
    async run(key, task) {
      let lane = tails.get(key);
      if (!lane) tails.set(key, (lane = { last: Promise.resolve(), count: 0 }));
      if (lane.count > waitingMax)
        throw new EbbError("over_quota", `${waitingMax} ${what} wait already; repeat when they are through`, {
          retryAfterSeconds: 5,
        });
      const { promise, resolve } = Promise.withResolvers<void>();
      const before = lane.last;
      lane.last = promise;
      lane.count += 1;
      await before;
      try {
        return await task();
      } finally {
        lane.count -= 1;
        if (lane.count === 0) tails.delete(key);
        resolve();
      }
    },
  };
}
