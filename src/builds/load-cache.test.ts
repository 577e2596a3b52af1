// Compiled code in its store: whose it is, what is refused, when it goes.

import assert from "node:assert/strict";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import { gunzipSync, gzipSync } from "node:zlib";
import { loadCacheLimits } from "#model/limits.ts";
import type { FunctionRevision } from "#model/workload.ts";
import { revisionOf } from "../../test/simulation/world.ts";
import { graceMs } from "./code-store.ts";
import { LoadCacheStore } from "./load-cache.ts";
import { readLoadCache } from "./load-cache-archive.ts";
import { createRemove } from "./remove.ts";
import { plainSpawner } from "./plain-run.testing.ts";

const directory = mkdtempSync(join(tmpdir(), "ebb-load-caches-"));
after(() => rmSync(directory, { recursive: true, force: true }));
let nowMs = Date.now();
let stores = 0;

interface Ground {
  readonly store: LoadCacheStore;
  readonly folder: string;
  readonly again: () => Promise<LoadCacheStore>;
  /** A revision of code with these files; "-> x" is a link to x. */
  readonly revision: (
    files: Record<string, string>,
    over?: Partial<FunctionRevision["settings"]>,
    project?: string,
  ) => FunctionRevision;
}

async function ground(): Promise<Ground> {
  const own = join(directory, String(++stores));
  const folder = join(own, "load-caches");
  mkdirSync(own);
  const codeOf = (digest: string): string => join(own, "code", digest);
  const open = async (): Promise<LoadCacheStore> => {
    const store = new LoadCacheStore({
      folder,
      codeOf,
      clock: { wallMs: () => nowMs },
      remove: createRemove(plainSpawner),
    });
    await store.start();
    return store;
  };
  let codes = 0;
  return {
    store: await open(),
    folder,
    again: open,
    revision: (files, over = {}, project = "default") => {
      const codeDigest = String(++codes).padStart(64, "0");
      for (const [path, text] of Object.entries(files)) {
        mkdirSync(dirname(join(codeOf(codeDigest), path)), { recursive: true });
        if (text.startsWith("-> ")) symlinkSync(text.slice(3), join(codeOf(codeDigest), path));
        else writeFileSync(join(codeOf(codeDigest), path), text);
      }
      return { ...revisionOf("hello", { entry: "index.mjs", ...over }, 1, project), codeDigest };
    },
  };
}

const much = Buffer.alloc(loadCacheLimits.fewestBytes, 1);
const nodeFile = ".ebb/cache/v26.1.0-x64-0a1b2c3d-1000/89abcdef";

function packed(...files: readonly (readonly [string, Uint8Array])[]): Uint8Array {
  return gzipSync(
    Buffer.concat(
      files.map(([name, contents]) => {
        const head = Buffer.alloc(6);
        head.writeUInt16BE(Buffer.byteLength(name), 0);
        head.writeUInt32BE(contents.length, 2);
        return Buffer.concat([head, Buffer.from(name), contents]);
      }),
    ),
  );
}

test("what was kept is found by the same code, entry and project alone", async () => {
  const { store, revision, again } = await ground();
  const one = revision({ "index.mjs": "" });
  assert.equal(store.of(one), null);
  assert.equal(await store.keep(one, "index.mjs", packed([nodeFile, much])), true);
  const name = store.of(one);
  assert.deepEqual(readFileSync(join(store.folderOf(name!), nodeFile)), much);
  const mode = (path: string): number => statSync(join(store.folderOf(name!), path)).mode & 0o7777;
  assert.deepEqual([mode("."), mode(".ebb"), mode(nodeFile)], [0o555, 0o555, 0o444]);
  const settings = { ...one.settings, entry: "other.mjs" };
  for (const other of [
    { ...one, project: "other" },
    { ...one, codeDigest: "f".repeat(64) },
    { ...one, settings },
    { ...one, settings: { ...one.settings, runtime: "node24" as const } },
  ])
    assert.equal(store.of(other), null);
  assert.equal((await again()).of(one), name, "after a restart too");
});

test("what is little is not kept, and the first that was kept stays", async () => {
  const { store, revision } = await ground();
  const source = "x".repeat(loadCacheLimits.fewestBytes);
  const one = revision({
    "index.mjs": "",
    "large.mjs": source,
    "bundle.mjs": "-> large.mjs",
    "out.mjs": "-> /proc/self/exe",
    "folder/x.mjs": source,
  });
  const little = packed([nodeFile, Buffer.alloc(100)]);
  for (const entry of ["index.mjs", "absent.mjs", "out.mjs", "../../load-caches", "folder", null])
    assert.equal(await store.keep(one, entry, little), false);
  // Of much source even little spares the start a look through it.
  assert.equal(await store.keep(one, "large.mjs", little), true);
  assert.equal(await store.keep(one, "bundle.mjs", little), true, "as where a bundle stands for its entry");
  assert.equal(store.of(one), null);
  await store.keep(one, "index.mjs", packed([nodeFile, much]));
  await store.keep(one, "index.mjs", packed([nodeFile, Buffer.alloc(much.length, 2)]));
  assert.deepEqual(readFileSync(join(store.folderOf(store.of(one)!), nodeFile)), much);
});

test("names that a runtime does not make are refused", async () => {
  const node = ["index.mjs", "../a", "/a", ".ebb/cache/a", ".ebb/cache/v26/../a", ".ebb/cache/v26-x/a/b", "", "\0"];
  for (const name of [...node, "__pycache__/large.cpython-311.pyc"])
    await assert.rejects(readLoadCache(packed([name, much]), "node26", 1), RangeError, name);
  const python = [
    "../__pycache__/a.cpython-311.pyc",
    "/__pycache__/a.cpython-311.pyc",
    "a//__pycache__/b.cpython-311.pyc",
  ];
  for (const name of [...python, "a.py", "__pycache__/a.pyc", "__pycache__/a/b.cpython-311.pyc", nodeFile])
    await assert.rejects(readLoadCache(packed([name, much]), "python3", 1), RangeError, name);
  const long = `${"d/".repeat(200)}__pycache__/a.cpython-311.pyc`;
  await assert.rejects(readLoadCache(packed([long, much]), "python3", 1), RangeError);
  const [file] = (await readLoadCache(packed(["a/__pycache__/b.c.cpython-311.pyc", much]), "python3", 1))!;
  assert.equal(file?.source, "a/b.c.py");
});

test("an archive that is cut short, says things twice, or unpacks to too much is refused", async () => {
  const whole = gunzipSync(packed([nodeFile, much], [`${nodeFile}0`, much]));
  for (const bytes of [
    packed([nodeFile, much], [nodeFile, much]),
    gzipSync(much),
    gzipSync(Buffer.alloc(loadCacheLimits.unpackedBytes + 1)),
    Buffer.alloc(loadCacheLimits.packedBytes + 1),
    Buffer.from(packed([nodeFile, much])).subarray(0, 40),
    gzipSync(whole.subarray(0, -5)),
    gzipSync(Buffer.concat([whole, Buffer.alloc(3)])),
  ])
    await assert.rejects(readLoadCache(bytes, "node26", 1), RangeError);
  const many = Array.from(
    { length: loadCacheLimits.files + 1 },
    (_, i) => [`.ebb/cache/v26-x/${i.toString(16)}`, Buffer.alloc(8)] as const,
  );
  await assert.rejects(readLoadCache(packed(...many), "node26", 1), RangeError);
});

test("a layer never hides what is of the code", async () => {
  const { store, revision, folder } = await ground();
  const pyc = (path: string): Uint8Array => packed([path, much]);
  const python = { runtime: "python3", entry: "main.py" } as const;
  const code = revision(
    { "main.py": "", "pkg/a.py": "", "real/b.py": "", linked: "-> real", __pycache__: "a file" },
    python,
  );
  for (const path of ["linked/__pycache__/b.cpython-311.pyc", "__pycache__/main.cpython-311.pyc"])
    await assert.rejects(store.keep(code, "main.py", pyc(path)), /hide a file/);
  await assert.rejects(store.keep(code, "main.py", pyc("pkg/__pycache__/no.cpython-311.pyc")), /the code has not/);
  await assert.rejects(store.keep(code, "main.py", pyc("gone/__pycache__/a.cpython-311.pyc")), /the code has not/);
  const shadowed = revision({ "index.mjs": "", ".ebb": "a file" });
  await assert.rejects(store.keep(shadowed, "index.mjs", packed([nodeFile, much])), /hide a file/);
  assert.deepEqual(readdirSync(folder), []);
  assert.equal(await store.keep(code, "main.py", pyc("pkg/__pycache__/a.cpython-311.pyc")), true);
});

test("it goes with the code that nobody names, unless it is young, and with its project at once", async () => {
  const { store, revision, folder } = await ground();
  const [kept, young, forgotten] = [revision({}), revision({}), revision({}, {}, "other")];
  for (const one of [kept, young, forgotten]) await store.keep(one, "index.mjs", packed([nodeFile, much]));
  assert.equal(await store.collect(new Set([kept.codeDigest])), 0, "the others may be on their way");
  await store.forget("other");
  assert.deepEqual([store.of(forgotten), readdirSync(folder)], [null, ["default"]]);
  nowMs += graceMs + 1_000;
  assert.equal(await store.collect(new Set([kept.codeDigest])), 1);
  assert.deepEqual([store.of(kept) !== null, store.of(young)], [true, null]);
  assert.equal(readdirSync(join(folder, "default")).length, 1);
});

test("what a crash left half written is gone after a start", async () => {
  const { store, revision, folder, again } = await ground();
  await store.keep(revision({}), "index.mjs", packed([nodeFile, much]));
  mkdirSync(join(folder, "default", ".0123", "x"), { recursive: true });
  mkdirSync(join(folder, ".0123", "x"), { recursive: true });
  await again();
  assert.deepEqual(readdirSync(folder), ["default"]);
  assert.equal(readdirSync(join(folder, "default")).length, 1);
});
