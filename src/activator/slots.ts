// The instances of one revision that can take an invocation, and which of them takes the next.

/** Something with room for so many at a time. */
export interface Slotted {
  readonly capacity: number;
  readonly active: number;
}

/**
 * A stack: whoever got a slot free last is on top and fills up first. So the most recently used instances stay warm
 * and the others at the bottom fall idle, and can go.
 */
export class Slots<T extends Slotted> {
  readonly #free: T[] = [];

  /** The instance that takes the next one, which the caller must then count as active; undefined: all are full. */
  take(): T | undefined {
    const top = this.#free.at(-1);
    if (top !== undefined && top.active + 1 >= top.capacity) this.#free.pop();
    return top;
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
