// TypeScript of a deploy: what runs after it, in which module format, and what is said when it cannot be read.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { EbbError } from "#model/errors.ts";
import { systemClock } from "#model/clock.ts";
import type { Builds } from "./door.ts";
import { createBuilds } from "./builds.ts";
import { plainRun, plainSpawner, toolbox } from "./plain-run.testing.ts";
import { packed } from "./archives.testing.ts";

const directory = mkdtempSync(join(tmpdir(), "ebb-transpile-"));
let runs = 0;
let builds: Builds;

const run = (spec: Parameters<typeof plainRun>[0]) => {
  runs += 1;
  return plainRun(spec);
};

before(async () => {
  builds = createBuilds({
    directory,
    run,
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

async function deploy(files: Record<string, string>): Promise<{ folder: string; transpiled: number }> {
  const upload = await builds.receive(packed(files));
  try {
    const built = await builds.build(upload, ".");
    return { folder: builds.folderOf(built.digest), transpiled: built.transpiled };
  } finally {
    await upload.discard();
  }
}

/** Imports a file of the deployed code in a Node of its own, and answers what `expression` says of its namespace `m`. */
function load(folder: string, file: string, expression: string): string {
  const program = `import(${JSON.stringify(`file://${folder}/${file}`)}).then((m) => console.log(${expression}))`;
  const ran = spawnSync(process.execPath, ["--enable-source-maps", "-e", program], { encoding: "utf8" });
  return ran.status === 0 ? ran.stdout.trim() : ran.stderr;
}

async function refusal(files: Record<string, string>): Promise<string> {
  try {
    await deploy(files);
  } catch (error) {
    assert.ok(error instanceof EbbError, String(error));
    assert.equal(error.code, "deploy_refused");
    return error.message;
  }
  return assert.fail("it was not refused");
}

test("enums, decorators, parameter properties, JSX and namespaces run", async () => {
  const { folder, transpiled } = await deploy({
    "tsconfig.json": `{ // a comment\n "extends": "./base.json", }`,
    "base.json": `{}`,
    "tsconfig.base.json": `{ "compilerOptions": { "experimentalDecorators": true, "jsx": "react", "jsxFactory": "h" } }`,
    "sub/tsconfig.json": `{ "extends": "../tsconfig.base.json" }`,
    "sub/index.tsx": `
      enum Colour { Red = "red" }
      namespace N { export const two = 2 }
      const names: string[] = [];
      function log(target: object, name: string) { names.push(name) }
      function h(tag: string) { return "<" + tag + "/>" }
      class C { constructor(private readonly n: number) {} @log get(): number { return this.n } }
      export const handle = (): string => [Colour.Red, N.two, new C(7).get(), names, <div />].join(" ");`,
  });
  assert.equal(transpiled, 1);
  assert.equal(load(folder, "sub/index.tsx", "m.handle()"), "red 2 7 get <div/>");
  assert.equal(load(folder, "sub/index.js", "m.handle()"), "red 2 7 get <div/>");
});

test("relative imports work as they are written: with .ts, with .js, without an ending, of a folder, static and dynamic", async () => {
  const { folder } = await deploy({
    "index.ts": `
      import { a } from "./lib/a.ts"; import { b } from "./lib/b.js"; import { c } from "./lib/c"; import { d } from "./lib";
      export const handle = async () => [a, b, c, d, (await import("./lib/a.ts")).a, (await import("./lib/" + "e.ts")).e].join("");`,
    "lib/a.ts": "export const a: string = 'a'",
    "lib/b.ts": "export const b: string = 'b'",
    "lib/c.ts": "export const c: string = 'c'",
    "lib/index.ts": "export const d: string = 'd'",
    "lib/e.ts": "export const e: string = 'e'",
  });
  assert.equal(load(folder, "index.ts", "await m.handle()".replace("await ", "typeof ")), "object");
  const program = `import("file://${folder}/index.ts").then((m) => m.handle()).then(console.log)`;
  const ran = spawnSync(process.execPath, ["-e", program], { encoding: "utf8" });
  assert.equal(ran.stdout.trim(), "abcdae", ran.stderr);
});

test("a package of type module, and .mts, stay ES modules; .cts and a package of type commonjs become CommonJS", async () => {
  const what = "export const kind = typeof require === 'function' && typeof module === 'object' ? 'cjs' : 'esm'";
  const { folder } = await deploy({
    "package.json": `{ "type": "module" }`,
    "a.ts": `${what}; export const url = import.meta.url`,
    "b.mts": what,
    "c.cts": what,
    "old/package.json": `{ "type": "commonjs" }`,
    "old/d.ts": what,
    "old/e.mts": what,
  });
  const kinds = ["a.ts", "b.mts", "c.cts", "old/d.ts", "old/e.mts"].map((file) => load(folder, file, "m.kind"));
  assert.deepEqual(kinds, ["esm", "esm", "cjs", "cjs", "esm"]);
});

test("a package without a type is CommonJS unless something in it can only be an ES module", async () => {
  const plain = await deploy({
    "a.ts": "export const dir = __dirname.length > 0; export default () => 1",
    "b.ts": "import f from './a'; export const n = f()",
  });
  assert.equal(load(plain.folder, "a.ts", "m.dir"), "true");
  assert.equal(load(plain.folder, "b.ts", "m.n"), "1");
  const awaiting = await deploy({
    "a.ts": "export const v: number = await Promise.resolve(5)",
    "b.ts": "import { v } from './a.ts'; export const w = v + 1",
  });
  assert.equal(load(awaiting.folder, "b.ts", "m.w"), "6");
  const meta = await deploy({ "a.ts": "export const here: string = import.meta.url" });
  assert.match(load(meta.folder, "a.ts", "m.here"), /^file:.*a\.js$/);
  const mixed = await deploy({
    "index.mjs": "import f from './lib.ts'; export const n = f()",
    "lib.ts": "export default (): number => 4",
  });
  assert.equal(load(mixed.folder, "index.mjs", "m.n"), "4");
});

test("an error at run time shows the TypeScript line", async () => {
  const { folder } = await deploy({
    "index.ts":
      "interface X { y: number }\n\nenum E { A }\nexport function handle(x: X) {\n  throw new Error('at ' + E.A)\n}\n",
  });
  assert.match(load(folder, "index.ts", "m.handle()"), /index\.ts:5:9/);
  const map = JSON.parse(readFileSync(join(folder, "index.js.map"), "utf8")) as { sources: string[] };
  assert.deepEqual(map.sources, ["index.ts"]);
});

test("a syntax error is refused with file, line, column and the line itself, all files at once", async () => {
  const message = await refusal({
    "index.ts": "const a = 1;\n\nlet  b c = 2;\n",
    "sub/x.tsx": "export const y = <div>;\n",
    "fine.ts": "export {}",
  });
  assert.match(message, /^index\.ts:3:8: Expected ";" but found "c"\n {4}let {2}b c = 2;$/m);
  assert.match(message, /^sub\/x\.tsx:\d+:\d+: /m);
});

test("two sources of one output are refused by name", async () => {
  assert.match(
    await refusal({ "a.ts": "export {}", "a.js": "" }),
    /"a\.ts" becomes "a\.js", and that is there already/,
  );
  assert.match(await refusal({ "a.ts": "export {}", "a.tsx": "export {}" }), /becomes "a\.js", and so does "a\.tsx?"/);
});

test("declarations and packages are left alone, but for packages that lead to TypeScript", async () => {
  const { folder, transpiled } = await deploy({
    "index.ts": "import { x } from 'workspace'; export const y: number = x",
    "types.d.ts": "declare const z: number;",
    "node_modules/lib/package.json": `{ "main": "index.js", "types": "index.d.ts" }`,
    "node_modules/lib/index.js": "module.exports = 1",
    "node_modules/lib/src.ts": "this is not even TypeScript",
    "node_modules/workspace/package.json": `{ "name": "workspace", "exports": { ".": "./src/index.ts" } }`,
    "node_modules/workspace/src/index.ts": "enum E { Nine = 9 } export const x: number = E.Nine",
  });
  assert.equal(transpiled, 2);
  assert.equal(load(folder, "index.ts", "m.y"), "9");
  assert.equal(readFileSync(join(folder, "types.d.ts"), "utf8"), "declare const z: number;");
});

test("the same source is transpiled once, and a tree without TypeScript never", async () => {
  const files = { "index.ts": "export const once: number = 1" };
  await deploy(files);
  const before = runs;
  await deploy(files);
  await deploy({ "index.js": "export const plain = 1" });
  assert.equal(runs, before);
});
