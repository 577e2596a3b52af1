// What set-up makes of packages that come as hundreds of files: one, of which a program notices nothing but the time it saves.

import assert from "node:assert/strict";
import {
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { after, test } from "node:test";
import { installation } from "#config.ts";
import { bundle, bundled, isBundled } from "../tools/bundle.ts";

const root = mkdtempSync(join(tmpdir(), "ebb-bundle-"));
after(() => rmSync(root, { recursive: true }));

/** A package beside another one, as npm would have put them; answers its entry. */
function installed(name: string, files: Record<string, string>): string {
  const all = {
    ...files,
    [`../${name}-needs/index.js`]: "exports.loaded = (globalThis.loads = (globalThis.loads ?? 0) + 1);",
  };
  for (const [path, text] of Object.entries(all)) {
    const at = join(root, "node_modules", name, path);
    mkdirSync(dirname(at), { recursive: true });
    writeFileSync(at, text);
  }
  return join(root, "node_modules", name, "lib/index.js");
}

const commonJs = {
  "package.json": "{}",
  "lib/index.js": `
const one = require("./one.js");
function made() { return one.value; }
module.exports = made;
module.exports.made = made;
module.exports.default = made;
module.exports.later = () => require("common-needs").loaded;
Object.defineProperty(module.exports, "hidden", { enumerable: true, get: () => one.value });
`,
  "lib/one.js": "exports.value = 1;",
};

test("a CommonJS package of several files becomes one file, and an import finds the same names in it", async () => {
  const entry = installed("common", commonJs);
  const elsewhere = join(root, "elsewhere.js");
  linkSync(entry, elsewhere);
  await bundle(entry);
  assert.ok(isBundled(entry));
  assert.equal(readFileSync(elsewhere, "utf8"), commonJs["lib/index.js"], "what was linked to it stays as it was");
  assert.deepEqual(readdirSync(dirname(entry)).toSorted(), ["index.js", "one.js"], "nothing else is left there");
  rmSync(join(dirname(entry), "one.js"));
  const found = (await import(pathToFileURL(entry).href)) as Record<string, unknown> & { default: () => number };
  for (const name of ["made", "later", "hidden"]) assert.ok(name in found, name);
  assert.equal(found["made"], found.default);
  assert.equal(found.default(), 1);
});

test("what it takes from other packages is taken from them, and not before it asks", async () => {
  const entry = installed("common", commonJs);
  await bundle(entry);
  const { later } = (await import(`${pathToFileURL(entry).href}?again`)) as { later: () => number };
  const loads = (): unknown => (globalThis as { loads?: number }).loads;
  assert.equal(loads(), undefined);
  assert.equal(later(), 1);
  assert.equal(loads(), 1);
});

test("what it is to have of other packages is in it", async () => {
  const entry = installed("common", commonJs);
  await bundle(entry, ["common-needs"]);
  const text = readFileSync(entry, "utf8");
  assert.match(text, /globalThis\.loads/);
  assert.doesNotMatch(text, /require\("common-needs"\)/);
});

test("a package of ES modules becomes one, once", async () => {
  const entry = installed("modules", {
    "package.json": '{ "type": "module" }',
    "lib/index.js": 'export { one } from "./one.js"; export const two = 2;',
    "lib/one.js": "export const one = 1;",
  });
  await bundle(entry);
  const text = readFileSync(entry, "utf8");
  await bundle(entry);
  assert.equal(readFileSync(entry, "utf8"), text);
  rmSync(join(dirname(entry), "one.js"));
  const { one, two } = (await import(pathToFileURL(entry).href)) as Record<string, number>;
  assert.deepEqual([one, two], [1, 2]);
});

test("set-up has made one file of every package that it names", () => {
  for (const [name, { entry }] of Object.entries(bundled)) {
    const path = join(installation, "node_modules", name, entry);
    assert.ok(existsSync(path) && isBundled(path), path);
  }
});
