// The instances of one revision that can take an invocation, and which of them takes the next.

/** Something with room for so many at a time. */
export interface Slotted {
  readonly capacity: number;
  readonly active: number;
  /** It is held still until it gets one. */
  readonly paused: boolean;
}

/**
 * A stack, unless they are spread: whoever got a slot free last is on top and fills up first. So the most recently used instances stay warm
 * and the others at the bottom fall idle, and can go. One that is paused takes it only where all are.
 * Spread, the one takes it in which least runs, so that they are all used alike: what one of them uses then says what all do.
 */
export class Slots<T extends Slotted> {
  readonly #free: T[] = [];

  /** The instance that takes the next one, which the caller must then count as active; undefined: all are full. */
  take(spread = false): T | undefined {
    const top = this.#free.at(-1);
    if (top === undefined) return undefined;
    const taken = spread
      ? this.#leastBusy(top)
      : top.paused
        ? (this.#free.findLast((instance) => !instance.paused) ?? top)
        : top;
    if (taken.active + 1 < taken.capacity) return taken;
    if (taken === top) this.#free.pop();
    else this.remove(taken);
    return taken;
  }

  #leastBusy(top: T): T {
    let least = top;
    for (const instance of this.#free) {
      const less = instance.active - least.active || Number(instance.paused) - Number(least.paused);
      if (less < 0) least = instance;
    }
    return least;
  }

  /** It came, or one in it has ended: it has a slot free. */
  offer(instance: T): void {
    if (!this.#free.includes(instance)) this.#free.push(instance);
  }

  remove(instance: T): void {
    const at = this.#free.indexOf(instance);
    if (at >= 0) this.#free.splice(at, 1);
  }

  clear(): void {
    this.#free.length = 0;
  }
}
