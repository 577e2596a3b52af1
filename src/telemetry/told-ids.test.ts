// Of the ids of an instance the newest are known, at least half of the bound and never more than it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { newInvocationId } from "#model/ids.ts";
import { logLimits } from "#model/limits.ts";
import { ToldIds } from "./told-ids.ts";

const { idsRemembered } = logLimits;
const made = (count: number): string[] => Array.from({ length: count }, (_, n) => newInvocationId(n));

test("ids are known once they are told, alone or several at a time, and no other", () => {
  const told = new ToldIds();
  assert.ok(told.empty);
  const [one, two, three, other] = made(4) as [string, string, string, string];
  told.tell(one);
  assert.ok(told.has(one));
  told.tell(`${two} ${three}`);
  assert.ok(!told.empty);
  assert.deepEqual(
    [one, two, three, other, "", `${two} ${three}`].map((id) => told.has(id)),
    [true, true, true, false, false, false],
  );
});

for (const lookedForEvery of [1, 700, Infinity])
  for (const atOnce of [1, 60, 5_000])
    test(`of many the newest half of the bound is known, told ${atOnce} at a time, looked for after ${lookedForEvery}`, () => {
      const told = new ToldIds();
      const ids = made(20_000);
      for (let from = 0, looked = 0; from < ids.length; from += atOnce) {
        told.tell(ids.slice(from, from + atOnce).join(" "));
        if (from - looked < lookedForEvery) continue;
        looked = from;
        assert.ok(told.has(ids[from]!) || atOnce > idsRemembered / 2);
      }
      const known = ids.map((id) => told.has(id));
      assert.ok(known.slice(-idsRemembered / 2).every((is) => is));
      assert.ok(known.filter((is) => is).length <= idsRemembered);
    });
