// Turns that several projects share.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Turns } from "./turns.ts";

test("no project has all of them, and who has the fewest is next", async () => {
  const turns = new Turns(3, 10, 2);
  const begun: string[] = [];
  const ends = new Map<string, () => void>();
  const { signal } = new AbortController();
  const take = (whose: string, name: string): Promise<void> =>
    turns.take(
      signal,
      () => {
        begun.push(name);
        return new Promise((resolve) => ends.set(name, resolve));
      },
      whose,
    );
  const all = [take("a", "a1"), take("a", "a2"), take("a", "a3"), take("b", "b1"), take("b", "b2"), take("c", "c1")];
  assert.deepEqual(begun, ["a1", "a2", "b1"]);
  const next = async (ended: string, name: string): Promise<void> => {
    ends.get(ended)!();
    while (begun.at(-1) !== name) await new Promise(setImmediate);
  };
  await next("a1", "c1");
  await next("b1", "b2");
  await next("c1", "a3");
  for (const end of ends.values()) end();
  await Promise.all(all);
});
