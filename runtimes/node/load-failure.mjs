// A failed load in the author's words: what is wrong, in which of their files and lines. Loaded only when it is needed.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { messageOf, sourceLines, stackOf } from "./invocation.mjs";
import { LoadError } from "./load.mjs";

/** @typedef {{ message: string, stack: string | null, file: string | null, line: number | null, column: number | null, hint: string | null }} Failure */
/** @typedef {{ file: string, line: number, column: number | null }} Place */

const searchedFiles = 500;
const searchedBytes = 4 * 1024 * 1024;
const checkMs = 5_000;
const reportBytes = 256 * 1024;

/** @param {unknown} error @param {string} code @param {string | null} entry @returns {Failure} */
export function describeFailure(error, code, entry) {
  if (error instanceof LoadError)
    return { message: error.message, stack: null, file: null, line: null, column: null, hint: error.hint };
  const missing = missingModule(error, code, entry);
  const place =
    missing?.place ??
    placeOf(error, code) ??
    (error instanceof SyntaxError && entry !== null ? syntaxPlace(code, entry) : null);
  const sentence = missing?.message ?? `${nameOf(error)}${messageOf(error).split("\n")[0]}`;
  const where = place === null ? "" : ` (${place.file}:${place.line})`;
  return {
    message: sentence + where,
    stack: stackOf(error),
    file: place?.file ?? null,
    line: place?.line ?? null,
    column: place?.column ?? null,
    hint: missing?.hint ?? hintFor(error),
  };
}

/** @param {unknown} error */
function nameOf(error) {
  return error instanceof Error && error.name !== "Error" ? `${error.name}: ` : "";
}

/** @param {unknown} error @returns {string | null} */
function hintFor(error) {
  if (!(error instanceof Error)) return null;
  if (
    error instanceof ReferenceError &&
    /(?:require|module|exports|__dirname|__filename) is not defined/.test(error.message)
  )
    return 'The file is an ES module: use import, or name it .cjs, or take "type": "module" out of package.json.';
  if (error instanceof SyntaxError && /import statement outside|Unexpected token 'export'/.test(error.message))
    return 'The file is CommonJS: name it .mjs, or put "type": "module" into package.json.';
  return null;
}

/** A path or URL inside the code folder, relative to it. @param {string} text @param {string} code @returns {string | null} */
function inCode(text, code) {
  try {
    const file = text.startsWith("file:") ? fileURLToPath(text) : text;
    const relative = path.relative(code, file);
    return relative.startsWith("..") || path.isAbsolute(relative) || relative === "" ? null : relative;
  } catch {
    return null;
  }
}

/** The first line of the stack, or of what precedes it, that is in the author's code. @param {unknown} error @param {string} code @returns {Place | null} */
function placeOf(error, code) {
  if (typeof error !== "object" || error === null || !("stack" in error)) return null;
  for (const line of sourceLines(String(error.stack)).split("\n")) {
    const at = /^(?:\s+at .*?\(?|)((?:file:\/\/)?\/[^()\n]*?):(\d+)(?::(\d+))?\)?$/.exec(line);
    const file = at === null ? null : inCode(/** @type {string} */ (at[1]), code);
    if (at !== null && file !== null)
      return { file, line: Number(at[2]), column: at[3] === undefined ? null : Number(at[3]) };
  }
  return null;
}

/** @param {unknown} error @param {string} code @param {string | null} entry */
function missingModule(error, code, entry) {
  const { code: errorCode, message } = /** @type {NodeJS.ErrnoException} */ (error ?? {});
  if (errorCode !== "ERR_MODULE_NOT_FOUND" && errorCode !== "MODULE_NOT_FOUND") return null;
  const specifier = /Cannot find (?:package|module) '([^']+)'/.exec(message ?? "")?.[1];
  if (specifier === undefined) return null;
  const importer = /imported from (.+)$/m.exec(message)?.[1] ?? /Require stack:\n- (.+)/.exec(message)?.[1];
  const from = importer === undefined ? entry : inCode(importer, code);
  const relative = inCode(specifier, code);
  const isPath = specifier.startsWith(".") || specifier.startsWith("/");
  const needle = isPath ? path.basename(specifier) : specifier;
  const place = placeOf(error, code) ?? (from === null ? null : lineOf(path.join(code, from), needle, from));
  const shown = relative !== null && specifier.startsWith("/") ? `./${relative}` : specifier;
  return {
    message: isPath
      ? `cannot find the file ${JSON.stringify(shown)}`
      : `cannot find package ${JSON.stringify(packageOf(shown))}`,
    place,
    hint: isPath ? null : "Run npm install in the function's folder, then deploy.",
  };
}

/** "@scope/name/sub" is of the package "@scope/name". @param {string} specifier */
function packageOf(specifier) {
  return specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
}

/** @param {string} file @param {string} needle @param {string} shown @returns {Place | null} */
function lineOf(file, needle, shown) {
  try {
    if (fs.statSync(file).size > searchedBytes) return null;
    const index = fs
      .readFileSync(file, "utf8")
      .split("\n")
      .findIndex((line) => /import|require|from/.test(line) && line.includes(needle));
    return index < 0 ? null : { file: shown, line: index + 1, column: null };
  } catch {
    return null;
  }
}

/** The entry and what it imports by relative paths. @param {string} code @param {string} entry */
function reachable(code, entry) {
  const files = [entry];
  for (let at = 0; at < files.length && files.length < searchedFiles; at++) {
    const file = /** @type {string} */ (files[at]);
    const full = path.join(code, file);
    if (!fs.statSync(full, { throwIfNoEntry: false })?.isFile() || fs.statSync(full).size > searchedBytes) continue;
    for (const [, specifier] of fs
      .readFileSync(full, "utf8")
      .matchAll(/(?:from|import)\s*\(?\s*["'](\.{1,2}\/[^"']+)["']/g)) {
      const target = path.join(path.dirname(file), /** @type {string} */ (specifier));
      if (!target.startsWith("..") && !files.includes(target)) files.push(target);
    }
  }
  return files;
}

// Compiles without running. An ES module's syntax error does not tell its place; only Node's report of an uncaught one does.
const compile = `
  const vm = require("node:vm"), fs = require("node:fs");
  for (const file of JSON.parse(process.env.FILES)) {
    let source;
    try { source = fs.readFileSync(file, "utf8"); } catch { continue; }
    new vm.SourceTextModule(source, { identifier: file });
  }`;

/** @param {string} code @param {string} entry @returns {Place | null} */
function syntaxPlace(code, entry) {
  const files = reachable(code, entry)
    .filter((file) => !file.endsWith(".cjs") && !file.endsWith(".json"))
    .map((file) => path.join(code, file));
  const { stderr } = spawnSync(process.execPath, ["--experimental-vm-modules", "--no-warnings", "-e", compile], {
    env: { FILES: JSON.stringify(files) },
    encoding: "utf8",
    timeout: checkMs,
    maxBuffer: reportBytes,
    stdio: ["ignore", "ignore", "pipe"],
  });
  const report = /^(\/.*):(\d+)\n.*\n( *)\^/m.exec(stderr ?? "");
  const file = report === null ? null : inCode(/** @type {string} */ (report[1]), code);
  return report === null || file === null
    ? null
    : { file, line: Number(report[2]), column: /** @type {string} */ (report[3]).length + 1 };
}
