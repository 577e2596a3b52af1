// Places that many want: what rests gives way before what is at work, and who has most before all, so that no crowd keeps others out.

export interface SharesBounds {
  /** Places of all parties together. */
  readonly inAll: number;
  /**
   * A party's share. Within it none of its places that are at work is taken from it, and whoever rests gives way to it; with more
   * it has what nobody else wants.
   */
  readonly each: number;
}

/** In a chain, or in none. Links instead of a Set: places come to rest and go to work with every request. */
class Link<V> {
  readonly value: V | null;
  before: Link<V> | null = null;
  after: Link<V> | null = null;

  constructor(value: V | null) {
    this.value = value;
  }

  remove(): void {
    if (this.before === null || this.after === null) return;
    this.before.after = this.after;
    this.after.before = this.before;
    this.before = this.after = null;
  }
}

class Chain<V> {
  /** Before the first and behind the last. */
  readonly #end: Link<V> = new Link<V>(null);

  constructor() {
    this.#end.before = this.#end.after = this.#end;
  }

  append(link: Link<V>): void {
    link.before = this.#end.before;
    link.after = this.#end;
    link.before!.after = this.#end.before = link;
  }

  first(): V | null {
    return this.#end.after!.value;
  }
}

/** What one holder has, until it leaves, or `take` gives it to another. */
export class Place<T> {
  readonly holder: T;
  /** null: in no party, and never among those who have most. */
  readonly party: Party<T> | null;
  readonly #shares: Shares<T>;
  /** Where it stands among the resting ones of its party, and of all. */
  readonly #inParty = new Link<Place<T>>(this);
  readonly #inAll = new Link<Place<T>>(this);
  #state: "working" | "resting" | "left" = "working";

  /** @internal by Shares alone. */
  constructor(holder: T, party: Party<T> | null, shares: Shares<T>) {
    this.holder = holder;
    this.party = party;
    this.#shares = shares;
  }

  /** From now on it may be taken for others: the longer it rests, the sooner. */
  rest(): void {
    if (this.#state !== "working") return;
    this.#state = "resting";
    this.party?.resting.append(this.#inParty);
    this.#shares.resting.append(this.#inAll);
  }

  work(): void {
    if (this.#state !== "resting") return;
    this.#state = "working";
    this.#inParty.remove();
    this.#inAll.remove();
  }

  leave(): void {
    if (this.#state === "left") return;
    this.work();
    this.#state = "left";
    this.#shares.left(this);
  }
}

interface Party<T> {
  readonly name: string;
  /** The oldest first. */
  readonly places: Set<Place<T>>;
  readonly resting: Chain<Place<T>>;
}

export class Shares<T> {
  readonly #bounds: SharesBounds;
  readonly #parties = new Map<string, Party<T>>();
  /** Parties by how many places they have, so that who has most is found without looking at all of them. */
  readonly #byCount = new Map<number, Set<Party<T>>>();
  #most = 0;
  #count = 0;
  /** @internal */
  readonly resting = new Chain<Place<T>>();

  constructor(bounds: SharesBounds) {
    this.#bounds = bounds;
  }

  /** Places that are taken. */
  get count(): number {
    return this.#count;
  }

  /** A place at work. `displaced`: who had it, and has lost it already. null: nobody gives way to this party. */
  take(name: string | null, holder: T): { readonly place: Place<T>; readonly displaced: T | null } | null {
    const known = name === null ? null : this.#parties.get(name);
    let displaced: Place<T> | null = null;
    if (this.#count >= this.#bounds.inAll) {
      displaced = this.#givesWayTo(known ?? null);
      if (displaced === null) return null;
      displaced.leave();
    }
    const party = name === null ? null : (this.#parties.get(name) ?? this.#newParty(name));
    const place = new Place(holder, party, this);
    this.#count++;
    if (party !== null) {
      party.places.add(place);
      this.#moved(party, party.places.size - 1);
    }
    return { place, displaced: displaced?.holder ?? null };
  }

  /** `party`: of the newcomer; null: it has no place yet. */
  #givesWayTo(party: Party<T> | null): Place<T> | null {
    const { each } = this.#bounds;
    const own = party?.places.size ?? 0;
    const largest = this.#largest();
    const most = largest?.places.size ?? 0;
    const rests =
      (most > Math.max(own, each) ? largest?.resting.first() : null) ??
      (own < each ? this.resting.first() : party?.resting.first());
    if (rests) return rests;
    if (most <= Math.max(own + 1, each)) return null;
    return largest?.places.values().next().value ?? null;
  }

  /** @internal */
  left(place: Place<T>): void {
    this.#count--;
    const { party } = place;
    if (party === null) return;
    party.places.delete(place);
    this.#moved(party, party.places.size + 1);
    if (party.places.size === 0) this.#parties.delete(party.name);
  }

  #newParty(name: string): Party<T> {
    const party: Party<T> = { name, places: new Set(), resting: new Chain() };
    this.#parties.set(name, party);
    return party;
  }

  #moved(party: Party<T>, from: number): void {
    const before = this.#byCount.get(from);
    if (before?.delete(party) && before.size === 0) this.#byCount.delete(from);
    const to = party.places.size;
    if (to === 0) return;
    const among = this.#byCount.get(to);
    if (among) among.add(party);
    else this.#byCount.set(to, new Set([party]));
    if (to > this.#most) this.#most = to;
  }

  #largest(): Party<T> | null {
    for (; this.#most > 0; this.#most--) {
      const party = this.#byCount.get(this.#most)?.values().next().value;
      if (party !== undefined) return party;
    }
    return null;
  }
}
