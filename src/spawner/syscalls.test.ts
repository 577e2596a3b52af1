// The system calls by node:ffi, and the same by small programs.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { createSyscalls, mountsBelow } from "./syscalls.ts";

const skip = process.platform !== "linux" || process.getuid?.() !== 0 ? "not root on Linux" : false;

for (const ffi of [true, false]) {
  test(`${ffi ? "node:ffi" : "programs"}: FIFOs, mounts and listeners are made and undone`, { skip }, async () => {
    const folder = mkdtempSync(join(tmpdir(), "ebb-syscalls-"));
    const at = (name: string): string => join(folder, name);
    const system = createSyscalls({ ffi });
    assert.equal(system.by, ffi ? "ffi" : "programs");
    for (const name of ["source", "other", "bound", "shared", "memory", "over"]) mkdirSync(at(name));
    writeFileSync(at("source/file"), "kept");
    try {
      system.makeFifo(at("fifo"));
      assert.ok(statSync(at("fifo")).isFIFO());
      assert.equal(statSync(at("fifo")).mode & 0o777, 0o600);
      assert.throws(() => system.makeFifo(at("fifo")), /EEXIST|File exists/);
      system.bind(at("source"), at("bound"), true);
      assert.throws(() => writeFileSync(at("bound/file"), "x"), { code: "EROFS" });
      assert.throws(() => system.bind(at("nowhere"), at("bound"), true), /ENOENT|special device|No such file/);
      system.share(at("shared"));
      system.tmpfs(at("memory"), 65_536, "0755");
      assert.throws(() => writeFileSync(at("memory/big"), Buffer.alloc(1 << 20)), { code: "ENOSPC" });
      system.overlay(folder, ["source", "other"], at("over"));
      assert.equal(readFileSync(at("over/file"), "utf8"), "kept");
      const table = readFileSync("/proc/self/mountinfo", "utf8");
      const line = (name: string): string => table.split("\n").find((text) => text.split(" ")[4] === at(name)) ?? "";
      assert.match(line("bound"), /ro,nosuid,nodev/);
      assert.match(line("memory"), /rw,nosuid,nodev/);
      assert.match(line("shared"), / shared:/);
      assert.match(line("over"), / ro,nosuid,nodev.*lowerdir=source:other/);
      const listening = await system.listen(at("socket"));
      assert.ok(statSync(at("socket")).isSocket());
      listening.close();
      assert.equal(mountsBelow(folder).length, 4);
      for (const point of mountsBelow(folder)) assert.ok(system.unmount(point));
      assert.deepEqual(mountsBelow(folder), []);
      assert.equal(system.unmount(at("bound")), false);
      assert.equal(system.unmount(at("nowhere")), false);
    } finally {
      for (const point of mountsBelow(folder)) system.unmount(point);
      rmSync(folder, { recursive: true });
    }
  });
}

test("mounts are found below folders of whatever name, and below no folder of a longer one", { skip }, () => {
  const folder = mkdtempSync(join(tmpdir(), "ebb-syscalls-"));
  const system = createSyscalls({ ffi: true });
  const names = ["plain", "plain-longer", "with space", "back\\slash", "h#sh", "ä", "tab\tline\nend"];
  try {
    for (const name of names) {
      mkdirSync(join(folder, name, "on"), { recursive: true });
      system.tmpfs(join(folder, name, "on"), 65_536, "0755");
    }
    for (const name of names) assert.deepEqual(mountsBelow(join(folder, name)), [join(folder, name, "on")]);
    assert.deepEqual(mountsBelow(join(folder, "pla")), []);
    assert.deepEqual(mountsBelow(join(folder, "other")), []);
  } finally {
    for (const point of mountsBelow(folder)) system.unmount(point);
    rmSync(folder, { recursive: true });
  }
});
