// Code that does not load: told in its author's words, with their file and line, and never served.

import assert from "node:assert/strict";
import path from "node:path";
import { describe } from "node:test";
import type { Assignment, Failed } from "./instance.ts";
import { itOf, type Runtime, codeOf, failing, handlersFolder } from "./support.ts";

interface Case {
  readonly name: string;
  /** The error alone is its own: node-loading.test.ts shows what is told of it, and the way of it others do. */
  readonly alike?: true;
  readonly files?: Record<string, string>;
  /** A folder of handlers/LANGUAGE/shapes instead. */
  readonly shape?: string;
  readonly changes?: Partial<Assignment>;
  readonly message: RegExp;
  readonly place?: Partial<Pick<Failed, "file" | "line" | "column">>;
  readonly hint?: RegExp;
}

const shortLoad = { limits: { timeoutMs: 30_000, bufferedBodyBytes: 1024, loadMs: 300 } };

export const badCode: Record<string, Case[]> = {
  node: [
    // The first of all: it is waited for for ten seconds, and the others go on beside it.
    {
      name: "nothing that handles",
      shape: "nothing",
      message: /^nothing that handles is exported, and nothing listens/,
      hint: /listen/,
    },
    {
      name: "a syntax error in an ES module",
      alike: true,
      files: { "index.mjs": "export const a = 1;\nexport const b = ;\n" },
      message: /^SyntaxError: Unexpected token ';' \(index\.mjs:2\)$/,
      place: { file: "index.mjs", line: 2, column: 18 },
    },
    {
      name: "a syntax error in an ES module that is imported",
      files: { "index.mjs": 'import "./lib/a.mjs";\n', "lib/a.mjs": "\n\nlet = = 1;\n" },
      message: /^SyntaxError: .* \(lib\/a\.mjs:3\)$/,
      place: { file: "lib/a.mjs", line: 3 },
    },
    {
      name: "a syntax error in CommonJS",
      alike: true,
      files: { "index.cjs": "\nconst a = ;\n" },
      message: /^SyntaxError: .* \(index\.cjs:2\)$/,
      place: { file: "index.cjs", line: 2 },
    },
    {
      name: "a package that is not there, imported",
      alike: true,
      files: { "index.mjs": '// first\nimport sharp from "sharp/lib";\n' },
      message: /^cannot find package "sharp" \(index\.mjs:2\)$/,
      place: { file: "index.mjs", line: 2 },
      hint: /npm install/,
    },
    {
      name: "a package that is not there, required",
      files: { "index.js": 'const sharp = require("sharp");\n' },
      message: /^cannot find package "sharp" \(index\.js:1\)$/,
      place: { file: "index.js", line: 1 },
      hint: /npm install/,
    },
    {
      name: "a file that is not there",
      alike: true,
      files: { "index.mjs": '\nimport "./nope.mjs";\n' },
      message: /^cannot find the file ".\/nope\.mjs" \(index\.mjs:2\)$/,
      place: { line: 2 },
    },
    {
      name: "an import that its module does not export",
      alike: true,
      files: { "index.mjs": '\nimport { nope } from "./other.mjs";\n', "other.mjs": "export const a = 1;\n" },
      message: /^SyntaxError: .*nope.* \(index\.mjs:2\)$/,
      place: { file: "index.mjs", line: 2 },
    },
    {
      name: "an error thrown at load, in a file that is imported",
      alike: true,
      files: {
        "index.mjs": 'import "./lib.mjs";\nexport const handle = () => 1;\n',
        "lib.mjs": '\n\nthrow new TypeError("no database");\n',
      },
      message: /^TypeError: no database \(lib\.mjs:3\)$/,
      place: { file: "lib.mjs", line: 3, column: 7 },
    },
    {
      name: "a value thrown at load",
      alike: true,
      files: { "index.mjs": 'throw "just text";\n' },
      message: /just text/,
    },
    {
      name: "an error thrown beside the loading",
      files: {
        "index.mjs":
          'setImmediate(() => {\n  throw new Error("in a timer");\n});\nawait new Promise((resolve) => setTimeout(resolve, 60_000));\n',
      },
      message: /^in a timer \(index\.mjs:2\)$/,
      place: { file: "index.mjs", line: 2 },
    },
    {
      name: "process.exit at load",
      files: { "index.mjs": "process.exit(3);\n" },
      message: /ended the process while it was loading/,
    },
    {
      name: "require in an ES module",
      alike: true,
      files: { "index.mjs": '\nconst fs = require("fs");\n' },
      message: /require is not defined.*\(index\.mjs:2\)$/,
      hint: /ES module/,
    },
    {
      name: "no entry file",
      alike: true,
      files: { "readme.txt": "x" },
      message: /^there is no entry file/,
      hint: /index\.js/,
    },
    {
      name: "a main that is not there",
      alike: true,
      files: { "package.json": '{"main":"dist/x.js"}' },
      message: /"dist\/x\.js".*package\.json/,
    },
    {
      name: "an entry outside the code",
      alike: true,
      files: { "index.mjs": "export default () => 1" },
      changes: { entry: "../../etc/passwd" },
      message: /there is no file/,
    },
    {
      name: "a handler that is not exported",
      files: { "index.mjs": "export const a = () => 1;" },
      changes: { handler: "index.nope" },
      message: /^there is no exported function "nope" \(index\.mjs\)$/,
      hint: /It exports: a/,
    },
    {
      name: "an export that no rule knows",
      shape: "unknown-export",
      message: /^nothing that handles/,
      hint: /helloHttp.*handler:/,
    },
    {
      name: "Azure's (context, req)",
      alike: true,
      shape: "azure",
      message: /^cannot tell what .*context, req/,
      hint: /signature:/,
    },
    {
      name: "two parameters that tell nothing",
      alike: true,
      shape: "ambiguous-names",
      message: /^cannot tell/,
      hint: /signature:/,
    },
    {
      name: "two parameters without names",
      alike: true,
      shape: "ambiguous-destructured",
      message: /^cannot tell/,
      hint: /signature:/,
    },
    {
      name: "an await that never settles",
      files: { "index.mjs": "await new Promise(() => {});\n" },
      changes: shortLoad,
      message: /^the code was still loading after 0\.3 s$/,
      hint: /top level/,
    },
    { name: "a class", shape: "class-export", message: /^nothing that handles/ },
  ],
  python: [
    {
      name: "a syntax error",
      files: { "main.py": "a = 1\nb = = 2\n" },
      message: /^SyntaxError: .* \(main\.py:2\)$/,
      place: { file: "main.py", line: 2, column: 5 },
    },
    {
      name: "a package that is not there",
      files: { "main.py": "import json\nimport requests.sessions\n" },
      message: /^cannot find package "requests" \(main\.py:2\)$/,
      place: { file: "main.py", line: 2 },
      hint: /pip install --target package requests/,
    },
    {
      name: "an error raised at load, in a file that is imported",
      files: { "main.py": "import lib\n", "lib.py": "\n\nraise ValueError('no database')\n" },
      message: /^ValueError: no database \(lib\.py:3\)$/,
      place: { file: "lib.py", line: 3 },
    },
    {
      name: "sys.exit at load",
      files: { "main.py": "import sys\nsys.exit(3)\n" },
      message: /ended the process while it was loading/,
      place: { line: 2 },
    },
    { name: "no entry file", files: { "readme.txt": "x" }, message: /^there is no entry file/, hint: /main\.py/ },
    {
      name: "an entry outside the code",
      files: { "main.py": "" },
      changes: { entry: "../../etc/passwd" },
      message: /there is no file/,
    },
    {
      name: "a handler that is not there",
      files: { "main.py": "def a(event, context): pass\n" },
      changes: { handler: "main.nope" },
      message: /^there is no function "nope" \(main\.py\)$/,
      hint: /It defines: a/,
    },
    {
      name: "nothing that handles",
      shape: "nothing",
      message: /^nothing that handles is defined \(main\.py\)$/,
      hint: /handle\(event, context\)/,
    },
    {
      name: "an app of one parameter",
      shape: "ambiguous",
      message: /^cannot tell what app\(something\) is/,
      hint: /signature:/,
    },
    {
      name: "a server that serves for ever",
      files: {
        "main.py":
          "from socketserver import BaseRequestHandler, TCPServer\n\nTCPServer(('127.0.0.1', 0), BaseRequestHandler).serve_forever()\n",
      },
      // Long enough for the import to be over on a busy machine.
      changes: { limits: { ...shortLoad.limits, loadMs: 1_500 } },
      message: /^the code was still loading after 1\.5 s \(main\.py:3\)$/,
      place: { file: "main.py", line: 3 },
      hint: /serves by itself.*runtime: custom/,
    },
    {
      name: "a loop without end that catches everything",
      files: {
        "main.py":
          "def spin():\n    while True:\n        try:\n            pass\n        except BaseException:\n            pass\n\nspin()\n",
      },
      changes: shortLoad,
      message: /^the code was still loading after 0\.3 s \(main\.py:\d\)$/,
      hint: /has to come to an end/,
    },
    {
      name: "a lifespan that never starts",
      files: { "app.py": "import asyncio\nasync def app(scope, receive, send):\n    await asyncio.sleep(3600)\n" },
      changes: shortLoad,
      message: /^the code was still loading after 0\.3 s/,
    },
    {
      name: "a lifespan that fails",
      files: {
        "app.py":
          "async def app(scope, receive, send):\n    await receive()\n    await send({'type': 'lifespan.startup.failed', 'message': 'no pool'})\n",
      },
      message: /no pool/,
    },
  ],
};

export function assertTold(failed: Failed, { message, place = {}, hint }: Case): void {
  assert.match(failed.message, message);
  for (const [name, value] of Object.entries(place)) assert.equal(failed[name as keyof Failed], value, name);
  if (hint !== undefined) assert.match(failed.hint ?? "", hint);
  assert.doesNotMatch(failed.stack ?? "", /runtimes?\/(?:node|python)\//, "the shim's own frames are shown");
}

/** `every`: those too that differ in nothing but their error. */
export function loadingSuite(runtime: Runtime, every: boolean): void {
  const it = itOf(runtime);
  describe(`${runtime.name}: code that does not load`, () => {
    for (const one of (badCode[runtime.language] ?? []).filter(({ alike }) => every || alike === undefined)) {
      it(`is told: ${one.name}`, async (t) => {
        const code =
          one.shape === undefined
            ? codeOf(t, one.files ?? {})
            : path.join(handlersFolder, runtime.language, "shapes", one.shape);
        const { failed, launched } = await failing(t, runtime, code, one.changes);
        assertTold(failed, one);
        assert.deepEqual(await launched.exited, { code: 1, signal: null }, "a bad start is never reused");
      });
    }
  });
}
