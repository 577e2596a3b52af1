// Links that the next run of a job has from the one before: only where they are as new, for a moment, and not too many.

import assert from "node:assert/strict";
import { test } from "node:test";
import { settle, VirtualClock } from "#lib/virtual-clock.ts";
import { linkLimits } from "#model/limits.ts";
import type { OwnLink } from "./links.ts";
import { Rested } from "./rested.ts";

function link(id: string): OwnLink {
  const paths = { namespacePath: `/n/${id}`, address: `10.0.0.${id}`, gateway: "10.0.0.1", device: `e${id}` };
  return { id, egress: "none", index: Number(id), mark: Number(id), ...paths };
}

function world(untouched: (link: OwnLink) => Promise<boolean> = async () => true): {
  rested: Rested;
  removed: string[];
  clock: VirtualClock;
} {
  const removed: string[] = [];
  const clock = new VirtualClock();
  const rested = new Rested({ untouched, remove: ({ id }) => void removed.push(id), clock });
  return { rested, removed, clock };
}

test("one is for the next of the same, once", async () => {
  const { rested, removed } = world();
  await rested.offer(link("2"), "none a/job@1");
  assert.equal(rested.take("none a/job@2"), null);
  assert.equal(rested.take("internet a/job@1"), null);
  assert.equal(rested.take("none a/job@1")?.id, "2");
  assert.equal(rested.take("none a/job@1"), null);
  assert.deepEqual(removed, []);
  rested.stop();
});

test("one that a packet went through is nobody's, and so is one of which the kernel says nothing", async () => {
  const { rested, removed } = world(async ({ id }) => {
    if (id === "3") throw new Error("the spawner died");
    return false;
  });
  await rested.offer(link("2"), "j");
  await rested.offer(link("3"), "j");
  assert.equal(rested.take("j"), null);
  assert.deepEqual(removed, ["2", "3"]);
});

test("nobody who wants one for a moment: each goes at its time, and no timer is left", async () => {
  const { rested, removed, clock } = world();
  await rested.offer(link("2"), "j");
  await clock.advance(linkLimits.restMs / 2);
  await rested.offer(link("3"), "j");
  await clock.advance(linkLimits.restMs / 2);
  await settle();
  assert.deepEqual(removed, ["2"]);
  await clock.advance(linkLimits.restMs / 2);
  assert.deepEqual(removed, ["2", "3"]);
  assert.equal(clock.pending(), 0);
});

test("of too many the oldest go", async () => {
  const { rested, removed } = world();
  for (let id = 2; id < linkLimits.rested + 4; id++) await rested.offer(link(String(id)), "j");
  assert.deepEqual(removed, ["2", "3"]);
  rested.stop();
});
