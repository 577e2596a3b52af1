// Finds the entry file and loads it. What goes wrong is told as the author's own error with its file and line.

/** @typedef {{ entry: string, handler: string | null }} Entry */

const fs = process.getBuiltinModule("node:fs");
const path = process.getBuiltinModule("node:path");
const { pathToFileURL } = process.getBuiltinModule("node:url");

const names = ["index", "handler", "server", "app"];
const extensions = [".mjs", ".js", ".cjs"];
/** Of an entry file, read to see whether it has a source map. */
const inspectedBytes = 4 * 1024 * 1024;

/** What the author has to mend, in words for them. */
export class LoadError extends Error {
  /** @param {string} message @param {string | null} hint */
  constructor(message, hint) {
    super(message);
    this.hint = hint;
  }
}

/** @param {string} file */
function isFile(file) {
  return fs.statSync(file, { throwIfNoEntry: false })?.isFile() === true;
}

/** A path inside the code folder, with its extension; null: there is none. @param {string} code @param {string} relative @returns {string | null} */
function existing(code, relative) {
  const file = path.resolve(code, relative);
  if (file !== code && !file.startsWith(code.endsWith("/") ? code : `${code}/`)) return null;
  const candidates = [
    file,
    ...extensions.map((extension) => file + extension),
    ...extensions.map((extension) => path.join(file, `index${extension}`)),
  ];
  const found = candidates.find((candidate) => isFile(candidate));
  return found === undefined ? null : path.relative(code, found);
}

/** @param {string} code @returns {unknown} package.json's "main" */
function packageMain(code) {
  try {
    return JSON.parse(fs.readFileSync(path.join(code, "package.json"), "utf8")).main;
  } catch {
    return undefined;
  }
}

/**
 * `handler` may name the file too, as Lambda and Scaleway have it: "src/index.handle".
 * @param {string} code @param {string | null} entry @param {string | null} handler @returns {Entry} @throws {LoadError}
 */
export function resolveEntry(code, entry, handler) {
  if (entry !== null) {
    const file = existing(code, entry);
    if (file === null) throw new LoadError(`there is no file ${JSON.stringify(entry)}`, null);
    return { entry: file, handler: withoutFile(handler, file) };
  }
  const split = handler === null ? -1 : handler.indexOf(".", handler.lastIndexOf("/") + 1);
  if (handler !== null && split > 0) {
    const file = existing(code, handler.slice(0, split));
    if (file !== null) return { entry: file, handler: handler.slice(split + 1) };
    if (handler.includes("/"))
      throw new LoadError(`there is no file ${JSON.stringify(handler.slice(0, split))} (of handler ${handler})`, null);
  }
  const main = packageMain(code);
  if (typeof main === "string" && main !== "") {
    const file = existing(code, main);
    if (file === null)
      throw new LoadError(`there is no file ${JSON.stringify(main)}, which package.json names as "main"`, null);
    return { entry: file, handler };
  }
  for (const name of names)
    for (const extension of extensions)
      if (isFile(path.join(code, name + extension))) return { entry: name + extension, handler };
  throw new LoadError(
    "there is no entry file",
    `Name one ${names.map((name) => `${name}.js`).join(", ")}, or set "main" in package.json.`,
  );
}

/** "index.handle" of index.mjs is its export "handle". @param {string | null} handler @param {string} file */
function withoutFile(handler, file) {
  if (handler === null) return null;
  const stem = file.slice(0, -path.extname(file).length);
  for (const prefix of [`${stem}.`, `./${stem}.`, `${path.basename(stem)}.`])
    if (handler.startsWith(prefix)) return handler.slice(prefix.length);
  return handler;
}

/** Source maps cost at every load: only where there is one. @param {string} file */
function hasSourceMap(file) {
  if (isFile(`${file}.map`)) return true;
  const descriptor = fs.openSync(file, "r");
  try {
    const size = Math.min(fs.fstatSync(descriptor).size, inspectedBytes);
    const buffer = Buffer.allocUnsafe(size);
    return buffer.subarray(0, fs.readSync(descriptor, buffer, 0, size, 0)).includes("\n//# sourceMappingURL=");
  } finally {
    fs.closeSync(descriptor);
  }
}

/** @param {string} code @param {string} entry @returns {Promise<unknown>} the module's namespace */
export async function load(code, entry) {
  const file = path.join(code, entry);
  if (hasSourceMap(file)) process.setSourceMapsEnabled(true);
  return import(pathToFileURL(file).href);
}
