// What a listener holds for its clients on all connections together (what they have sent ahead of their turn, answers that they do not
// read): so much, and of one client so much.

import { httpLimits } from "#model/limits.ts";

export interface HeldBounds {
  readonly inAllBytes: number;
  /** Of one party, once half of all is taken: what is nobody else's is in nobody's way. */
  readonly eachBytes: number;
}

export const heldBounds: HeldBounds = {
  inAllBytes: httpLimits.sentAheadInAllBytes,
  eachBytes: httpLimits.sentAheadEachBytes,
};

export const unreadBounds: HeldBounds = {
  inAllBytes: httpLimits.unreadInAllBytes,
  eachBytes: httpLimits.unreadEachBytes,
};

/** Of one connection. */
export interface HeldAccount {
  /** So many bytes are held for it now. */
  set(bytes: number): void;
  /** No more should be held for it, though it holds nothing yet. */
  readonly crowded: boolean;
}

export class Held {
  readonly #bounds: HeldBounds;
  readonly #onFull: () => void;
  readonly #ofParty = new Map<string, number>();
  #bytes = 0;
  #full = false;

  /** `onFull`: it is full, or (when half has gone again) not full any more. */
  constructor(bounds: HeldBounds, onFull: () => void) {
    this.#bounds = bounds;
    this.#onFull = onFull;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** null: nobody's, who has no share. */
  account(party: string | null): HeldAccount {
    let held = 0;
    const crowded = (): boolean => this.#crowded(party);
    return {
      set: (bytes) => {
        const by = bytes - held;
        // Before anybody hears of it, who may ask this connection again.
        held = bytes;
        if (by !== 0) this.#moved(party, by);
      },
      get crowded() {
        return crowded();
      },
    };
  }

  #crowded(party: string | null): boolean {
    if (this.#full || this.#bytes < this.#bounds.inAllBytes / 2) return this.#full;
    return party !== null && (this.#ofParty.get(party) ?? 0) >= this.#bounds.eachBytes;
  }

  #moved(party: string | null, by: number): void {
    this.#bytes += by;
    if (party !== null) {
      const left = (this.#ofParty.get(party) ?? 0) + by;
      if (left > 0) this.#ofParty.set(party, left);
      else this.#ofParty.delete(party);
    }
    const full = this.#full ? this.#bytes >= this.#bounds.inAllBytes / 2 : this.#bytes >= this.#bounds.inAllBytes;
    if (full === this.#full) return;
    this.#full = full;
    this.#onFull();
  }
}
