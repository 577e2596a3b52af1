// The times of a layer: read of one, given to another that is the same but for them.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { blobOf, tarOf } from "./images.testing.ts";
import type { Dated, DatePlan } from "./unpack/date.ts";

const program = fileURLToPath(new URL("./unpack/date.ts", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "ebb-date-"));
after(() => rmSync(folder, { recursive: true }));

let count = 0;
function dated(blob: Buffer, earlier?: string): Dated & Pick<DatePlan, "layer" | "times"> {
  const [from, layer] = [join(folder, `${++count}.blob`), join(folder, `${count}.tar`)];
  writeFileSync(from, blob);
  const times = earlier ?? join(folder, `${count}.times`);
  const plan: DatePlan = { blob: from, layer, times, given: earlier !== undefined };
  const { stdout, stderr } = spawnSync(process.execPath, [program], { input: JSON.stringify(plan), encoding: "utf8" });
  assert.equal(stderr, "");
  return { ...(JSON.parse(stdout) as Dated), layer, times };
}

const long = `${"x".repeat(120)}/${"y".repeat(120)}`;
const layer = (seconds: number, content = "content"): Promise<Buffer> =>
  tarOf([
    { name: "app/", type: "directory", mtime: new Date(seconds * 1_000) },
    { name: "app/file", content, mode: 0o755, mtime: new Date((seconds + 5) * 1_000) },
    // What it has in it looks like a head with a time.
    { name: "app/inner.tar", content: `${"x".repeat(136)}00000000001\0${"x".repeat(2_000)}`, mtime: new Date(1_000) },
    { name: long, content: "", mtime: new Date(seconds * 1_000) },
    { name: "link", type: "symlink", linkname: "app/file", mtime: new Date(seconds * 1_000) },
  ]);

test("two layers that are the same but for their times are told as the same, and the one becomes the other by its times", async () => {
  const [early, late] = [await layer(1_000_000_000), await layer(1_700_000_000)];
  const one = dated(early);
  // As buildah hands it on.
  const other = dated(gzipSync(late));
  assert.deepEqual([one.digest, other.digest], [blobOf(early).digest, blobOf(late).digest]);
  assert.deepEqual([readFileSync(one.layer), readFileSync(other.layer)], [early, late]);
  assert.equal(one.content, other.content);
  const again = dated(readFileSync(other.layer), one.times);
  assert.deepEqual([again.digest, again.content], [one.digest, one.content]);
  assert.deepEqual(readFileSync(again.layer), early);
  assert.notEqual(dated(await layer(1_000_000_000, "Content")).content, one.content);
});
