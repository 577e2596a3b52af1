// The instances of one revision that can take an invocation, and which of them takes the next.

/** Something with room for so many at a time. */
export interface Slotted {
  readonly capacity: number;
  readonly active: number;
  /** It is held still until it gets one. */
  readonly paused: boolean;
}

/**
 * A stack: whoever got a slot free last is on top and fills up first. So the most recently used instances stay warm
 * and the others at the bottom fall idle, and can go. One that is paused takes it only where all are.
 */
export class Slots<T extends Slotted> {
  readonly #free: T[] = [];

  /** The instance that takes the next one, which the caller must then count as active; undefined: all are full. */
  take(): T | undefined {
    const top = this.#free.at(-1);
    if (top === undefined) return undefined;
    const taken = top.paused ? (this.#free.findLast((instance) => !instance.paused) ?? top) : top;
    if (taken.active + 1 < taken.capacity) return taken;
    if (taken === top) this.#free.pop();
    else this.remove(taken);
    return taken;
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
