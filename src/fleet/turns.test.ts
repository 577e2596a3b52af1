// Who may start when: no more at once than there are turns, the last for whoever has none, and each for its time.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { VirtualClock } from "#lib/virtual-clock.ts";
import { Starts, Turns } from "./turns.ts";

test("one that starts many has all turns but the last, which another takes", () => {
  const clock = new VirtualClock();
  const starts = new Starts<string>({ clock, atOnce: 3, turnMs: 1_000 });
  const overs: (() => void)[] = [];
  for (const one of ["a", "a"]) {
    assert.ok(starts.may(one));
    overs.push(starts.begin(one, () => undefined));
  }
  assert.ok(!starts.may("a") && starts.may("b") && !starts.full);
  overs.push(starts.begin("b", () => undefined));
  assert.ok(starts.full && !starts.may("c"));
  for (const over of overs) over();
  assert.deepEqual([starts.count, clock.pending()], [0, 0]);
});

test("where there is one turn it is everybody's", () => {
  const starts = new Starts<string>({ clock: new VirtualClock(), atOnce: 1, turnMs: 1_000 });
  starts.begin("a", () => undefined)();
  assert.ok(starts.may("a"));
});

test("a turn is over once: when it is given back, or when its time is up", async () => {
  const clock = new VirtualClock();
  const starts = new Starts<string>({ clock, atOnce: 2, turnMs: 1_000 });
  const told: string[] = [];
  const late = starts.begin("late", () => told.push("late"));
  const soon = starts.begin("soon", () => told.push("soon"));
  soon();
  soon();
  await clock.advance(1_001);
  late();
  assert.deepEqual(told, ["soon", "late"]);
  assert.deepEqual([starts.count, clock.pending()], [0, 0]);
});

test("the next is the first who may, and who may not keeps its place", () => {
  const turns = new Turns<string>();
  for (const one of ["a1", "a2"]) turns.add("a", one);
  turns.add("b", "b1");
  assert.equal(
    turns.take((one) => one !== "a1"),
    "a2",
  );
  assert.equal(
    turns.take((one) => one === "none"),
    null,
  );
  assert.deepEqual([turns.take(), turns.take(), turns.take(), turns.size], ["b1", "a1", null, 0]);
});

test("whoever comes and goes, there are never more than there are turns, and whoever has none need not wait for one who has all", () => {
  const steps = fc.array(fc.tuple(fc.integer({ min: 0, max: 4 }), fc.boolean()), { maxLength: 60 });
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 5 }), steps, (atOnce, moves) => {
      const starts = new Starts<number>({ clock: new VirtualClock(), atOnce, turnMs: 1_000 });
      const running: { one: number; over: () => void }[] = [];
      for (const [one, ends] of moves) {
        if (ends) running.shift()?.over();
        else if (starts.may(one)) running.push({ one, over: starts.begin(one, () => undefined) });
        assert.equal(starts.count, running.length);
        assert.ok(running.length <= atOnce);
        const owners = new Set(running.map((start) => start.one));
        if (owners.size === 1) assert.ok(starts.may(99), "one has all turns");
      }
    }),
  );
});
