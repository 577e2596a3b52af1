// The pool on virtual time: spare links are taken without waiting, demand is remembered for a while, failures are told.

import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { settle, VirtualClock } from "#lib/virtual-clock.ts";
import { linkLimits } from "#model/limits.ts";
import { Pool } from "./pool.ts";
import { decidePool } from "./sizing.ts";

interface Maker {
  readonly pool: Pool<number>;
  readonly clock: VirtualClock;
  readonly removed: number[];
  readonly failures: unknown[];
  made: number;
  /** Batches that wait to be finished. */
  readonly pending: Array<{ finish(): void; fail(error: Error): void }>;
}

function make(spareMin: number, spareMax = 8): Maker {
  const clock = new VirtualClock();
  const maker: Maker = {
    clock,
    removed: [],
    failures: [],
    made: 0,
    pending: [],
    pool: new Pool<number>({
      make: (count) =>
        new Promise((resolve, reject) => {
          const finish = (): void => resolve(Array.from({ length: count }, () => ++maker.made));
          maker.pending.push({ finish, fail: reject });
        }),
      remove: (things) => maker.removed.push(...things),
      clock,
      bounds: { spareMin, spareMax },
      failed: (error) => maker.failures.push(error),
    }),
  };
  maker.pool.start();
  return maker;
}

/** Finishes batches until none is under way. */
async function finishAll(maker: Maker): Promise<void> {
  for (let i = 0; i < 100 && maker.pending.length > 0; i++) {
    for (const batch of maker.pending.splice(0)) batch.finish();
    await settle();
  }
  assert.equal(maker.pending.length, 0);
}

void test("a spare one is taken without waiting for anything, the oldest first", async () => {
  const maker = make(2);
  await finishAll(maker);
  assert.equal(maker.pool.spare, 2);
  let taken = 0;
  void maker.pool.take().then((thing) => (taken = thing));
  await Promise.resolve();
  await Promise.resolve();
  assert.equal(taken, 1);
});

void test("who finds none waits for the next that is made, in the order of asking", async () => {
  const maker = make(0);
  const order: number[] = [];
  for (let i = 0; i < 5; i++) void maker.pool.take().then(() => order.push(i));
  await settle();
  assert.deepEqual(order, []);
  await finishAll(maker);
  assert.deepEqual(order, [0, 1, 2, 3, 4]);
});

void test("never more batches at once than allowed, and none is larger than allowed", async () => {
  const maker = make(0);
  const takes = Array.from({ length: 40 }, () => maker.pool.take());
  await settle();
  assert.equal(maker.pending.length, linkLimits.batchesAtOnce);
  await finishAll(maker);
  assert.equal(new Set(await Promise.all(takes)).size, 40);
});

void test("demand makes the pool larger, and an idle one shrinks back and sets no timer", async () => {
  const maker = make(2, 6);
  await finishAll(maker);
  assert.equal(maker.clock.pending(), 0);
  for (let i = 0; i < 10; i++) void maker.pool.take();
  await settle();
  await finishAll(maker);
  assert.equal(maker.pool.spare, 6);
  await maker.clock.advance(2 * linkLimits.demandWindowMs);
  assert.equal(maker.pool.spare, 2);
  assert.equal(maker.removed.length, 4);
  assert.equal(maker.clock.pending(), 0);
});

void test("a failure is told to who waits, or where nobody does, as a fact; it is tried again after a while", async () => {
  const maker = make(1);
  const take = maker.pool.take();
  const error = new Error("no");
  maker.pending.shift()?.fail(error);
  await assert.rejects(take, error);
  assert.deepEqual(maker.failures, []);
  for (const batch of maker.pending.splice(0)) batch.fail(error);
  await settle();
  assert.equal(maker.pending.length, 0, "nothing is made for a moment");
  await maker.clock.advance(linkLimits.retryAfterMs);
  assert.ok(maker.pending.length > 0);
  await finishAll(maker);
  assert.ok((await maker.pool.take()) > 0);
});

void test("stopping refuses those who wait, and what is still being made is taken away", async () => {
  const maker = make(0);
  const take = maker.pool.take();
  const stopped = maker.pool.stop();
  await assert.rejects(take, { code: "stopping" });
  maker.pending.shift()?.finish();
  await stopped;
  assert.deepEqual(maker.removed.length, maker.made);
  await assert.rejects(maker.pool.take(), { code: "stopping" });
});

void test("a decision makes just what is missing, removes only without demand, and says why", () => {
  const count = fc.nat(100);
  fc.assert(
    fc.property(fc.record({ spare: count, making: count, waiting: count, takenRecently: count }), (state) => {
      const { make, remove, reasons } = decidePool(state, { spareMin: 4, spareMax: 32 });
      const have = state.spare + state.making + make - remove;
      const target = Math.min(32, 4 + state.takenRecently);
      assert.ok(have >= target + state.waiting || make === 0);
      assert.ok(make === 0 || have === target + state.waiting);
      assert.ok(
        make > 0 || have >= Math.max(target / 2, state.waiting),
        "half of them are there, and who waits gets his",
      );
      assert.ok(make === 0 || remove === 0);
      assert.ok(remove <= state.spare && (remove === 0 || (state.takenRecently === 0 && state.waiting === 0)));
      assert.ok(state.spare - remove >= Math.min(state.spare, target));
      assert.ok(reasons.length > 0);
    }),
  );
});
