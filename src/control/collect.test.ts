// What the collector leaves where it is.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createCollector } from "./collect.ts";

test("what runs is kept with what is named, also what was named last while the store was asked", async () => {
  const inUse = new Set(["code of a removed function that drains"]);
  const collections: Array<readonly [string, readonly string[]]> = [];
  const over = Promise.withResolvers<void>();
  const collect = (room: string) => async (kept: ReadonlySet<string>) => {
    collections.push([room, [...kept].toSorted()]);
    if (room === "images") over.resolve();
    return 0;
  };
  const collector = createCollector({
    clock: {
      wallMs: () => 0,
      monotonicUs: () => 0,
      after: (_, run) => {
        setImmediate(run);
        return () => undefined;
      },
    },
    builds: {
      receive: () => assert.fail(),
      build: () => assert.fail(),
      loadCaches: { forget: () => assert.fail() },
      collect: collect("builds"),
    },
    images: { fetch: () => assert.fail(), forget: () => assert.fail(), collect: collect("images") },
    store: {
      apply: () => assert.fail(),
      audit: () => assert.fail(),
      revisions: () => assert.fail(),
      runs: () => assert.fail(),
      contentDigests: async () => {
        inUse.add("image of a container that is removed meanwhile");
        return new Set(["code that is named"]);
      },
    },
    fleet: { check: () => assert.fail(), prove: () => assert.fail(), contentInUse: () => inUse },
    tell: ({ kind }) => assert.fail(kind),
  });
  collector.soon();
  await over.promise;
  collector.stop();
  const kept = [
    "code of a removed function that drains",
    "code that is named",
    "image of a container that is removed meanwhile",
  ];
  assert.deepEqual(collections, [
    ["builds", kept],
    ["images", kept],
  ]);
});
