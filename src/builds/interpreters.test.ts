// Interpreters that come from outside: who is told, what is shared, and what of a package is taken. npm's part in it is tried by the
// runtimes' own tests, where none was fetched before.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once, EventEmitter } from "node:events";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import type { ExecResult } from "#spawner/door.ts";
import { packed } from "./archives.testing.ts";
import { createInterpreters } from "./interpreters.ts";

const absent: ExecResult = { code: 1, stdout: "", stderr: "npm error 404" };

/** An npm that is asked, and answers when the test says so. */
async function stand(t: TestContext) {
  const folder = await mkdtemp(join(tmpdir(), "ebb-interpreters-"));
  t.after(() => rm(folder, { recursive: true }));
  await mkdir(join(folder, "bin"));
  await writeFile(join(folder, "bin", "npm-cli.js"), "");
  await symlink("npm-cli.js", join(folder, "bin", "npm"));
  const asked = new EventEmitter();
  const directory = join(folder, "kept");
  const { node, provide } = createInterpreters({
    directory,
    node: "/the/pinned/node",
    path: join(folder, "bin"),
    npmEnvironment: {},
    spawner: { exec: () => new Promise((answer) => asked.emit("npm", answer)) },
  });
  const npm = async (): Promise<(result: ExecResult) => void> => (await once(asked, "npm"))[0];
  return { directory, npm, node, provide };
}

test("the pinned Node and other languages are there", async (t) => {
  const { node, provide } = await stand(t);
  assert.equal(await node("node26"), "/the/pinned/node");
  for (const runtime of ["node26", "python3", "custom"] as const) await provide(runtime, assert.fail);
});

test("a version that was fetched before is not told again", async (t) => {
  const { directory, node, provide } = await stand(t);
  await mkdir(directory);
  await writeFile(join(directory, "node-24.21.0"), "");
  await provide("node24", assert.fail);
  assert.equal(await node("node24"), join(directory, "node-24.21.0"));
});

test("everybody who waits for a fetch is told of it; one that fails leaves nothing, and is tried again", async (t) => {
  const { directory, npm, provide } = await stand(t);
  const told: string[] = [];
  const fetch = (): Promise<void> => provide("node24", (what) => told.push(what));
  const first = npm();
  const both = Promise.allSettled([fetch(), fetch()]);
  (await first)(absent);
  for (const one of await both)
    assert.match(
      String(one.status === "rejected" && one.reason),
      /The runtime node24 cannot be had: npm pack .* failed: npm error 404/,
    );
  assert.deepEqual(told, ["Node 24.21.0", "Node 24.21.0"]);
  assert.deepEqual(await readdir(directory), []);
  const second = npm();
  const again = assert.rejects(fetch());
  (await second)(absent);
  await again;
});

test("of the package that is pinned its binary is kept, and of any other nothing", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "ebb-interpreters-"));
  t.after(() => rm(folder, { recursive: true }));
  await mkdir(join(folder, "bin"));
  await writeFile(join(folder, "bin", "npm-cli.js"), "");
  await symlink("npm-cli.js", join(folder, "bin", "npm"));
  const archive = packed({ "package/package.json": "{}", "package/bin/node": "a binary", "package/bin/npm": "x" });
  const bytes = Buffer.concat(await archive.toArray());
  const integrity = `sha512-${createHash("sha512").update(bytes).digest("base64")}`;
  const asked: string[] = [];
  const directory = join(folder, "kept");
  const { node } = createInterpreters({
    directory,
    node: "/the/pinned/node",
    path: join(folder, "bin"),
    npmEnvironment: {},
    spawner: {
      exec: async (argv) => {
        const at = argv.indexOf("pack");
        asked.push(argv[at + 1]!);
        await writeFile(join(argv[at + 3]!, "node.tgz"), bytes);
        return { code: 0, stdout: "", stderr: "" };
      },
    },
    packages: {
      node22: { version: "22.0.1", integrity: { [process.arch]: integrity } },
      node24: { version: "24.0.1", integrity: { [process.arch]: integrity.replace("sha512-", "sha512-x") } },
    },
  });
  const path = await node("node22");
  assert.equal(path, join(directory, "node-22.0.1"));
  assert.equal(await readFile(path, "utf8"), "a binary");
  assert.equal((await stat(path)).mode & 0o777, 0o755);
  await assert.rejects(node("node24"), /the package of Node 24\.0\.1 is not the one that is pinned \(sha512-/);
  assert.deepEqual(asked, [`node-linux-${process.arch}@22.0.1`, `node-linux-${process.arch}@24.0.1`]);
  assert.deepEqual(await readdir(directory), ["node-22.0.1"]);
});
