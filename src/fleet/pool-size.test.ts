// How large the pool is: one of each kind that may be called, more after a crowd, never above the budget.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { poolLimits } from "#model/limits.ts";
import { decidePool, demandAfterStart, noDemand, wantedOf, type Demand, type PoolDecision } from "./pool-size.ts";

const second = 1_000_000;
const { sandboxBytes, halfLifeMs } = poolLimits;
const served: Demand = { ...noDemand, revisions: 1 };

/** Starts at these times. */
function after(times: readonly number[], demand = served): Demand {
  return times.reduce((known, atUs) => demandAfterStart(known, atUs), demand);
}
function decide(demands: readonly Demand[], budgetBytes: number, nowUs: number): PoolDecision {
  const kinds = demands.map((demand) => ({ demand, ready: 0 }));
  return decidePool(kinds, budgetBytes, nowUs);
}
const crowd = (count: number, atUs: number): number[] => Array.from({ length: count }, (_, i) => atUs + i);

describe("what is wanted of a kind", () => {
  it("is one while some revision may be called, and none without", () => {
    assert.equal(wantedOf(served, second), 1);
    assert.equal(wantedOf(noDemand, second), 0);
    assert.equal(wantedOf(after(crowd(50, second), noDemand), second), 0);
  });

  it("is as many as came at once, and half of it after each half-life", () => {
    const demand = after(crowd(40, second));
    assert.equal(wantedOf(demand, 2 * second), 40);
    assert.equal(wantedOf(demand, second + halfLifeMs * 1_000), 20);
    assert.equal(wantedOf(demand, second + 20 * halfLifeMs * 1_000), 1);
  });

  it("does not add up starts that come one by one", () => {
    const demand = after(Array.from({ length: 100 }, (_, i) => 20 * i * second));
    assert.equal(wantedOf(demand, 100 * 20 * second), 1);
  });

  it("is not made less by a smaller crowd after a larger one", () => {
    const demand = after([...crowd(40, second), ...crowd(3, 60 * second)]);
    assert.ok(wantedOf(demand, 61 * second) >= 36);
  });
});

describe("the budget", () => {
  it("gives each kind one before any kind gets a second, the most recently started first", () => {
    const many = after(crowd(40, 5 * second));
    const once = after([4 * second]);
    assert.deepEqual(decide([many, once, served], 4 * sandboxBytes, 6 * second).wanted, [2, 1, 1]);
    assert.deepEqual(decide([served, once, many], 2 * sandboxBytes, 6 * second).wanted, [0, 1, 1]);
  });

  it("that is too small for all kinds keeps what it keeps, instead of making each the one that was just called", () => {
    const kinds = [0, 1, 2].map(() => ({ demand: served, ready: 0 }));
    let hits = 0;
    for (let start = 0; start < 300; start++) {
      const nowUs = start * second;
      const called = kinds[start % 3]!;
      if (called.ready > 0) {
        hits++;
        called.ready--;
      }
      called.demand = demandAfterStart(called.demand, nowUs);
      const { wanted } = decidePool(kinds, 2 * sandboxBytes, nowUs);
      for (const [i, kind] of kinds.entries()) kind.ready = wanted[i]!;
    }
    assert.ok(hits > 150, `${hits} of 300 starts found one`);
  });

  it("of nothing keeps nothing", () => {
    const { wanted, decideAgainAtUs } = decide([after(crowd(9, 0)), served], 0, second);
    assert.deepEqual([wanted, decideAgainAtUs], [[0, 0], null]);
  });

  it("is never passed, no kind gets more than it needs, and what is left over is needed by nobody", () => {
    const demand = fc
      .record({
        revisions: fc.integer({ min: 0, max: 3 }),
        starts: fc.array(fc.integer({ min: 0, max: 100 * second }), { maxLength: 60 }),
      })
      .map(({ revisions, starts }) =>
        after(
          starts.toSorted((a, b) => a - b),
          { ...noDemand, revisions },
        ),
      );
    fc.assert(
      fc.property(fc.array(demand, { maxLength: 8 }), fc.integer({ min: 0, max: 40 }), (demands, room) => {
        const nowUs = 100 * second;
        const { wanted } = decide(demands, room * sandboxBytes + 1, nowUs);
        const full = demands.map((one) => wantedOf(one, nowUs));
        const sum = wanted.reduce((all, count) => all + count, 0);
        assert.ok(sum <= room);
        for (const [i, count] of wanted.entries()) assert.ok(count <= full[i]!);
        assert.ok(sum === room || wanted.every((count, i) => count === full[i]));
      }),
    );
  });

  it("is looked at again only while there is more than a quiet day needs", () => {
    assert.equal(decide([served, after([0])], 10 * sandboxBytes, second).decideAgainAtUs, null);
    assert.notEqual(decide([after(crowd(5, 0))], 10 * sandboxBytes, second).decideAgainAtUs, null);
  });
});
