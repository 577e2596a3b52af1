// Runs inside a sandbox: transpiles the TypeScript it is shown and writes JavaScript and source maps to stdout, in frames.
//
// argv: the folder of the npm package esbuild, the folder of the sources, the folder of plan.json. The environment says
// ESBUILD_BINARY_PATH: esbuild looks for its program beside its package, where it is not.
// plan.json: { "files": [path, …], "modules": [path, …] }, the latter ES modules by their ending. Out, for each: a byte "F", the file's index, the lengths of code and map (u32, big
// endian), both; or a byte "E", 0, a length, 0 and errors as JSON. Last a byte "Z", the number of frames, 0, 0.
// What it writes is not trusted by whoever reads it, and it has no part of ebb to rely on.

import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { errorFrame, frame, nothing } from "./write.mjs";

const [esbuildFolder = "", sourceFolder = "", planFolder = ""] = process.argv.slice(2);
/** @type {typeof import("esbuild")} */
const esbuild = await import(join(esbuildFolder, "lib/main.js"));

/** @type {{ files: string[], modules: string[] }} */
const plan = JSON.parse(readFileSync(join(planFolder, "plan.json"), "utf8"));
const indexes = new Map(plan.files.map((path, index) => [path, index]));

let frames = 0;

/** `type` of the nearest package.json and its folder, as Node looks for it. @type {Map<string, { folder: string, type: string | null }>} */
const scopes = new Map();
/** @param {string} folder @returns {{ folder: string, type: string | null }} */
function scopeOf(folder) {
  const known = scopes.get(folder);
  if (known) return known;
  let scope;
  try {
    const type = JSON.parse(readFileSync(join(sourceFolder, folder, "package.json"), "utf8"))?.type;
    scope = { folder, type: type === "module" || type === "commonjs" ? type : null };
  } catch {
    const top = folder === "." || /(^|\/)node_modules$/.test(dirname(folder));
    scope = top ? { folder, type: null } : scopeOf(dirname(folder));
  }
  scopes.set(folder, scope);
  return scope;
}

/** Scopes without a type that hold ES modules by their ending: everything in them is one then. */
const moduleScopes = new Set(
  [...plan.modules, ...plan.files.filter((path) => path.endsWith(".mts"))].map((path) => scopeOf(dirname(path)).folder),
);

/** @param {string} path @returns {"esm" | "cjs"} */
function formatOf(path) {
  if (path.endsWith(".mts")) return "esm";
  if (path.endsWith(".cts")) return "cjs";
  const scope = scopeOf(dirname(path));
  if (scope.type !== null) return scope.type === "module" ? "esm" : "cjs";
  return moduleScopes.has(scope.folder) ? "esm" : "cjs";
}

/** @param {string[]} paths @param {"esm" | "cjs"} format */
function transpile(paths, format) {
  return esbuild.build({
    absWorkingDir: sourceFolder,
    entryPoints: paths.map((path) => `./${path}`),
    outdir: sourceFolder,
    outbase: sourceFolder,
    allowOverwrite: true,
    write: false,
    bundle: false,
    // ES modules stay as they are written: Node tells them from CommonJS by their syntax, and TypeScript may hold either.
    ...(format === "cjs" ? { format } : {}),
    platform: "node",
    target: "node22", // the oldest runtime of ebb
    charset: "utf8",
    sourcemap: "external",
    sourcesContent: true,
    logLevel: "silent",
    logLimit: 0,
  });
}

/**
 * What CommonJS cannot say: then the whole scope without a type is ES modules, as it would be for Node.
 * @param {string[]} paths
 */
async function transpileCommonJs(paths) {
  const outcome = await settle(transpile(paths, "cjs"));
  const demands = [
    ...outcome.errors.filter(({ text }) => text.startsWith("Top-level await is")),
    ...outcome.warnings.filter(({ id }) => id === "empty-import-meta"),
  ];
  const before = moduleScopes.size;
  for (const { location } of demands) {
    const scope = location ? scopeOf(dirname(location.file)) : null;
    if (scope?.type === null && !location?.file.endsWith(".cts")) moduleScopes.add(scope.folder);
  }
  if (moduleScopes.size === before) return [outcome];
  const esm = paths.filter((path) => formatOf(path) === "esm");
  const cjs = paths.filter((path) => formatOf(path) === "cjs");
  return [await settle(transpile(esm, "esm")), ...(cjs.length === 0 ? [] : [await settle(transpile(cjs, "cjs"))])];
}

/**
 * @typedef {{ errors: import("esbuild").Message[], warnings: import("esbuild").Message[], outputFiles: import("esbuild").OutputFile[] }} Outcome
 * @param {Promise<import("esbuild").BuildResult>} building
 * @returns {Promise<Outcome>}
 */
async function settle(building) {
  try {
    const { warnings, outputFiles } = await building;
    return { errors: [], warnings, outputFiles: outputFiles ?? [] };
  } catch (error) {
    const { errors, warnings } = /** @type {import("esbuild").BuildFailure} */ (error);
    if (!Array.isArray(errors)) throw error;
    return { errors, warnings: warnings ?? [], outputFiles: [] };
  }
}

/**
 * Files with different endings would meet under one output name ("a.ts" and "a.mts"): each ending is a build of its own.
 * @returns {Promise<Outcome[]>}
 */
async function transpileAll() {
  /** @type {Outcome[]} */
  const outcomes = [];
  for (const ending of [".mts", ".cts", ""]) {
    const paths = plan.files.filter((path) => (ending === "" ? !/\.[mc]ts$/.test(path) : path.endsWith(ending)));
    const esm = paths.filter((path) => formatOf(path) === "esm");
    const cjs = paths.filter((path) => formatOf(path) === "cjs");
    if (esm.length > 0) outcomes.push(await settle(transpile(esm, "esm")));
    if (cjs.length > 0) outcomes.push(...(await transpileCommonJs(cjs)));
  }
  return outcomes;
}

/** @param {Outcome} outcome */
function writeOutcome(outcome) {
  const maps = new Map(
    outcome.outputFiles.filter(({ path }) => path.endsWith(".map")).map((file) => [file.path, file]),
  );
  for (const { path, contents } of outcome.outputFiles) {
    if (path.endsWith(".map")) continue;
    const map = maps.get(`${path}.map`)?.contents ?? nothing;
    // esbuild names its output after its input: the map says which it was.
    const source = join(dirname(path), JSON.parse(Buffer.from(map).toString())?.sources?.[0] ?? "");
    const index = indexes.get(source.slice(sourceFolder.length + 1));
    if (index === undefined) throw new Error(`no source for ${path}`);
    frame("F", index, contents, map);
    frames += 1;
  }
}

const outcomes = await transpileAll();
const errors = outcomes.flatMap((outcome) => outcome.errors);
if (errors.length > 0) {
  errorFrame(errors);
  frames += 1;
} else for (const outcome of outcomes) writeOutcome(outcome);
frame("Z", frames, nothing, nothing);
await esbuild.stop();
