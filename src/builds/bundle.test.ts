// A function that asks for it becomes one file with its dependencies: what runs then, what stays as files, what is refused and where.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { systemClock } from "#model/clock.ts";
import { EbbError } from "#model/errors.ts";
import { packed } from "./archives.testing.ts";
import { createBuilds } from "./builds.ts";
import type { Builds } from "./door.ts";
import { plainRun, plainSpawner, toolbox } from "./plain-run.testing.ts";

const directory = mkdtempSync(join(tmpdir(), "ebb-bundle-"));
let builds: Builds;

before(async () => {
  builds = createBuilds({
    directory,
    run: plainRun,
    spawner: plainSpawner,
    tell: (fact) => assert.fail(JSON.stringify(fact)),
    clock: systemClock,
    toolbox,
  });
  await builds.start();
});
after(async () => {
  await builds.stop();
  rmSync(directory, { recursive: true, force: true });
});

async function bundled(files: Record<string, string>, entry = "index.mjs"): Promise<string> {
  const upload = await builds.receive(packed(files));
  try {
    return builds.folderOf((await builds.build(upload, ".", entry)).digest);
  } finally {
    await upload.discard();
  }
}

async function refusal(files: Record<string, string>, entry = "index.mjs"): Promise<string> {
  const error: unknown = await bundled(files, entry).then(
    () => assert.fail("it was not refused"),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof EbbError && error.code === "deploy_refused", String(error));
  return error.message;
}

/** What `expression` says of the entry's namespace `m`, in a Node of its own that has no other file of the code but those left. */
function load(folder: string, expression: string, entry = "index.mjs"): string {
  const program = `import(${JSON.stringify(`file://${folder}/${entry}`)}).then(async (m) => console.log(await (${expression})))`;
  const ran = spawnSync(process.execPath, ["--enable-source-maps", "-e", program], { encoding: "utf8" });
  return ran.status === 0 ? ran.stdout.trim() : ran.stderr;
}

function bundleOf(folder: string, name = "index.bundle.cjs"): string {
  return readFileSync(join(folder, name), "utf8");
}

const pkg = (name: string, more: object = {}): string => JSON.stringify({ name, version: "1.0.0", ...more });

test("the entry is one file with what it imports, under its old name", async () => {
  const folder = await bundled({
    "index.mjs": 'import { a } from "./lib/a.mjs"; import one from "one"; export const handle = () => a + one.value;',
    "lib/a.mjs": 'export const a = "a";',
    "node_modules/one/package.json": pkg("one"),
    "node_modules/one/index.js": 'exports.value = require("./value.js");',
    "node_modules/one/value.js": 'module.exports = "1";',
  });
  const code = bundleOf(folder);
  assert.match(code, /exports = "1"/);
  assert.doesNotMatch(code, /require\("one"\)/);
  assert.equal(load(folder, "m.handle() + m.handle.name"), "a1handle");
});

test("TypeScript is bundled from its source, and errors show its lines", async () => {
  const folder = await bundled(
    {
      "index.ts": 'import { fail } from "./lib/fail";\n\nexport const handle = (): string => fail(1 as number);\n',
      "lib/fail.ts":
        "interface A { a: number }\n\nexport function fail(a: A | number): string {\n  throw new Error(`no ${a}`);\n}\n",
    },
    "index.ts",
  );
  const told = load(folder, "m.handle()", "index.ts");
  assert.match(told, /Error: no 1/);
  assert.match(told, /lib\/fail\.ts:4:/);
  assert.match(told, /index\.ts:3:/);
});

test("of a package's ES modules only what is used is taken, unless something requires it too, or wants its default", async () => {
  const shaken = {
    "node_modules/tree/package.json": pkg("tree", { main: "main.js", module: "module.js", sideEffects: false }),
    "node_modules/tree/main.js": 'exports.used = "used"; exports.unused = "not used";',
    "node_modules/tree/module.js": 'export const used = "used"; export const unused = "not used";',
  };
  const index = 'import { used } from "tree"; export const handle = () => used;';
  const alone = await bundled({ ...shaken, "index.mjs": index });
  assert.doesNotMatch(bundleOf(alone), /not used/);
  assert.equal(load(alone, "m.handle()"), "used");
  const both = await bundled({
    ...shaken,
    "index.mjs": `import other from "other"; ${index} export const same = () => other === used;`,
    "node_modules/other/package.json": pkg("other"),
    "node_modules/other/index.js": 'module.exports = require("tree").used;',
  });
  assert.match(bundleOf(both), /\.used = "used"/);
  assert.doesNotMatch(bundleOf(both), /module\.js/);
  assert.equal(load(both, "m.same()"), "true");
});

test("a default import gets what Node would give it", async () => {
  const folder = await bundled({
    "index.mjs": 'import both from "both"; export const handle = () => JSON.stringify(both);',
    "node_modules/both/package.json": pkg("both", { main: "main.js", module: "module.js", sideEffects: false }),
    "node_modules/both/main.js":
      'Object.defineProperty(exports, "__esModule", { value: true }); exports.default = "d";',
    "node_modules/both/module.js": 'export default "d";',
  });
  assert.equal(load(folder, "m.handle()"), '{"default":"d"}');
});

test("a package that depends on where its files are stays as its files, the nearest of that name", async () => {
  const folder = await bundled({
    "index.mjs":
      'import outer from "outer"; import native from "native"; export const handle = () => outer + " " + native;',
    "node_modules/outer/package.json": pkg("outer"),
    "node_modules/outer/index.js": 'module.exports = "outer " + require("placed");',
    "node_modules/outer/node_modules/placed/package.json": pkg("placed"),
    "node_modules/outer/node_modules/placed/index.js":
      'module.exports = require("fs").readFileSync(__dirname + "/text.txt", "utf8");',
    "node_modules/outer/node_modules/placed/text.txt": "inner",
    "node_modules/placed/package.json": pkg("placed"),
    "node_modules/placed/index.js": 'module.exports = "the wrong one";',
    "node_modules/native/package.json": pkg("native"),
    "node_modules/native/index.js": 'module.exports = "native, in its file";',
    "node_modules/native/build/x.node": "not really",
  });
  const code = bundleOf(folder);
  assert.match(code, /require\("\.\/node_modules\/outer\/node_modules\/placed\/index\.js"\)/);
  assert.doesNotMatch(code, /in its file/);
  assert.equal(load(folder, "m.handle()"), "outer inner native, in its file");
});

test("what awaits at its top level becomes an ES module, and can still require", async () => {
  const folder = await bundled({
    "index.mjs":
      'import one from "one"; const text = await Promise.resolve("awaited "); export const handle = () => text + one;',
    "node_modules/one/package.json": pkg("one"),
    "node_modules/one/index.js": 'module.exports = require("node:path").basename("/a/one");',
  });
  assert.ok(existsSync(join(folder, "index.bundle.mjs")));
  assert.equal(load(folder, "m.handle()"), "awaited one");
});

test("import.meta and __dirname of the entry's own folder mean what they did", async () => {
  const folder = await bundled(
    {
      "src/index.mjs": `import fs from "node:fs"; import { here } from "./here.cjs";
export const handle = () => fs.readFileSync(new URL("./text.txt", import.meta.url), "utf8") + (here === import.meta.dirname);`,
      "src/here.cjs": "exports.here = __dirname;",
      "src/text.txt": "text ",
    },
    "src/index.mjs",
  );
  assert.equal(load(folder, "m.handle()", "src/index.mjs"), "text true");
});

test("own files elsewhere that depend on their place are refused with their line", async () => {
  const files = {
    "index.mjs": 'import { text } from "./lib/text.mjs"; export const handle = () => text;',
    "lib/text.mjs":
      'import fs from "node:fs";\n\nexport const text = fs.readFileSync(new URL("./a.txt", import.meta.url), "utf8");\n',
  };
  assert.match(
    await refusal(files),
    /^lib\/text\.mjs:3:\d+: import\.meta\S* depends on where this file is, which a bundle changes/,
  );
});

test("what cannot be found or read is told with its line", async () => {
  assert.match(
    await refusal({ "index.mjs": '\nimport gone from "gone"; export default gone;' }),
    /^index\.mjs:2:\d+: .*"gone"/,
  );
  assert.match(await refusal({ "index.mjs": "export const = 1;" }), /^index\.mjs:1:/);
  assert.match(await refusal({ "index.mjs": "", "index.bundle.cjs": "" }), /index\.bundle\.cjs.* rename it/);
});

test("a package that is optional may be missing", async () => {
  const folder = await bundled({
    "index.mjs": 'import one from "one"; export const handle = () => one;',
    "node_modules/one/package.json": pkg("one"),
    "node_modules/one/index.js":
      'try { module.exports = require("gone"); } catch (error) { module.exports = error.code; }',
  });
  assert.equal(load(folder, "m.handle()"), "MODULE_NOT_FOUND");
});

test("the same source with and without is two codes", async () => {
  const files = { "index.mjs": "export const handle = () => 1;" };
  const upload = await builds.receive(packed(files));
  const plain = await builds.build(upload, ".");
  const one = await builds.build(upload, ".", "index.mjs");
  await upload.discard();
  assert.notEqual(plain.digest, one.digest);
  assert.equal(existsSync(join(builds.folderOf(plain.digest), "index.bundle.cjs")), false);
});
