// What a data directory cannot be: before any room starts, and in one sentence.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import type { DaemonConfig } from "../config.ts";
import { prepare } from "./prepare.ts";

const root = mkdtempSync(join(tmpdir(), "ebb-prepare-"));
after(() => rmSync(root, { recursive: true }));

const preparing = (dataDirectory: string) => (): void =>
  prepare({ dataDirectory, isolation: "none" } satisfies Partial<DaemonConfig> as DaemonConfig);

test("it is made, with what is above it, and others may pass through it", () => {
  preparing(join(root, "new", "data"))();
  assert.equal(statSync(join(root, "new", "data")).mode & 0o777, 0o711);
  preparing(join(root, "new", "data"))();
});

test("a file, or below one", () => {
  const file = join(root, "file");
  writeFileSync(file, "x");
  for (const path of [file, join(file, "data")])
    assert.throws(preparing(path), { code: "conflict", message: /cannot be used: it is not a directory; choose/ });
});

test("without root it names both ways on, and makes nothing", (t) => {
  t.mock.method(process as { getuid(): number }, "getuid", () => 65_534);
  const dataDirectory = join(root, "isolated");
  const config = { dataDirectory, isolation: "container" } satisfies Partial<DaemonConfig> as DaemonConfig;
  assert.throws(() => prepare(config), {
    code: "forbidden",
    message: /^[^\n]*needs root: sudo \.\/ebb up; [^\n]*\.\/ebb up --isolation none$/,
  });
  assert.equal(existsSync(dataDirectory), false);
});

const mayMount = process.platform === "linux" && process.getuid?.() === 0;
test("on a read-only file system", { skip: !mayMount && "needs root, to mount one" }, (t) => {
  const disk = mkdtempSync(join(root, "disk-"));
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m,ro", "tmpfs", disk]);
  t.after(() => execFileSync("umount", [disk]));
  for (const path of [join(disk, "new"), join(disk, "folder", "new")]) {
    assert.throws(preparing(path), { code: "conflict", message: /its file system is read-only; choose another/ });
    assert.equal(existsSync(path), false);
  }
});
