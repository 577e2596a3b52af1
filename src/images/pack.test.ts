// What a command of a build has changed becomes a layer: what overlayfs has of it, with the owners that it has inside, and nothing more.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, lstatSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { after, before, test } from "node:test";
import { blobOf } from "./images.testing.ts";
import { unpackLayer } from "./unpack/layer.ts";
import type { PackPlan, PackResult } from "./unpack/pack.ts";
import { createSystem } from "./unpack/system.ts";

const skip = process.platform !== "linux" || process.getuid?.() !== 0 ? "not root on Linux" : false;
const program = fileURLToPath(new URL("./unpack/pack.ts", import.meta.url));
const paths = { pathBytes: 4_095, pathDepth: 128 };
const first = 1_879_048_192;
const long = `${"x".repeat(150)}/${"y".repeat(150)}`;
let folder: string;
before(() => {
  folder = mkdtempSync(join(tmpdir(), "ebb-pack-"));
});
after(() => rmSync(folder, { recursive: true, force: true }));

let count = 0;
function changed(script: string): string {
  const changes = join(folder, `changes-${++count}`);
  const run = `mkdir "$1" && cd "$1" && chown ${first}:${first} . && ${script}`;
  execFileSync("/bin/sh", ["-ec", run, "sh", changes]);
  return changes;
}

function pack(
  changes: string,
  bounds: Partial<PackPlan["bounds"]> = {},
): { readonly layer: string; readonly result: PackResult } {
  const layer = join(folder, `layer-${count}.tar`);
  const plan: PackPlan = {
    changes,
    layer,
    firstId: first,
    ids: 65_536,
    leftOut: ["etc/hosts", "root/.cache"],
    bounds: { entries: 100, bytes: 10_000_000, ...paths, ...bounds },
  };
  const argv = ["--experimental-ffi", "--disable-warning=ExperimentalWarning", program];
  const { stdout, stderr } = spawnSync(process.execPath, argv, { input: JSON.stringify(plan), encoding: "utf8" });
  assert.equal(stderr, "");
  return { layer, result: JSON.parse(stdout) as PackResult };
}

test(
  "what was written, removed, put in the place of something, and linked is in the layer, as it was",
  { skip },
  async () => {
    const changes = changed(`
    mkdir -p etc root/.cache ${long} opaque && echo mine > etc/hosts && echo x > root/.cache/x
    echo text > etc/text && chmod 6755 etc/text && ln etc/text twin && ln -s /etc/text link && mknod gone c 0 0 && mkfifo pipe
    truncate -s 3M holes && mknod device c 1 3 && echo fake > .wh.etc
    chown -R ${first}:${first + 5} etc link && chown ${first + 1000}:${first + 1000} holes && touch -d @1000000000 holes && touch -d @4000000000 twin`);
    createSystem().opaque(join(changes, "opaque"));
    const { layer, result } = pack(changes);
    assert.ok("digest" in result, JSON.stringify(result));
    const bytes = readFileSync(layer);
    assert.deepEqual([result.digest, result.bytes], [blobOf(bytes).digest, bytes.length]);
    const root = mkdtempSync(join(folder, "unpacked-"));
    const tar = (async function* () {
      yield bytes;
    })();
    await unpackLayer(tar, root, { entries: 100, bytes: 10_000_000 }, { ...paths, ids: 65_536 }, createSystem());
    const at = (path: string) => lstatSync(join(root, path));
    assert.equal(readFileSync(join(root, "etc/text"), "utf8"), "text\n");
    assert.deepEqual([at("etc/text").mode & 0o7777, at("etc/text").uid, at("etc/text").gid], [0o755, 0, 5]);
    assert.equal(at("etc/text").ino, at("twin").ino);
    assert.ok(at("link").isSymbolicLink() && at("pipe").isFIFO() && at(long).isDirectory());
    assert.ok(at("gone").isCharacterDevice() && at("gone").rdev === 0);
    assert.ok(createSystem().isOpaque(join(root, "opaque")) && !createSystem().isOpaque(join(root, "etc")));
    assert.deepEqual([at("holes").size, at("holes").uid, at("holes").mtimeMs], [3 * 1024 ** 2, 1000, 1e12]);
    // No reader of tars has another opinion of it.
    assert.equal(at("twin").mtimeMs, (2 ** 31 - 1) * 1_000);
    // Of somebody who was not inside: nobody.
    assert.equal(at("root").uid, 65_534);
    for (const path of ["etc/hosts", "root/.cache", "device", ".wh.etc"])
      assert.ok(!existsSync(join(root, path)), path);
  },
);

test("what is too much, too deep or no name is refused, and what is outside is not reached", { skip }, () => {
  const refused = (script: string, words: RegExp, bounds: Partial<PackPlan["bounds"]> = {}): void => {
    const { result } = pack(changed(script), bounds);
    assert.ok("refused" in result, JSON.stringify(result));
    assert.match(result.refused, words);
  };
  refused("for i in 1 2 3 4 5; do truncate -s 1G $i; done", /leaves files of more than 9 MiB/);
  // Names are written out, and twice where one is a link.
  refused(
    `mkdir -p ${long} && cd ${long} && touch a && for i in 1 2 3 4 5 6 7 8 9; do ln a $i; done`,
    /leaves files of/,
    {
      bytes: 5_000,
    },
  );
  refused("touch 1 2 3 4 5", /leaves too many files/, { entries: 5 });
  refused("mkdir -p $(printf 'd/%.0s' 1 2 3 4 5)", /deeper than 4 folders/, { pathDepth: 4 });
  refused("touch $(printf '\\377')", /is not UTF-8/);
  writeFileSync(join(folder, "secret"), "secret");
  const { layer, result } = pack(changed("ln -s ../secret file && ln -s .. folder"));
  assert.ok("digest" in result);
  assert.ok(
    !readFileSync(layer, "latin1").includes("secret\n") && !readFileSync(layer, "latin1").includes("folder/secret"),
  );
});
