// The long form: archives of random entries and flipped bytes for two minutes; whatever they say, nothing outside the folder changes.

import assert from "node:assert/strict";
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, sep } from "node:path";
import { Readable } from "node:stream";
import { after, test } from "node:test";
import { gzipSync } from "node:zlib";
import * as fc from "fast-check";
import { EbbError } from "#model/errors.ts";
import { deployLimits } from "#model/limits.ts";
import { end, entry, pax, sealed } from "./archives.testing.ts";
import type { Tree } from "./tree.ts";
import { unpack } from "./unpack.ts";

const base = mkdtempSync(join(tmpdir(), "ebb-fuzz-"));
after(() => rmSync(base, { recursive: true, force: true }));

const part = fc.constantFrom("a", "b", "c", "..", ".", "", "l");
const path = fc.array(part, { minLength: 1, maxLength: 5 }).map((parts) => parts.join("/"));
const raw = fc.record({
  name: path,
  flag: fc.constantFrom("0", "0", "0", "1", "2", "2", "5", "3", "L", "K", "g", "x"),
  link: path,
  body: fc.string({ maxLength: 40 }),
});
const longer = fc
  .record({ path, linkpath: path })
  .map((value) => pax(["path", value.path], ["linkpath", value.linkpath]));
const flip = fc.record({ at: fc.nat(20_000), to: fc.nat(255), seal: fc.boolean() });

function bytesOf(
  entries: ReadonlyArray<Parameters<typeof entry>[0]>,
  flips: ReadonlyArray<{ at: number; to: number; seal: boolean }>,
): Buffer {
  const bytes = Buffer.concat([...entries.map(entry), end]);
  for (const { at, to, seal } of flips) {
    bytes[at % bytes.length] = to;
    // Sealed again, so that the header's other fields are reached too.
    const block = Math.floor((at % bytes.length) / 512) * 512;
    if (seal) sealed(bytes.subarray(block, block + 512));
  }
  return bytes;
}

/** What is on disk is what the tree says, and no link leads out of it. */
function check(folder: string, tree: Tree): void {
  let seen = 0;
  const open = ["."];
  for (let at = open.pop(); at !== undefined; at = open.pop())
    for (const name of readdirSync(join(folder, at))) {
      const path: string = at === "." ? name : `${at}/${name}`;
      const found = lstatSync(join(folder, path));
      const kind = found.isDirectory()
        ? "folder"
        : found.isSymbolicLink()
          ? "symlink"
          : found.isFile()
            ? "file"
            : "other";
      assert.equal(kind, tree.get(path)?.kind, path);
      if (kind === "folder") open.push(path);
      if (kind === "symlink") {
        let real = folder;
        try {
          real = realpathSync(join(folder, path));
        } catch {
          // leads nowhere
        }
        assert.ok(real === folder || real.startsWith(folder + sep), `${path} leads to ${real}`);
      }
      seen += 1;
    }
  assert.equal(seen, tree.size);
}

test(
  "no archive changes anything outside its folder, and what is unpacked is what the tree says",
  { timeout: 300_000 },
  async () => {
    let count = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(raw, raw, raw, longer), { maxLength: 12 }),
        fc.array(flip, { maxLength: 3 }),
        async (entries, flips) => {
          const around = join(base, String(count++));
          const folder = join(around, "x", "inside");
          mkdirSync(folder, { recursive: true });
          writeFileSync(join(around, "canary"), "alive");
          symlinkSync("..", join(around, "x", "l"));
          let tree: Tree | null = null;
          try {
            tree = await unpack(
              Readable.from([gzipSync(bytesOf(entries, flips), { level: 1 })], { objectMode: false }),
              folder,
              { ...deployLimits, unpackedBytes: 100_000 },
            );
          } catch (error) {
            assert.ok(error instanceof EbbError && error.code === "invalid_archive", String(error));
          }
          if (tree) check(folder, tree);
          assert.equal(readFileSync(join(around, "canary"), "utf8"), "alive");
          assert.deepEqual(
            [readdirSync(around).toSorted(), readdirSync(join(around, "x")).toSorted()],
            [
              ["canary", "x"],
              ["inside", "l"],
            ],
          );
          rmSync(around, { recursive: true });
        },
      ),
      { numRuns: 50_000, interruptAfterTimeLimit: 120_000 },
    );
  },
);
