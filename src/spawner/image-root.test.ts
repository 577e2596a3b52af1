// Roots of images: layers with shifted ids, a bounded layer above them, and nothing that leads out of them.

import assert from "node:assert/strict";
import {
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { makeImageRoot } from "./image-root.ts";
import { createSyscalls, mountsBelow, type Syscalls } from "./syscalls.ts";
import { UserNamespaces } from "./user-namespaces.ts";

const first = 0x7100_0000;
const namespaces = new UserNamespaces();

describe(
  "the root of an image",
  { skip: process.platform === "linux" && process.getuid?.() === 0 ? false : "not root on Linux" },
  () => {
    const system = createSyscalls();
    let folder: string;
    beforeEach(() => {
      folder = mkdtempSync(join(tmpdir(), "ebb-image-root-"));
    });
    afterEach(() => {
      for (const point of mountsBelow(folder)) system.unmount(point);
      rmSync(folder, { recursive: true });
    });

    /** Paths to contents; "-> x" is a link, "owner:text" in the way of chown. */
    function layer(name: string, files: Readonly<Record<string, string>>): string {
      const root = join(folder, name);
      for (const [path, text] of Object.entries(files)) {
        mkdirSync(join(root, path, ".."), { recursive: true });
        if (text.startsWith("-> ")) symlinkSync(text.slice(3), join(root, path));
        else writeFileSync(join(root, path), text);
      }
      return root;
    }

    function make(layers: readonly string[], bytes = 1 << 20, by: Syscalls = system): string {
      makeImageRoot(
        {
          kind: "image",
          layers,
          ids: { first, count: 65_536 },
          bytes,
          folder: join(folder, "image"),
          root: "root",
          folders: ["proc", "dev", "etc"],
          workingDirectory: "/srv/app",
          files: [{ path: "etc/resolv.conf", text: "nameserver 192.0.2.1\n" }],
        },
        by,
        namespaces,
      );
      return join(folder, "image", "root");
    }

    test("files have the sandbox's ids, and stay as they are in the layers", () => {
      const low = layer("low", { "bin/program": "old", "home/mine": "mine" });
      chownSync(join(low, "home/mine"), 1000, 1001);
      const high = layer("high", { "bin/program": "new" });
      const root = make([low, high]);
      const ownerOf = (path: string): number[] => [lstatSync(path).uid, lstatSync(path).gid];
      assert.deepEqual(ownerOf(join(root, "home/mine")), [first + 1000, first + 1001]);
      assert.deepEqual(ownerOf(root), [first, first]);
      assert.equal(readFileSync(join(root, "bin/program"), "utf8"), "new");
      writeFileSync(join(root, "home/mine"), "changed");
      assert.deepEqual(ownerOf(join(root, "home/mine")), [first + 1000, first + 1001]);
      rmSync(join(root, "bin/program"));
      assert.equal(readFileSync(join(low, "home/mine"), "utf8"), "mine");
      assert.deepEqual(ownerOf(join(low, "home/mine")), [1000, 1001]);
      assert.equal(readFileSync(join(high, "bin/program"), "utf8"), "new");
    });

    test("nobody of the machine but root and the sandbox may look into it", () => {
      const root = make([layer("only", { file: "x" })]);
      const { mode, uid, gid } = lstatSync(join(root, ".."));
      assert.deepEqual([mode & 0o777, uid, gid], [0o700, first, first]);
    });

    test("what is written is bounded", () => {
      const root = make([layer("only", { file: "x" })], 64 * 1024);
      assert.throws(() => writeFileSync(join(root, "big"), Buffer.alloc(1 << 20)), { code: "ENOSPC" });
    });

    test("its mounts show no path of the machine, are nosuid and nodev, and go with one folder", () => {
      make([layer("a", { a: "" }), layer("b", { b: "" })]);
      const table = readFileSync("/proc/self/mountinfo", "utf8").split("\n");
      const line = table.find((text) => text.includes(`${folder}/image/root `)) ?? "";
      assert.match(line, / rw,nosuid,nodev,\S* - overlay ebb rw,lowerdir=m1:m0,upperdir=upper,workdir=work/);
      assert.equal(mountsBelow(folder).length, 2, "the views of the layers have gone");
      for (const point of mountsBelow(folder)) system.unmount(point);
      assert.deepEqual(readdirSync(join(folder, "image")), []);
    });

    test("on an older kernel a layer is mounted while the root is made", () => {
      const mounted: string[][] = [];
      const older: Syscalls = {
        ...system,
        writableOverlay: (base, layers, target) => {
          if (layers.lower.some((name) => lstatSync(join(base, name)).isSymbolicLink())) throw new Error("EINVAL");
          mounted.push(mountsBelow(base).map((path) => basename(path)));
          system.writableOverlay(base, layers, target);
        },
      };
      for (const words of ["first", "second"]) {
        const root = make([layer("below", { own: "below" }), layer("above", { own: words })], undefined, older);
        assert.equal(readFileSync(join(root, "own"), "utf8"), words);
        assert.equal(lstatSync(join(root, "own")).uid, first);
        assert.equal(mountsBelow(folder).length, 2);
        for (const point of mountsBelow(folder)) system.unmount(point);
        rmSync(join(folder, "image"), { recursive: true });
      }
      assert.deepEqual(mounted, [
        ["m1", "m0", "image"],
        ["m1", "m0", "image"],
      ]);
    });

    test("what ebb mounts on or writes is made where it is missing, and a file's link is replaced, not followed", () => {
      const canary = join(folder, "canary");
      writeFileSync(canary, "untouched");
      const root = make([layer("only", { "etc/resolv.conf": `-> ${canary}` })]);
      assert.equal(readFileSync(canary, "utf8"), "untouched");
      assert.ok(lstatSync(join(root, "etc/resolv.conf")).isFile());
      for (const path of ["proc", "dev", "srv/app"]) assert.ok(lstatSync(join(root, path)).isDirectory());
      assert.equal(lstatSync(join(root, "proc")).uid, first);
    });

    for (const [path, to] of [
      ["proc", "/"],
      ["dev", "/dev"],
      ["etc", "../../.."],
    ] as const)
      test(`a link in the place of /${path} is refused`, () => {
        assert.throws(
          () => make([layer("only", { [path]: `-> ${to}` })]),
          new RegExp(`the image's /${path} is no folder`),
        );
      });

    test("a folder in the place of a file that ebb writes is refused", () => {
      assert.throws(
        () => make([layer("only", { "etc/resolv.conf/x": "" })]),
        /the image's \/etc\/resolv.conf is no file/,
      );
    });

    test("a link on the way to the working directory is left to the image", () => {
      const outside = join(folder, "outside");
      mkdirSync(outside);
      make([layer("only", { srv: `-> ${outside}` })]);
      assert.equal(existsSync(join(outside, "app")), false);
    });

    test("a hundred layers are as good as one", () => {
      const layers = Array.from({ length: 100 }, (_, index) => layer(`l${index}`, { [`f${index}`]: String(index) }));
      const root = make(layers);
      assert.equal(readFileSync(join(root, "f0"), "utf8"), "0");
      assert.equal(readFileSync(join(root, "f99"), "utf8"), "99");
    });
  },
);
