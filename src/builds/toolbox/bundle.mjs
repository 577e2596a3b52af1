// Runs inside a sandbox: bundles the entry file it is shown with its dependencies, and writes bundle and source map to stdout, in frames.
//
// argv: the folder of the npm package esbuild, the folder of the sources, the folder of plan.json; ESBUILD_BINARY_PATH as for transpile.mjs.
// plan.json: { "entry": path, "native": [folder of a package that is not JavaScript alone, …] }. Out, in the frames of transpile.mjs: 0 is
// code and map, 1 is JSON, { "format": "cjs" | "esm", "kept": [folder of a package that stays as its files, …] }.

import { existsSync, readFileSync } from "node:fs";
import { basename, dirname, extname, join, relative } from "node:path";
import { errorFrame, frame, nothing } from "./write.mjs";

const [esbuildFolder = "", sourceFolder = "", planFolder = ""] = process.argv.slice(2);
/** @type {typeof import("esbuild")} */
const esbuild = await import(join(esbuildFolder, "lib/main.js"));
/** @type {{ entry: string, native: string[] }} */
const plan = JSON.parse(readFileSync(join(planFolder, "plan.json"), "utf8"));

const entryFolder = dirname(join(sourceFolder, plan.entry));
/** What depends on where a file is, or is only known when it runs: that file has to stay one. */
const placed =
  /\b__dirname\b|\b__filename\b|\bimport\.meta\b|\brequire\.(?:resolve|main|cache)\b|\b(?:require|import)\s*\(\s*(?![\s"'`)]|\/\*)/;
const attempts = 8;

/** @param {string} path @returns {string | null} the folder of the innermost package that it is in */
function packageOf(path) {
  return /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(path)?.[0] ?? null;
}

/** @param {string} path */
function readJson(path) {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return null;
  }
}

/** Package folders that stay as their files; found while bundling, which is then done again. */
const kept = new Set(plan.native.map((path) => join(sourceFolder, path)));
/** Those whose ES modules are not taken because something requires them too: twice the same package is not the same package. */
const required = new Set();
/** Entry files by "module" that were taken. @type {Map<string, string>} */
const taken = new Map();
/** @type {{ text: string, location: { file: string, line: number, column: number, lineText: string } }[]} */
let ours = [];

/** @param {string} path @param {string} text @param {number} at */
function problemAt(path, text, at) {
  const before = text.slice(0, at);
  const line = before.split("\n").length;
  const lineStart = before.lastIndexOf("\n") + 1;
  const lineText = text.slice(lineStart).split("\n", 1)[0] ?? "";
  return {
    text: `${text.slice(at).match(/^[\w.]+/)?.[0] ?? "this"} depends on where this file is, which a bundle changes; move it into the entry's folder, or leave bundle out`,
    location: { file: relative(sourceFolder, path), line, column: at - lineStart, lineText },
  };
}

/** What was read of a file, for those that it imports. @type {Map<string, string>} */
const texts = new Map();

/**
 * An `import` of names from a package without "exports" gets its ES modules, of which only what is used is taken; Node itself would
 * take its CommonJS, and what that exports as a default differs: such an import gets what Node would give it.
 * @param {string} name @param {string} importer
 */
function moduleEntryOf(name, importer) {
  for (let at = dirname(importer); at.startsWith(sourceFolder); at = dirname(at)) {
    const folder = join(at, "node_modules", name);
    const found = readJson(join(folder, "package.json"));
    if (found === null) continue;
    const file = typeof found.module === "string" ? join(folder, found.module) : "";
    if (found.exports !== undefined || required.has(folder) || packageOf(file) !== folder || !existsSync(file))
      return null;
    const quoted = name.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
    const byDefault = new RegExp(
      `(?:import\\s+[\\w$]+[^;'"]*|\\bdefault\\b[^;'"]*|\\*\\s*as\\s+[^;'"]*)from\\s*["']${quoted}["']`,
    );
    return byDefault.test(texts.get(importer) ?? "")
      ? null
      : { folder, file, sideEffects: found.sideEffects !== false };
  }
  return null;
}

/** @type {import("esbuild").Plugin} */
const packages = {
  name: "packages",
  setup(build) {
    build.onResolve({ filter: /.*/ }, async ({ path, kind, resolveDir, importer, pluginData }) => {
      if (pluginData === packages || kind === "entry-point") return undefined;
      if (kind === "import-statement" && /^(?:@[^/]+\/)?[^@./][^/]*$/.test(path)) {
        const module = moduleEntryOf(path, importer);
        if (module !== null && !kept.has(module.folder)) {
          taken.set(module.folder, module.file);
          return { path: module.file, sideEffects: module.sideEffects };
        }
      }
      const found = await build.resolve(path, { kind, resolveDir, importer, pluginData: packages });
      if (found.errors.length > 0) {
        // Optional, as far as anybody can tell: Node says what is missing, where it is missed.
        if (packageOf(importer) !== null || kind === "require-call" || kind === "dynamic-import")
          return { path, external: true };
        return found;
      }
      if (found.external || !found.path.startsWith("/")) return found;
      const folder = packageOf(found.path);
      if (folder !== null && found.path.endsWith(".node")) kept.add(folder);
      if (folder === null || !kept.has(folder)) return found;
      // By its place: from the bundle another of the same name might be nearer.
      const place = relative(entryFolder, found.path);
      return { path: place.startsWith(".") ? place : `./${place}`, external: true };
    });
    build.onLoad({ filter: /\.(?:[cm]?[jt]s|[jt]sx)$/ }, ({ path }) => {
      const text = readFileSync(path, "utf8");
      texts.set(path, text);
      const at = placed.exec(text)?.index ?? -1;
      const folder = packageOf(path);
      if (at >= 0 && folder !== null) kept.add(folder);
      if (at >= 0 && folder === null && dirname(path) !== entryFolder) ours.push(problemAt(path, text, at));
      if (folder === null) return undefined;
      // Only the author's own lines are in the map: it stays small, and is read at each load.
      const loader = /\.[cm]?ts$/.test(path)
        ? "ts"
        : path.endsWith("x")
          ? path.endsWith("tsx")
            ? "tsx"
            : "jsx"
          : "js";
      return {
        contents: `${text}\n//# sourceMappingURL=data:application/json;base64,eyJ2ZXJzaW9uIjozLCJzb3VyY2VzIjpbIiJdLCJtYXBwaW5ncyI6IkFBQUEifQ==`,
        loader,
      };
    });
  },
};

const banners = {
  cjs: 'const ebbModuleUrl = require("node:url").pathToFileURL(__filename).href;',
  esm: 'import { createRequire as ebbCreateRequire } from "node:module"; const require = ebbCreateRequire(import.meta.url), __filename = import.meta.filename, __dirname = import.meta.dirname;',
};

/** @param {"cjs" | "esm"} format */
function bundle(format) {
  const cjs = {
    "import.meta.url": "ebbModuleUrl",
    "import.meta.dirname": "__dirname",
    "import.meta.filename": "__filename",
  };
  return esbuild.build({
    absWorkingDir: sourceFolder,
    entryPoints: [`./${plan.entry}`],
    outfile: join(entryFolder, `${basename(plan.entry, extname(plan.entry))}.bundle.js`),
    bundle: true,
    write: false,
    metafile: true,
    format,
    platform: "node",
    target: "node22", // the oldest runtime of ebb
    mainFields: ["main"],
    define: format === "cjs" ? cjs : {},
    banner: { js: banners[format] },
    charset: "utf8",
    keepNames: true,
    sourcemap: "external",
    sourcesContent: true,
    legalComments: "none",
    logLevel: "silent",
    logLimit: 0,
    plugins: [packages],
  });
}

/** @param {import("esbuild").Metafile} metafile */
function requiredToo(metafile) {
  const before = required.size;
  for (const path of Object.keys(metafile.inputs)) {
    const folder = packageOf(join(sourceFolder, path));
    if (folder === null || !taken.has(folder)) continue;
    const main = readJson(join(folder, "package.json"))?.main;
    const absolute = join(sourceFolder, path);
    if (typeof main === "string" && [join(folder, main), join(folder, `${main}.js`)].includes(absolute))
      required.add(folder);
  }
  return required.size > before;
}

async function build() {
  /** @type {"cjs" | "esm"} */
  let format = "cjs";
  for (let attempt = 0; attempt < attempts; attempt++) {
    const keptBefore = kept.size;
    ours = [];
    taken.clear();
    /** @type {import("esbuild").BuildResult<{ metafile: true, write: false }> | null} */
    let made = null;
    /** @type {import("esbuild").Message[]} */
    let errors = [];
    try {
      made = /** @type {any} */ (await bundle(format));
    } catch (error) {
      errors = /** @type {import("esbuild").BuildFailure} */ (error).errors;
      if (!Array.isArray(errors)) throw error;
    }
    if (format === "cjs" && errors.some(({ text }) => text.startsWith("Top-level await"))) {
      format = "esm";
      continue;
    }
    if (errors.length > 0) return { errors };
    if (ours.length > 0) return { errors: ours };
    if (kept.size > keptBefore || requiredToo(/** @type {any} */ (made).metafile)) continue;
    return { made, format };
  }
  return {
    errors: [
      { text: "its packages cannot be bundled: they require and import each other in too many ways", location: null },
    ],
  };
}

const result = await build();
if (result.errors) {
  errorFrame(result.errors);
} else {
  const files = /** @type {import("esbuild").OutputFile[]} */ (result.made?.outputFiles);
  const map = JSON.parse(files.find(({ path }) => path.endsWith(".map"))?.text ?? "{}");
  // What has no lines in the map needs no text in it.
  for (const [index, path] of (map.sources ?? []).entries())
    if (packageOf(join(entryFolder, path)) !== null) map.sourcesContent[index] = null;
  frame(
    "F",
    0,
    files.find(({ path }) => !path.endsWith(".map"))?.contents ?? nothing,
    Buffer.from(JSON.stringify(map)),
  );
  const named = [...kept].map((folder) => relative(sourceFolder, folder));
  frame("F", 1, Buffer.from(JSON.stringify({ format: result.format, kept: named })), nothing);
  frame("Z", 2, nothing, nothing);
}
await esbuild.stop();
