// Who gives way when all places are taken.

import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { type Place, Shares } from "./shares.ts";

/** Takes places for a party; their holders are named after it, in order. */
function crowd(shares: Shares<string>, party: string, count: number): Place<string>[] {
  return Array.from({ length: count }, (_, i) => shares.take(party, `${party}${i}`)!.place);
}

test("one party takes all that nobody else wants, and no more", () => {
  const shares = new Shares<string>({ inAll: 10, each: 0 });
  crowd(shares, "a", 10);
  assert.equal(shares.take("a", "late"), null);
  assert.equal(shares.count, 10);
});

test("when all are taken, the oldest of whoever has most gives way, until all that want have as many", () => {
  const shares = new Shares<string>({ inAll: 10, each: 0 });
  crowd(shares, "a", 10);
  const displaced = Array.from({ length: 6 }, (_, i) => shares.take("b", `b${i}`)?.displaced ?? null);
  assert.deepEqual(displaced, ["a0", "a1", "a2", "a3", "a4", null]);
  assert.equal(shares.take("c", "c0")?.displaced, "a5", "of two that have as many, who has had them for longer");
  assert.equal(shares.count, 10);
});

test("what rests gives way before what works: of who has more than a share first, and then who has rested longest of all", () => {
  const shares = new Shares<string>({ inAll: 6, each: 2 });
  const [a0, a1] = crowd(shares, "a", 3);
  const [b0] = crowd(shares, "b", 2);
  const [c0] = crowd(shares, "c", 1);
  for (const place of [c0, b0, a1, a0]) place!.rest();
  c0!.work();
  c0!.rest();
  assert.deepEqual(
    ["d", "e", "f", "g", "h"].map((party) => shares.take(party, party)?.displaced ?? null),
    ["a1", "b0", "a0", "c0", null],
  );
});

test("what is at work is safe within the party's share, and beyond it gives way to those who have less", () => {
  const shares = new Shares<string>({ inAll: 6, each: 3 });
  crowd(shares, "a", 5);
  crowd(shares, "b", 1);
  assert.equal(shares.take("b", "b1")?.displaced, "a0");
  assert.equal(shares.take("b", "b2")?.displaced, "a1");
  assert.equal(shares.take("c", "c0"), null);
});

test("beyond its share a party makes none of the others' resting places give way, but its own", () => {
  const shares = new Shares<string>({ inAll: 5, each: 2 });
  const [b0] = crowd(shares, "b", 1);
  b0!.rest();
  const places = crowd(shares, "a", 4);
  assert.equal(shares.take("a", "a4"), null);
  places[2]!.rest();
  assert.equal(shares.take("a", "a5")?.displaced, "a2");
});

test("what is in no party is never the largest, and makes room like anybody", () => {
  const shares = new Shares<string>({ inAll: 4, each: 1 });
  for (let i = 0; i < 2; i++) shares.take(null, `free${i}`);
  crowd(shares, "a", 2);
  assert.equal(shares.take(null, "free2")?.displaced, "a0");
  assert.equal(shares.take(null, "free3"), null);
});

test("a place that was left or lost is left once only", () => {
  const shares = new Shares<string>({ inAll: 2, each: 0 });
  const [a0, a1] = crowd(shares, "a", 2);
  assert.equal(shares.take("b", "b0")?.displaced, "a0");
  a0!.rest();
  a0!.leave();
  assert.equal(shares.count, 2);
  a1!.leave();
  a1!.leave();
  assert.equal(shares.count, 1);
});

test("whatever comes and goes: never too many, and whoever has least is refused only while nobody has two more", () => {
  const step = fc.record({
    party: fc.constantFrom("a", "b", "c", null),
    act: fc.constantFrom("take", "take", "take", "leave", "rest", "work"),
    at: fc.nat(20),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), fc.integer({ min: 0, max: 3 }), (steps, each) => {
      const shares = new Shares<number>({ inAll: 8, each });
      const held = new Map<number, { readonly place: Place<number>; readonly party: string | null; rests: boolean }>();
      const count = (party: string | null): number =>
        party === null ? 0 : [...held.values()].filter((one) => one.party === party).length;
      for (const [serial, { party, act, at }] of steps.entries()) {
        const [some, one] = [...held][at % Math.max(1, held.size)] ?? [];
        if (act === "take") {
          const own = count(party);
          const taken = shares.take(party, serial);
          if (taken === null) {
            assert.equal(held.size, 8);
            for (const other of ["a", "b", "c"]) assert.ok(count(other) <= Math.max(own + 1, each));
            continue;
          }
          if (taken.displaced !== null) {
            const lost = held.get(taken.displaced)!;
            assert.ok(lost.rests || count(lost.party) > Math.max(own + 1, each));
            held.delete(taken.displaced);
          }
          held.set(serial, { place: taken.place, party, rests: false });
        } else if (one !== undefined) {
          one.place[act]();
          if (act === "leave") held.delete(some!);
          else one.rests = act === "rest";
        }
        assert.equal(shares.count, held.size);
      }
    }),
  );
});
