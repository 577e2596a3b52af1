// What a fetch may leave on the disk while it comes.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { systemClock } from "#model/clock.ts";
import { imageLimits } from "#model/limits.ts";
import { failure } from "./images.testing.ts";
import { Reader } from "./reader.ts";
import { hasRoom } from "./room-guard.ts";

test("an archive of very many empty files is ended: nobody lists them all", async () => {
  const folder = mkdtempSync(join(tmpdir(), "ebb-bounds-"));
  const staging = { folder, layout: join(folder, "layout"), scratch: join(folder, "scratch"), authFile: null };
  mkdirSync(join(staging.layout, "deep"), { recursive: true });
  mkdirSync(staging.scratch);
  const exec = async (_: readonly string[], { signal }: { signal?: AbortSignal } = {}): Promise<never> => {
    for (let i = 0; i < imageLimits.stagedFiles; i++) writeFileSync(join(staging.layout, "deep", String(i)), "");
    await new Promise((resolve) => signal!.addEventListener("abort", resolve));
    throw signal!.reason;
  };
  const reader = new Reader({ spawner: { exec }, clock: systemClock, uid: 1, room: hasRoom });
  const run = { staging, subject: { name: "x.tar", registry: null }, signal: new AbortController().signal };
  // What holds the process is the fetch in the room.
  const held = setTimeout(() => {}, 20_000);
  try {
    const extracted = reader.extract("x.tar", run, { bytesMax: 1e9, bytes: () => {} });
    await assert.rejects(extracted, failure("image_refused", /x\.tar has more files/));
  } finally {
    clearTimeout(held);
    rmSync(folder, { recursive: true });
  }
});
