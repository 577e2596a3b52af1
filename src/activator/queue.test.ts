// Waiting: order, bounds, and who gives way when the room is full; and which instance takes the next.

import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { Line, WaitingRoom, type Waiter } from "./queue.ts";
import { Slots } from "./slots.ts";

const waiter = (arrivedUs: number): Waiter => ({ arrivedUs });

test("first in, first out; leaving from the middle keeps the order", () => {
  const room = new WaitingRoom<Waiter>({ perWorkload: 10, inAll: 10 });
  const line = new Line<Waiter>();
  const [a, b, c] = [waiter(1), waiter(2), waiter(3)];
  for (const each of [a, b, c]) assert.deepEqual(room.add(line, each), { placed: true, displaced: null });
  assert.equal(room.remove(line, b), true);
  assert.equal(room.remove(line, b), false);
  assert.deepEqual([room.take(line), room.take(line), room.take(line)], [a, c, undefined]);
  assert.equal(room.length, 0);
});

test("a workload's line is bounded", () => {
  const room = new WaitingRoom<Waiter>({ perWorkload: 2, inAll: 10 });
  const line = new Line<Waiter>();
  room.add(line, waiter(1));
  room.add(line, waiter(2));
  assert.deepEqual(room.add(line, waiter(3)), { placed: false, full: "workload" });
});

test("when the room is full the newest of the longest line gives way to a shorter line", () => {
  const room = new WaitingRoom<Waiter>({ perWorkload: 10, inAll: 4 });
  const flooded = new Line<Waiter>();
  const quiet = new Line<Waiter>();
  const crowd = [1, 2, 3, 4].map(waiter);
  for (const each of crowd) room.add(flooded, each);
  assert.deepEqual(room.add(flooded, waiter(5)), { placed: false, full: "all" });
  assert.deepEqual(room.add(quiet, waiter(6)), { placed: true, displaced: crowd[3] });
  assert.deepEqual(room.add(quiet, waiter(7)), { placed: true, displaced: crowd[2] });
  assert.deepEqual(
    room.add(quiet, waiter(8)),
    { placed: false, full: "all" },
    "equal lines take nothing of each other",
  );
  assert.equal(room.length, 4);
});

test("whatever comes and goes, the bounds hold and the count is right", () => {
  const step = fc.record({ line: fc.nat(4), what: fc.constantFrom("add", "take", "leave") });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (stepsTaken) => {
      const room = new WaitingRoom<Waiter>({ perWorkload: 5, inAll: 12 });
      const lines = Array.from({ length: 5 }, () => new Line<Waiter>());
      for (const [i, { line: at, what }] of stepsTaken.entries()) {
        const line = lines[at]!;
        if (what === "add") room.add(line, waiter(i));
        else if (what === "take") room.take(line);
        else if (line.first()) room.remove(line, [...line.waiters].at(-1)!);
        const lengths = lines.map((each) => each.length);
        assert.equal(
          room.length,
          lengths.reduce((sum, length) => sum + length, 0),
        );
        assert.ok(room.length <= 12 && Math.max(...lengths) <= 5);
        for (const each of lines) {
          const order = [...each.waiters].map((who) => who.arrivedUs);
          assert.deepEqual(
            order,
            order.toSorted((a, b) => a - b),
          );
        }
      }
    }),
  );
});

test("the instance that got a slot free last is filled first, so that the others fall idle", () => {
  const slots = new Slots<{ capacity: number; active: number; paused: boolean }>();
  const [a, b] = [
    { capacity: 2, active: 0, paused: false },
    { capacity: 2, active: 0, paused: false },
  ];
  slots.offer(a);
  slots.offer(b);
  const take = () => {
    const taken = slots.take();
    if (taken) taken.active++;
    return taken;
  };
  assert.deepEqual(
    [take(), take(), take(), take(), take()].map((taken) => (taken === a ? "a" : taken === b ? "b" : null)),
    ["b", "b", "a", "a", null],
  );
  a.active--;
  slots.offer(a);
  slots.offer(a);
  assert.equal(take(), a);
  assert.equal(take(), undefined, "offered twice is there once");
  b.active--;
  slots.offer(b);
  slots.remove(b);
  assert.equal(take(), undefined);
});

test("one that is paused is filled only when all that have room are", () => {
  const slots = new Slots<{ capacity: number; active: number; paused: boolean }>();
  const [a, b, c] = [false, true, true].map((paused) => ({ capacity: 2, active: 0, paused }));
  for (const one of [a!, b!, c!]) slots.offer(one);
  const take = () => {
    const taken = slots.take();
    if (!taken) return null;
    taken.active++;
    taken.paused = false;
    return taken === a ? "a" : taken === b ? "b" : "c";
  };
  assert.deepEqual([take(), take(), take(), take(), take(), take(), take()], ["a", "a", "c", "c", "b", "b", null]);
});

test("slots that are spread: the next goes where least runs, to one that rests before one at work, and last of all to a paused one as idle", () => {
  const slots = new Slots<{ name: string; capacity: number; active: number; paused: boolean }>();
  const made = (name: string, paused = false) => ({ name, capacity: 4, active: 0, paused });
  const [a, b, c] = [made("a"), made("b", true), made("c")];
  for (const one of [a, b, c]) slots.offer(one);
  const taken = Array.from({ length: 12 }, () => {
    const one = slots.take(true)!;
    one.active++;
    one.paused = false;
    return one.name;
  });
  assert.deepEqual(taken.slice(0, 3).toSorted(), ["a", "b", "c"]);
  assert.equal(taken[2], "b", "the paused one after those that are awake");
  for (const round of [3, 6, 9]) assert.deepEqual(taken.slice(round, round + 3).toSorted(), ["a", "b", "c"]);
  assert.equal(slots.take(true), undefined);
});
