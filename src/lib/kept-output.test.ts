// Kept output: what one writes the other reads, once, from where he says, and within bounds.

import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { KeptReader, KeptWriter } from "./kept-output.ts";

let folder: string;
let nowMs = 0;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "ebb-kept-"));
  nowMs = 1_000;
});
afterEach(() => rmSync(folder, { recursive: true }));

const bounds = { segmentBytes: 200, segments: 3 };

function reader(): { read: () => string[]; kept: KeptReader } {
  let said: string[] = [];
  const kept = new KeptReader({
    folder,
    data: (stream, bytes, timeMs, at) => void said.push(`${stream} ${at} ${timeMs} ${bytes.toString()}`),
    lost: (bytes) => void said.push(`lost ${bytes}`),
  });
  const read = (): string[] => {
    said = [];
    while (kept.read());
    return said;
  };
  return { read, kept };
}

test("what is written is read in its order, with its time and its place in its stream", () => {
  const writer = new KeptWriter(folder, bounds, () => nowMs);
  const { read, kept } = reader();
  assert.deepEqual(read(), []);
  writer.write(1, Buffer.from("one"));
  nowMs = 2_000;
  writer.write(2, Buffer.from("err"));
  writer.write(1, Buffer.from("two"));
  assert.deepEqual(read(), ["1 0 1000 one", "2 0 2000 err", "1 3 2000 two"]);
  writer.write(1, Buffer.alloc(150, "x"));
  assert.deepEqual(read(), [`1 6 2000 ${"x".repeat(150)}`]);
  assert.equal(readdirSync(folder).length, 2);
  kept.drop(kept.segment);
  assert.deepEqual(readdirSync(folder), ["log.0000000002"]);
  // Whoever comes later knows the places all the same.
  writer.write(2, Buffer.from("!"));
  assert.deepEqual(reader().read(), [`1 6 2000 ${"x".repeat(150)}`, "2 3 2000 !"]);
  writer.close();
  kept.close();
});

test("what nobody reads is bounded, and what was lost is said where it is missing", () => {
  const writer = new KeptWriter(folder, bounds, () => nowMs);
  for (let n = 0; n < 10; n++) writer.write(1, Buffer.alloc(150, "x"));
  assert.equal(readdirSync(folder).length, 3);
  const { read, kept } = reader();
  assert.equal(read().length, 3);
  kept.drop(kept.segment);
  nowMs += 1_000;
  writer.write(1, Buffer.from("again"));
  assert.deepEqual(read(), ["lost 1050", "1 450 2000 again"]);
  writer.close();
  kept.close();
});

test("a folder that is gone loses what is written, and nothing else", () => {
  const writer = new KeptWriter(join(folder, "gone"), bounds, () => nowMs);
  writer.write(1, Buffer.from("nobody hears it"));
  writer.close();
});
