// The order that a waiting shell is given: whoever does not read it holds up nobody but himself.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, rmSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { writeOrder } from "./program.ts";

let folder: string;
before(() => {
  folder = mkdtempSync(join(tmpdir(), "ebb-order-"));
});
after(() => rmSync(folder, { recursive: true }));

function fifo(name: string): string {
  const path = join(folder, name);
  assert.equal(spawnSync("mkfifo", [path]).status, 0);
  return path;
}

const large = `${"x".repeat(1_000_000)}\n`;

test("it comes whole, however large it is", async () => {
  const path = fifo("whole");
  const [read] = await Promise.all([readFile(path, "utf8"), begun(path)]);
  assert.equal(read, large);
});

/** As soon as somebody reads. */
async function begun(path: string): Promise<void> {
  for (;;) {
    try {
      return await writeOrder(path, large, () => {});
    } catch (error) {
      assert.ok(error instanceof Error && "code" in error && error.code === "ENXIO", String(error));
    }
    await new Promise(setImmediate);
  }
}

test(
  "one that is not read keeps no thread of the daemon's, and its end ends the writing",
  { timeout: 20_000 },
  async () => {
    const paths = Array.from({ length: 8 }, (_, i) => fifo(`unread-${i}`));
    const held = paths.map((path) => openSync(path, constants.O_RDWR));
    let begun = 0;
    const writing = paths.map((path) => writeOrder(path, large, () => void (begun += 1)));
    try {
      while (begun < paths.length) await new Promise(setImmediate);
      await new Promise(setImmediate);
      assert.ok((await stat(folder)).isDirectory());
    } finally {
      for (const fd of held) closeSync(fd);
    }
    await Promise.all(writing);
  },
);

test("nobody who waits is told before the first byte", async () => {
  await assert.rejects(
    writeOrder(fifo("nobody"), large, () => assert.fail("there is nobody")),
    { code: "ENXIO" },
  );
});
