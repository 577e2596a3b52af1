// Layers that mean harm: each is refused by name, or what is harmful in it is left out. Nothing outside its folder is touched.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { spawnSync } from "node:child_process";
import { existsSync, lstatSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Image } from "./door.ts";
import {
  asked,
  blobOf,
  type Entry,
  failure,
  imageOf,
  type Layer,
  layerOf,
  Room,
  tarOf,
  writeLayout,
} from "./images.testing.ts";
import { type Unpacked, unpackLayer } from "./unpack/layer.ts";
import { LayerRefused } from "./unpack/layer-tar.ts";
import { createSystem } from "./unpack/system.ts";

const skip = process.platform !== "linux" || process.getuid?.() !== 0 ? "not root on Linux" : false;

const bounds = { pathBytes: 4_095, pathDepth: 128, ids: 65_536 };
let root: string;
before(() => {
  root = mkdtempSync(join(tmpdir(), "ebb-layers-"));
});
after(() => rmSync(root, { recursive: true, force: true }));

/** Without the lock that the program has besides: what is refused here never needed it. */
async function unpack(
  entries: readonly Entry[] | Buffer,
  left = { entries: 1_000, bytes: 1_000_000 },
): Promise<{ readonly folder: string; readonly unpacked: Unpacked }> {
  const tar = Buffer.isBuffer(entries) ? entries : await tarOf(entries);
  const folder = mkdtempSync(join(root, "layer-"));
  async function* pieces(): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < tar.length; at += 1_000) yield tar.subarray(at, at + 1_000);
  }
  return { folder, unpacked: await unpackLayer(pieces(), folder, left, bounds, createSystem()) };
}

test("folders that only stand in the names of others count as well", { skip }, async () => {
  const entries = Array.from({ length: 10 }, (_, i) => ({ name: `${"f/".repeat(20)}${i}/g/h` }));
  assert.equal((await unpack(entries, { entries: 50, bytes: 0 })).unpacked.entries, 20 + 10 * 3);
  await assert.rejects(unpack(entries, { entries: 49, bytes: 0 }), /the image has too many files/);
});

describe("a hostile layer", { skip }, () => {
  const watched = ["/etc/passwd", "/etc/hostname", "/etc/crontab"].filter((path) => existsSync(path));
  const seen = (): string[] =>
    watched.map((path) => createHash("sha256").update(readFileSync(path)).digest("hex") + lstatSync(path).mode);
  const untouched = seen();
  after(() => assert.deepEqual(seen(), untouched));

  const load = async (...layers: ReadonlyArray<readonly Entry[] | Buffer>): Promise<{ layers: string[] }> => ({
    layers: (await Promise.all(layers.map((entries) => unpack(entries)))).map(({ folder }) => folder),
  });
  const refused = (entries: readonly Entry[] | Buffer, words: RegExp): Promise<void> =>
    assert.rejects(unpack(entries), (error) => {
      assert.ok(error instanceof LayerRefused, String(error));
      assert.match(error.message, words);
      return true;
    });
  const link = (name: string, linkname: string): Entry => ({ name, type: "symlink", linkname });
  const hard = (name: string, linkname: string): Entry => ({ name, type: "link", linkname });

  test("that writes through a link, within it or out of it, is refused", async () => {
    await refused([link("a", "/etc"), { name: "a/passwd", content: "x" }], /"a\/passwd" in a layer goes through "a"/);
    await refused([link("a", ".."), { name: "a/../x", content: "x" }], /leads out of it/);
    await refused(
      [link("a", "b"), { name: "b", type: "directory" }, { name: "a/c/d", content: "x" }],
      /goes through "a"/,
    );
  });

  test("that puts a file where it had a link writes the file, and not what the link leads to", async () => {
    const { layers } = await load([link("passwd", "/etc/passwd"), { name: "passwd", content: "mine" }]);
    assert.ok(lstatSync(join(layers[0]!, "passwd")).isFile());
    assert.equal(readFileSync(join(layers[0]!, "passwd"), "utf8"), "mine");
  });

  test("with names that lead out is refused, with absolute ones it stays below its root", async () => {
    await refused([{ name: "../../etc/crontab", content: "x" }], /"..\/..\/etc\/crontab" in a layer leads out of it/);
    await refused([{ name: "a/../../x", content: "x" }], /leads out/);
    const { layers } = await load([{ name: "/etc/crontab", content: "inside" }]);
    assert.equal(readFileSync(join(layers[0]!, "etc/crontab"), "utf8"), "inside");
  });

  test("with links for /proc, /sys, /dev or /etc is refused; what it has below the mounted ones is left out", async () => {
    for (const top of ["proc", "sys", "dev", "etc"])
      await refused([link(top, "/root")], new RegExp(`/${top} of the image is a link; it must be a folder`));
    await refused([{ name: "dev", content: "x" }], /\/dev of the image is a file/);
    const { layers } = await load(
      [
        { name: "dev", type: "directory" },
        link("dev/null", "/etc/passwd"),
        link("proc/self", "/x"),
        { name: "sys/kernel/x", content: "x" },
        link("run", "/etc"),
        link("tmp", "/proc"),
      ],
      [{ name: ".wh.dev" }, { name: ".wh.proc" }, { name: "kept" }],
    );
    assert.deepEqual(readdirSync(layers[0]!), ["dev"]);
    assert.deepEqual(readdirSync(join(layers[0]!, "dev")), []);
    assert.deepEqual(readdirSync(layers[1]!), ["kept"]);
  });

  test("with device nodes, set-id bits and capabilities has its files without them", async () => {
    const capable: Entry = {
      name: "capable",
      mode: 0o755,
      content: "x",
      pax: { "SCHILY.xattr.security.capability": "\u0001\u0000" },
    };
    const { layers } = await load([
      { name: "disk", type: "block-device", devmajor: 8, devminor: 0 },
      { name: "mem", type: "character-device", devmajor: 1, devminor: 1 },
      // What overlayfs takes for "gone".
      { name: "whiteout", type: "character-device", devmajor: 0, devminor: 0 },
      { name: "setuid", mode: 0o4755, content: "x" },
      { name: "setgid", mode: 0o2755, content: "x" },
      hard("linked", "setuid"),
      capable,
      { name: "pipe", type: "fifo", mode: 0o600 },
      { name: "folder", type: "directory", mode: 0o6755 },
    ]);
    const folder = layers[0]!;
    assert.deepEqual(readdirSync(folder).toSorted(), ["capable", "folder", "linked", "pipe", "setgid", "setuid"]);
    const modes = ["setuid", "setgid", "linked", "folder"].map((name) => lstatSync(join(folder, name)).mode & 0o7777);
    assert.deepEqual(modes, [0o755, 0o755, 0o755, 0o2755]);
    assert.ok(lstatSync(join(folder, "pipe")).isFIFO());
    const listing = "import os,sys; print(os.listxattr(sys.argv[1]))";
    const { stdout } = spawnSync("/usr/bin/python3", ["-c", listing, join(folder, "capable")]);
    assert.equal(stdout.toString().trim(), "[]");
  });

  test("with hard links that lead out, to nothing or to folders is refused", async () => {
    await refused(
      [hard("x", "/etc/passwd")],
      /"x" in a layer is a hard link to "\/etc\/passwd", which is no file of it/,
    );
    await refused([hard("x", "../../etc/passwd")], /leads out/);
    await refused([{ name: "d", type: "directory" }, hard("x", "d")], /no file of it/);
    await refused([hard("x", "x")], /no file of it/);
    const { layers } = await load([link("l", "/etc/shadow"), hard("x", "l")]);
    assert.equal(readlinkSync(join(layers[0]!, "x")), "/etc/shadow");
  });

  test("that stands twice as a folder and a file, or takes away what cannot be, is refused", async () => {
    await refused(
      [
        { name: "a", type: "directory" },
        { name: "a", content: "x" },
      ],
      /as a folder and as something else/,
    );
    await refused(
      [
        { name: "a", content: "x" },
        { name: "a", type: "directory" },
      ],
      /as a folder and as something else/,
    );
    await refused([{ name: "a/.wh..", content: "" }], /takes away what cannot be/);
    await refused([{ name: ".wh.", content: "" }], /takes away what cannot be/);
  });

  test("with owners that no sandbox has belongs to nobody", async () => {
    const { layers } = await load([{ name: "x", uid: 1_000_620_000, gid: 65_536 }]);
    const { uid, gid } = lstatSync(join(layers[0]!, "x"));
    assert.deepEqual([uid, gid], [65_534, 65_534]);
  });

  test("that is cut short, damaged, or no tar at all is refused", async () => {
    const tar = await tarOf([{ name: "x", content: "x".repeat(10_000) }]);
    await refused(tar.subarray(0, 3_000), /cut short/);
    await refused(Buffer.from(tar).fill(0xff, 0, 50), /damaged/);
    await refused(Buffer.alloc(2_000, "no tar"), /no tar archive/);
  });

  test("with names too long, too deep or not UTF-8 is refused", async () => {
    await refused([{ name: "d/".repeat(200) + "x" }], /deeper than 128 folders/);
    await refused([{ name: "n".repeat(300) }], /more than 255 bytes/);
    await refused([{ name: `${"d/".repeat(3_000)}x` }], /longer than 4095 bytes/);
    const tar = await tarOf([{ name: "xy" }]);
    tar[1] = 0xff;
    let sum = 8 * 32;
    for (let i = 0; i < 512; i++) if (i < 148 || i >= 156) sum += tar[i]!;
    tar.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
    await refused(tar, /is not UTF-8/);
  });
});

test("a bomb ends where its image's allowance does, by bytes and by count", { skip }, async () => {
  const zeros = { name: "zeros", content: Buffer.alloc(100_000) };
  const large = new LayerRefused("the image is too large when it is unpacked");
  await assert.rejects(unpack([zeros], { entries: 10, bytes: 99_999 }), large);
  const many = Array.from({ length: 11 }, (_, index) => ({ name: `f${index}` }));
  await assert.rejects(unpack(many, { entries: 10, bytes: 100 }), new LayerRefused("the image has too many files"));
  const { unpacked } = await unpack([zeros], { entries: 1, bytes: 100_000 });
  assert.deepEqual(unpacked, { entries: 1, bytes: 100_000, defused: 0 });
});

test("what a layer is refused for is told with its image's name, and nothing of it stays", { skip }, async () => {
  const room = await new Room().start();
  const load = async (name: string, layers: readonly Layer[]): Promise<Image> =>
    room.images.fetch({ kind: "layout", path: writeLayout(join(room.folder, name), imageOf(layers)) }, asked());
  const refused = (name: string, layers: readonly Layer[], words: RegExp): Promise<void> =>
    assert.rejects(load(name, layers), failure("image_refused", words));
  const fine = await layerOf([{ name: "fine", mode: 0o4755, content: "x".repeat(10_000) }]);
  await refused("bad", [fine, await layerOf([{ name: "../x" }])], /^bad: "..\/x" in a layer leads out of it$/);
  // Its compressed stream ends early, and nothing says so but itself.
  const half = { ...fine, ...blobOf(fine.bytes.subarray(0, fine.bytes.length - 30)) };
  await refused("half", [half], /^half: a layer cannot be decompressed: it is damaged, or cut short$/);
  const folder = join(room.data, "images");
  assert.deepEqual(readdirSync(join(folder, "staging")), []);
  assert.deepEqual(readdirSync(join(folder, "layers")), []);
  const { layers } = await load("good", [fine]);
  assert.equal(lstatSync(join(layers[0]!, "fine")).mode & 0o7777, 0o755);
  await room.stop();
});
