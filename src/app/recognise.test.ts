// Folders as people have them: what they are taken for, and what is said where that cannot be told.

import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { chooseNode } from "./engines.ts";
import { nameOf, recognise } from "./recognise.ts";

type Asked = Parameters<typeof recognise>[1];

/** "node26 index.js handle", or the refusal. A name that ends with * is executable. */
function say(files: string, manifest: unknown = null, asked: Asked = {}): string {
  const listed = files
    .split(" ")
    .filter(Boolean)
    .map((path) => ({ path: path.replace("*", ""), executable: path.endsWith("*") }));
  const packageJson = manifest === null ? null : typeof manifest === "string" ? manifest : JSON.stringify(manifest);
  const found = recognise({ files: listed, packageJson }, asked);
  if (!found.ok) return found.message;
  return [
    found.runtime,
    found.entry,
    found.handler,
    found.command?.join(" "),
    found.notes.length > 0 ? "(noted)" : null,
  ]
    .filter((part) => part !== null && part !== undefined)
    .join(" ");
}

const cases: ReadonlyArray<
  readonly [title: string, said: string | RegExp, files: string, manifest?: unknown, asked?: Asked]
> = [
  ["index.js", "node26 index.js", "index.js README.md"],
  ["each ending of Node", "node26 handler.mts", "handler.mts tsconfig.json"],
  ["tsx", "node26 app.tsx", "app.tsx"],
  ["index before handler, server and app", "node26 index.cjs", "app.js handler.js index.cjs server.js"],
  ["handler before server", "node26 handler.ts", "server.js handler.ts"],
  ["JavaScript before TypeScript of one name", "node26 index.js", "index.ts index.js"],
  ["declarations are no code", /^there is no JavaScript/, "index.d.ts"],
  ["main of package.json", "node26 src/start.js", "index.js src/start.js package.json", { main: "./src/start.js" }],
  ["main without an ending", "node26 src/start.ts", "src/start.ts package.json", { main: "src/start" }],
  ["main that is a folder", "node26 lib/index.js", "lib/index.js package.json", { main: "lib" }],
  ["main that TypeScript becomes", "node26 src/main.ts", "src/main.ts package.json", { main: "src/main.js" }],
  [
    "main that is not there",
    'package.json: main is "dist/x.js", which is not there; build it first, or correct main',
    "index.ts package.json",
    { main: "dist/x.js" },
  ],
  ["main that npm init wrote", "node26 handler.js", "handler.js package.json", { main: "index.js" }],
  ["main that leads out", /^package\.json: main is .* it leads out/, "index.js package.json", { main: "../x.js" }],
  ["main that is a number", "package.json: main is not a text", "index.js package.json", { main: 3 }],
  ["package.json that is not JSON", /^package\.json is not JSON: /, "index.js package.json", "{"],
  ["package.json that is a list", "package.json is not a JSON object", "index.js package.json", "[]"],
  ["package.json without code", /^there is a package\.json, but no index/, "package.json lib/x.js", {}],
  ["the only file", "node26 hello.mjs", "hello.mjs notes.txt"],
  ["the only file beside tools' own", "node26 hello.ts", "hello.ts vitest.config.ts hello.test.ts types.d.ts"],
  ["two files with other names", /^which of a\.js or b\.js is the entry\?/, "a.js b.js"],
  ["code only in folders below", /^there is no JavaScript/, "src/index.js"],
  ["main.py", "python3 main.py", "main.py requirements.txt"],
  ["Python's order", "python3 app.py", "lambda_function.py handler.py app.py"],
  ["the only Python file", "python3 text.py", "text.py test_text.py"],
  ["two Python files", /^which of a\.py or b\.py is the entry\?/, "a.py b.py"],
  [
    "both languages by convention",
    "both index.js and main.py could be meant; say which in ebb.yaml: runtime: node26 or runtime: python3",
    "index.js main.py",
  ],
  ["Python by convention beside some script", "python3 main.py", "main.py tool.js"],
  ["Node by convention beside some script", "node26 index.js", "index.js tool.py"],
  ["both languages with a runtime said", "python3 main.py", "index.js main.py", null, { runtime: "python3" }],
  [
    "a runtime that is not there",
    "there is no main.py, app.py, handler.py or lambda_function.py in it",
    "index.js",
    null,
    { runtime: "python3" },
  ],
  ["Node that is not there", /^there is no index, handler, server or app/, "main.py", null, { runtime: "node24" }],
  [
    "a handler and its file",
    "node26 src/index.ts handle",
    "index.js src/index.ts",
    null,
    { handler: "src/index.handle" },
  ],
  ["a handler with a dotted export", "node26 index.js api.get", "index.js", null, { handler: "index.api.get" }],
  [
    "a handler that is an export of the entry",
    "node26 server.js onRequest",
    "server.js",
    null,
    { handler: "onRequest" },
  ],
  [
    "a dotted handler that is an export of the entry",
    "node26 server.js api.get",
    "server.js",
    null,
    { handler: "api.get" },
  ],
  ["a handler that is a file", "node26 jobs/run.mjs", "index.js jobs/run.mjs", null, { handler: "jobs/run.mjs" }],
  [
    "a handler of a file that is not there",
    /^handler: src\/x\.handle names no file/,
    "index.js",
    null,
    { handler: "src/x.handle" },
  ],
  ["a Python handler decides the language", /^both /, "index.js main.py", null, { handler: "main.run" }],
  [
    "a Python handler in a package",
    "python3 api/__init__.py run",
    "api/__init__.py",
    null,
    { handler: "api.run", runtime: "python3" },
  ],
  ["a command", "custom ./server --port", "server*", null, { command: ["./server", "--port"] }],
  [
    "runtime custom without one",
    "runtime custom needs a command, such as [./server]",
    "server*",
    null,
    { runtime: "custom" },
  ],
  ["one program and nothing else", "custom ./server (noted)", "server* README.md"],
  ["two programs", /for a program of your own say runtime: custom/, "a* b*"],
  ["nothing", "there is nothing in it", ""],
  ["only text", /^there is no JavaScript, TypeScript or Python/, "README.md"],
  ["engines that ask for 22", "node22 index.js", "index.js package.json", { engines: { node: "22.x" } }],
  ["engines that ask for 18", "node22 index.js (noted)", "index.js package.json", { engines: { node: "^18.12" } }],
  [
    "engines under a runtime that was said",
    "node24 index.js",
    "index.js package.json",
    { engines: { node: "^18" } },
    { runtime: "node24" },
  ],
];

for (const [title, said, files, manifest, asked] of cases)
  test(`recognised: ${title}`, () => {
    const heard = say(files, manifest, asked);
    if (typeof said === "string") assert.equal(heard, said);
    else assert.match(heard, said);
  });

test("engines.node chooses the newest version that it allows", () => {
  const ranges: Record<string, string> = {
    "*": "node26",
    "": "node26",
    ">=18": "node26",
    ">= 20.1.0": "node26",
    "24": "node24",
    "24.x": "node24",
    "^22": "node22",
    "~22.11": "node22",
    "^20 || ^22": "node22",
    "<25": "node24",
    "<=24": "node24",
    ">22 <26": "node24",
    "22 - 24": "node24",
    "20.x || >=24.1": "node26",
    "^20": "node22",
    "16": "node22",
    "<20": "node22",
    "30": "node26",
    ">=23 <24": "node24",
    "lts/*": "node26",
    "v24.1.0": "node24",
    "22.0.0-rc.1": "node22",
  };
  for (const [range, runtime] of Object.entries(ranges)) assert.equal(chooseNode(range).runtime, runtime, range);
  for (const odd of [null, 26, {}, "x".repeat(1_000)])
    assert.deepEqual(chooseNode(odd), { runtime: "node26", note: null });
  assert.match(chooseNode("^20").note!, /ebb has node22, node24 and node26, and node22 is used/);
});

test("no text of engines.node makes it throw", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[\d.x|<>=~^ -]{0,20}$/)), (range) =>
      /^node2[246]$/.test(chooseNode(range).runtime),
    ),
  );
});

test("a folder's name becomes the function's, where it can", () => {
  const names: Record<string, string> = {
    hello: "hello",
    "hello.js": "hello",
    "Hello World": "hello-world",
    my_fn: "my-fn",
    "01-thumbs": "thumbs",
    résumé: "resume",
    myApiV2: "my-api-v2",
    "x--y": "x-y",
    "a.test.ts": "a-test",
  };
  for (const [base, name] of Object.entries(names)) assert.deepEqual(nameOf(base, "default"), { ok: true, name }, base);
  for (const base of ["42", "日本", "console", "a".repeat(41)]) assert.equal(nameOf(base, "default").ok, false, base);
  const refused = nameOf("console", "default");
  assert.match(
    refused.ok ? "" : refused.message,
    /^"console" cannot name a function \(.*reserved.*\); give it one with --name/,
  );
});
