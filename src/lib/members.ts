// What changes with every call and is kept in its order. In place of a Set: V8 leaves a table that was outgrown linked to the next one, and when
// one of them has become old (it was idle while others were busy) each that follows is kept until a major collection, with all that it held.

/** Of a member: its neighbours, null where it is none. */
export interface Neighbours<T> {
  before: T | null;
  after: T | null;
}

/** Each in one of these at a time. */
export class Members<T extends Neighbours<T>> implements Iterable<T> {
  #first: T | null = null;
  #last: T | null = null;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** The one that was added before all others. */
  get first(): T | null {
    return this.#first;
  }

  add(member: T): void {
    const last = this.#last;
    member.before = last;
    if (last === null) this.#first = member;
    else last.after = member;
    this.#last = member;
    this.#size++;
  }

  /** Nothing happens where it is no member. */
  delete(member: T): void {
    const { before, after } = member;
    if (before === null && this.#first !== member) return;
    if (before === null) this.#first = after;
    else before.after = after;
    if (after === null) this.#last = before;
    else after.before = before;
    member.before = member.after = null;
    this.#size--;
  }

  /** Those that there are now, in the order of their coming, whatever becomes of them meanwhile. */
  [Symbol.iterator](): IterableIterator<T> {
    const all: T[] = [];
    for (let member = this.#first; member !== null; member = member.after) all.push(member);
    return all.values();
  }
}
