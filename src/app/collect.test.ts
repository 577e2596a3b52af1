// What deploy sends from a folder, seen where it arrives: collected, streamed, and unpacked by the builds room.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createHash } from "node:crypto";
import { after, test } from "node:test";
import { unpack } from "#builds/unpack.ts";
import { EbbError } from "#model/errors.ts";
import { collect, type Collected } from "./collect.ts";
import { isSent } from "./walk.ts";

const base = mkdtempSync(join(tmpdir(), "ebb-collect-"));
after(() => rmSync(base, { recursive: true, force: true }));
let folders = 0;

/** Contents; "-> x": a link; ends with "/": an empty folder. */
function folderOf(files: Record<string, string>): string {
  const folder = join(base, `f${folders++}`, "app");
  mkdirSync(folder, { recursive: true });
  for (const [path, text] of Object.entries(files)) {
    const at = join(folder, path);
    mkdirSync(path.endsWith("/") ? at : dirname(at), { recursive: true });
    if (path.endsWith("/")) continue;
    if (text.startsWith("-> ")) symlinkSync(text.slice(3), at);
    else writeFileSync(at, text);
  }
  return folder;
}

/** Path to content ("-> x" for links), as it arrives. */
async function sent(collected: Collected): Promise<Record<string, string>> {
  const folder = mkdtempSync(join(base, "arrived-"));
  const tree = await unpack(collected.archive, folder);
  const arrived: Record<string, string> = {};
  for (const [path, entry] of [...tree].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    if (entry.kind === "folder") arrived[`${path}/`] = "";
    else if (entry.kind === "symlink") arrived[path] = `-> ${readlinkSync(join(folder, path))}`;
    else arrived[path] = readFileSync(join(folder, path), "utf8");
  }
  return arrived;
}

async function refused(path: string): Promise<EbbError> {
  const error: unknown = await collect(path).then(
    () => null,
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof EbbError, String(error));
  return error;
}

const bytesOf = async (folder: string): Promise<string> => {
  const hash = createHash("sha256");
  for await (const chunk of (await collect(folder)).archive) hash.update(chunk as Uint8Array);
  return hash.digest("hex");
};

test("a plain folder is sent without history, ebb's data, .env files and what .ebbignore names", async () => {
  const folder = folderOf({
    "index.js": "1",
    ".git/HEAD": "x",
    ".ebb/y": "x",
    ".env": "S=1",
    ".env.local": "S=1",
    "sub/.env": "S=1",
    "sub/a.js": "2",
    ".ebbignore": "*.log\n/tmp/\n!keep.log\n",
    "x.log": "",
    "sub/y.log": "",
    "sub/keep.log": "3",
    "tmp/z": "",
    "sub/tmp/z": "4",
    "empty/": "",
    "deep/.ebbignore": "z\n!q.log",
    "deep/z": "",
    "deep/q.log": "5",
  });
  const collected = await collect(folder);
  assert.deepEqual([collected.kind, collected.app, collected.base, collected.notes], ["folder", null, "app", []]);
  assert.deepEqual(await sent(collected), {
    "index.js": "1",
    "empty/": "",
    "sub/": "",
    "sub/a.js": "2",
    "sub/keep.log": "3",
    "sub/tmp/": "",
    "sub/tmp/z": "4",
    "deep/": "",
    "deep/q.log": "5",
  });
});

test("who watches a folder is told of each path what a deploy would do with it, as the rules are now", async () => {
  const folder = folderOf({
    ".env": "",
    ".git/HEAD": "",
    ".ebbignore": "*.log\n/tmp/\n",
    "x.log": "",
    "sub/.env.local": "",
    "sub/tmp/a.js": "",
    "tmp/a.js": "",
    "deep/.ebbignore": "!q.log\n",
    "deep/q.log": "",
  });
  const paths = [".env", ".git", ".git/HEAD", "x.log", "sub/.env.local", "tmp", "tmp/a.js", "tmp/gone/b.js"];
  const yes = ["sub", "sub/tmp", "sub/tmp/a.js", "deep/q.log", "gone.js", "gone/a.js"];
  for (const path of paths) assert.equal(await isSent(folder, path), false, path);
  for (const path of yes) assert.equal(await isSent(folder, path), true, path);
  writeFileSync(join(folder, ".ebbignore"), "gone.js\n");
  assert.deepEqual([await isSent(folder, "x.log"), await isSent(folder, "gone.js")], [true, false]);
});

test("an app sends ebb.yaml and the sources it names, nothing else", async () => {
  const folder = folderOf({
    "ebb.yaml": "functions: { a: { source: ./a }, b: { source: x/b.js }, again: { source: a } }",
    "a/index.js": "1",
    "a/sub/y.js": "2",
    "x/b.js": "3",
    "x/c.js": "no",
    "secret.txt": "no",
    ".ebbignore": "sub",
  });
  const collected = await collect(folder);
  assert.deepEqual(
    [collected.kind, collected.app?.functions.map(({ name }) => name), collected.files],
    ["app", ["a", "b", "again"], 3],
  );
  assert.deepEqual(Object.keys(await sent(collected)), ["a/", "a/index.js", "ebb.yaml", "x/", "x/b.js"]);
  assert.equal((await collect(join(folder, "ebb.yaml"))).kind, "app");
});

test("one file is a function too", async () => {
  const collected = await collect(join(folderOf({ "hello.ts": "x" }), "hello.ts"));
  assert.deepEqual([collected.kind, collected.base, await sent(collected)], ["file", "hello.ts", { "hello.ts": "x" }]);
});

test("links inside stay links, relative and the shortest way", async () => {
  const folder = folderOf({
    "lib/a.js": "1",
    "b.js": "-> lib/a.js",
    "lib/up": "-> ../lib",
    "over.js": "-> ../app/lib/a.js",
    "gone.js": "-> nowhere.js",
  });
  symlinkSync(join(folder, "lib/a.js"), join(folder, "absolute.js"));
  const collected = await collect(folder);
  assert.deepEqual(await sent(collected), {
    "absolute.js": "-> lib/a.js",
    "b.js": "-> lib/a.js",
    "lib/": "",
    "lib/a.js": "1",
    "lib/up": "-> .",
    "over.js": "-> lib/a.js",
  });
  assert.deepEqual(collected.notes, ["gone.js: left out, it is a link to nowhere.js, which is not there"]);
});

test("packages of a workspace are copied to where their links are, those that need each other once", async () => {
  const root = folderOf({
    "package.json": `{ "workspaces": ["packages/*", "fn"] }`,
    "fn/index.js": "1",
    "packages/one/package.json": "{}",
    "packages/one/index.js": "one",
    "packages/one/.env": "S=1",
    "packages/one/node_modules/two": "-> ../../two",
    "packages/two/package.json": "{}",
    "packages/two/node_modules/one": "-> ../../one",
    "fn/node_modules/one": "-> ../../packages/one",
  });
  const collected = await collect(join(root, "fn"));
  const arrived = await sent(collected);
  assert.equal(arrived["node_modules/one/index.js"], "one");
  assert.equal(arrived["node_modules/one/node_modules/two/package.json"], "{}");
  assert.equal(arrived["node_modules/one/node_modules/two/node_modules/one"], "-> ../../..");
  assert.ok(!Object.keys(arrived).some((path) => path.includes(".env")));
  assert.match(collected.notes[0]!, /^node_modules\/one: copied from .*packages\/one$/);
});

test("a link out of the project is left out and named: a folder from elsewhere cannot send your other files", async () => {
  const outside = folderOf({ id_rsa: "key", "pkg/package.json": "{}", "pkg/x.js": "1", "nopkg/secret": "key" });
  const folder = folderOf({ "index.js": "1" });
  symlinkSync(join(outside, "id_rsa"), join(folder, "data.txt"));
  symlinkSync(outside, join(folder, "data"));
  mkdirSync(join(folder, "node_modules"));
  symlinkSync(join(outside, "pkg"), join(folder, "node_modules/linked"));
  symlinkSync(join(outside, "nopkg"), join(folder, "node_modules/nopkg"));
  const collected = await collect(folder);
  assert.deepEqual(Object.keys(await sent(collected)), [
    "index.js",
    "node_modules/",
    "node_modules/linked/",
    "node_modules/linked/package.json",
    "node_modules/linked/x.js",
  ]);
  assert.equal(collected.notes.filter((note) => / left out, it is a link to .*, outside of /.test(note)).length, 3);
});

test("a link to a folder above is refused, not followed for ever", async () => {
  const root = folderOf({ ".git/HEAD": "", "fn/index.js": "1", "fn/loop": "-> ../../app" });
  const error = await refused(join(root, "fn"));
  assert.deepEqual([error.code, /a folder that holds it/.test(error.message)], ["bad_request", true]);
});

test("sockets and pipes are left out and named", async () => {
  const folder = folderOf({ "index.js": "1" });
  assert.equal(spawnSync("mkfifo", [join(folder, "pipe")]).status, 0);
  const collected = await collect(folder);
  assert.deepEqual(
    [await sent(collected), collected.notes],
    [{ "index.js": "1" }, ["pipe: left out, it is neither a file nor a folder nor a link"]],
  );
});

test("dependencies without their packages are noted, with what to do", async () => {
  const folder = folderOf({
    "ebb.yaml": "functions: { thumb: { source: ./thumb } }",
    "thumb/index.js": "",
    "thumb/package.json": `{ "dependencies": { "sharp": "1", "have": "1" } }`,
    "thumb/node_modules/have/index.js": "",
  });
  assert.deepEqual((await collect(folder)).notes, [
    "thumb: node_modules has no sharp. Run npm install in ./thumb, then deploy.",
  ]);
});

test("the same files make the same bytes, whenever they were written; the x bit counts", async () => {
  const files = { "b.js": "2", "a.js": "1", "s/c.js": "x".repeat(300_000) };
  const one = folderOf(files);
  const two = folderOf(Object.fromEntries(Object.entries(files).toReversed()));
  utimesSync(join(two, "a.js"), 1, 1);
  const first = await bytesOf(one);
  assert.equal(await bytesOf(two), first);
  chmodSync(join(two, "a.js"), 0o755);
  assert.notEqual(await bytesOf(two), first);
});

test("a file that changes while it is sent fails the stream with its name", async () => {
  const folder = folderOf({ "index.js": "12345" });
  const collected = await collect(folder);
  writeFileSync(join(folder, "index.js"), "123");
  await assert.rejects(collected.archive.toArray(), /index\.js changed while it was being sent; deploy again/);
});

test("a large file is sent without a listener more for each pause of its reader", async (t) => {
  const folder = folderOf({ "big.bin": "x".repeat(5_000_000) });
  const warnings: Error[] = [];
  const warned = (warning: Error): void => void warnings.push(warning);
  process.on("warning", warned);
  t.after(() => process.off("warning", warned));
  await bytesOf(folder);
  assert.deepEqual(warnings, []);
});

test("an archive that nobody reads to its end lets go of its files", async () => {
  const folder = folderOf({ "big.bin": "x".repeat(5_000_000) });
  const { archive } = await collect(folder);
  for await (const chunk of archive) {
    assert.ok((chunk as Uint8Array).length > 0);
    break;
  }
  const fds = () =>
    readdirSync("/proc/self/fd").filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).startsWith(folder);
      } catch {
        return false;
      }
    });
  for (let turns = 0; fds().length > 0 && turns < 1_000; turns++) await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(fds(), []);
});

test("what cannot be deployed gets one sentence", async () => {
  assert.equal((await refused(join(base, "nowhere"))).code, "not_found");
  assert.match((await refused(folderOf({}))).message, /^there is nothing to deploy in /);
  const wrong = await refused(folderOf({ "ebb.yaml": "functions: { a: { source: ./a, memory: 5 } }\njobs: {}" }));
  assert.deepEqual(
    [wrong.code, wrong.message],
    [
      "invalid_app",
      "ebb.yaml:1: functions.a.memory: unknown key; did you mean memoryMb?\nebb.yaml:2: jobs: expected at least one job, found none",
    ],
  );
  assert.match(
    (await refused(folderOf({ "ebb.yaml": "functions: { a: { source: ./a } }" }))).message,
    /^a: there is nothing at a$/,
  );
  assert.match(
    (await refused(folderOf({ "ebb.yaml": "functions: { a: { source: ./a } }", a: "-> b", "b/x.js": "" }))).message,
    /a is a link; name what it leads to/,
  );
  assert.ok(lstatSync(base).isDirectory());
});
