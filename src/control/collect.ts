// Code and images that no revision names any more, and nothing runs of, are deleted some time after a deploy, once for many, and off everybody's path.

import type { Cancel } from "#model/clock.ts";
import { newErrorId } from "#model/ids.ts";
import { deployLimits } from "#model/limits.ts";
import type { Context } from "./context.ts";

export interface Collector {
  /** Something may have become free. */
  soon(): void;
  stop(): void;
}

export function createCollector(
  context: Pick<Context, "clock" | "builds" | "images" | "store" | "fleet" | "tell">,
): Collector {
  let cancel: Cancel | null = null;
  let stopped = false;
  async function collect(): Promise<void> {
    cancel = null;
    try {
      const named = await context.store.contentDigests();
      // Asked after the store: what was named a moment ago and drains now is in one of both.
      const kept = new Set([...named, ...context.fleet.contentInUse()]);
      await context.builds.collect(kept);
      await context.images?.collect(kept);
    } catch (error) {
      context.tell({ kind: "defect", errorId: newErrorId(), where: "collecting code and images", error });
    }
  }
  return {
    soon() {
      if (!stopped) cancel ??= context.clock.after(deployLimits.collectAfterMs, () => void collect());
    },
    stop() {
      stopped = true;
      cancel?.();
    },
  };
}
