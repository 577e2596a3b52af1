// Links that the next run of the same job may have: to make one and take it away again is a fifth of what a short run costs. It must be as
// new: nobody is behind it, nothing was open to it beyond its class, and not one packet has gone through it or its loopback. So no
// connection of it waits for its end, in its namespace or in the host's tracker, and none bears its mark.

import type { Cancel, Clock } from "#model/clock.ts";
import { linkLimits } from "#model/limits.ts";
import type { OwnLink } from "./links.ts";

export interface RestedOptions {
  /** Asks the kernel. */
  readonly untouched: (link: OwnLink) => Promise<boolean>;
  readonly remove: (link: OwnLink) => void;
  readonly clock: Clock;
}

interface One {
  readonly link: OwnLink;
  readonly as: string;
  readonly untilUs: number;
}

export class Rested {
  readonly #options: RestedOptions;
  /** The oldest first. */
  #all: One[] = [];
  #timer: Cancel | null = null;
  #stopped = false;

  constructor(options: RestedOptions) {
    this.#options = options;
  }

  /** It is kept for a moment, or removed. */
  async offer(link: OwnLink, as: string): Promise<void> {
    const { untouched, remove, clock } = this.#options;
    const asNew = await untouched(link).catch(() => false);
    // The whole network goes then.
    if (this.#stopped) return;
    if (!asNew) return remove(link);
    this.#all.push({ link, as, untilUs: clock.monotonicUs() + linkLimits.restMs * 1_000 });
    if (this.#all.length > linkLimits.rested) remove(this.#all.shift()!.link);
    this.#watch();
  }

  /** The one that came last, so that those that are too many go. */
  take(as: string): OwnLink | null {
    const at = this.#all.findLastIndex((one) => one.as === as);
    return at < 0 ? null : this.#all.splice(at, 1)[0]!.link;
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.();
    this.#timer = null;
    this.#all = [];
  }

  #watch(): void {
    const [oldest] = this.#all;
    if (this.#timer !== null || oldest === undefined) return;
    const { clock, remove } = this.#options;
    const waitMs = Math.max(0, oldest.untilUs - clock.monotonicUs()) / 1_000;
    this.#timer = clock.after(Math.ceil(waitMs), () => {
      this.#timer = null;
      const nowUs = clock.monotonicUs();
      const over = this.#all.filter(({ untilUs }) => untilUs <= nowUs);
      this.#all = this.#all.filter(({ untilUs }) => untilUs > nowUs);
      for (const { link } of over) remove(link);
      this.#watch();
    });
  }
}
