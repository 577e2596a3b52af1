// What the writer on the main thread and the keeper in the store's worker see of each other without a message.
//
// 64 bytes of shared memory, as Int32: the position moves with every mark, and a message a mark would cost more than the mark.

import { storeLimits } from "#model/limits.ts";

const index = { segment: 0, position: 1, ready: 2, asleep: 3, floor: 4 } as const;

/** One side's view. `segment` 0: no writer yet, and nothing of the journal may be believed to be over. */
export class JournalShared {
  readonly #words: Int32Array;

  constructor(shared: SharedArrayBuffer) {
    if (shared.byteLength < storeLimits.journalSharedBytes) throw new RangeError("shared memory is too small");
    this.#words = new Int32Array(shared);
  }

  /** Writer: bytes of the current segment that are written. */
  moved(position: number): void {
    Atomics.store(this.#words, index.position, position);
  }

  /** Writer: goes on in another segment. A reader in between sees the old one at 0, which is never news. */
  rolled(segment: number): void {
    Atomics.store(this.#words, index.position, 0);
    Atomics.store(this.#words, index.segment, segment);
  }

  written(): { readonly segment: number; readonly position: number } {
    for (;;) {
      const segment = Atomics.load(this.#words, index.segment);
      const position = Atomics.load(this.#words, index.position);
      if (Atomics.load(this.#words, index.segment) === segment) return { segment, position };
    }
  }

  /** Keeper: this segment stands ready. */
  set ready(segment: number) {
    Atomics.store(this.#words, index.ready, segment);
  }
  get ready(): number {
    return Atomics.load(this.#words, index.ready);
  }

  /** Keeper: the ledger has loaded up to within this segment, so its number must not be used again, even if its file is gone. */
  set floor(segment: number) {
    Atomics.store(this.#words, index.floor, segment);
  }
  get floor(): number {
    return Atomics.load(this.#words, index.floor);
  }

  /** Keeper: from now on a mark must send a message. */
  sleep(): void {
    Atomics.store(this.#words, index.asleep, 1);
  }
  /** Either side: true for the one that ends the sleep. */
  wake(): boolean {
    return Atomics.load(this.#words, index.asleep) === 1 && Atomics.exchange(this.#words, index.asleep, 0) === 1;
  }
}
