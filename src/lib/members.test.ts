// Members in the order of their coming, against a Set; and that old ones keep none of those that follow.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import fc from "fast-check";
import { Members } from "./members.ts";

class One {
  before: One | null = null;
  after: One | null = null;
  readonly #ballast = Array.from({ length: 100 }, () => 0.5);
  get size(): number {
    return this.#ballast.length;
  }
}

test("they are those of a Set in its order, whatever comes and goes", () => {
  const ones = Array.from({ length: 6 }, () => new One());
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.boolean(), fc.nat(5))), (steps) => {
      const [members, set] = [new Members<One>(), new Set<One>()];
      for (const [adds, at] of steps) {
        const one = ones[at]!;
        if (adds && !set.has(one)) {
          members.add(one);
          set.add(one);
        } else if (!adds) {
          members.delete(one);
          set.delete(one);
        }
        assert.deepEqual([members.size, [...members], members.first], [set.size, [...set], [...set][0] ?? null]);
      }
      for (const one of set) members.delete(one);
    }),
  );
});

test("those that an iteration began with are all met, also where each takes its neighbour along", () => {
  const members = new Members<One>();
  const ones = [new One(), new One(), new One()];
  for (const one of ones) members.add(one);
  const met: One[] = [];
  for (const one of members) {
    met.push(one);
    for (const gone of ones) members.delete(gone);
  }
  assert.deepEqual(met, ones);
  assert.equal(members.size, 0);
});

test("what has gone keeps nothing, however old it has become", () => {
  setFlagsFromString("--expose-gc");
  const gc = runInNewContext("gc") as (options?: object) => void;
  const minor = (): void => gc({ type: "minor" });
  const members = new Members<One>();
  let last = new One();
  members.add(last);
  // It becomes old, as those of an instance do in which nothing runs while others are called.
  for (let collection = 0; collection < 3; collection++) minor();
  const heapBytes = (): number => process.memoryUsage().heapUsed;
  const beforeBytes = heapBytes();
  for (let call = 0; call < 20_000; call++) {
    const next = new One();
    members.add(next);
    members.delete(last);
    last = next;
    if (call % 2_000 === 0) minor();
  }
  for (let collection = 0; collection < 3; collection++) minor();
  const grownBytes = heapBytes() - beforeBytes;
  assert.ok(grownBytes < 2_000_000, `${grownBytes} bytes`);
});
