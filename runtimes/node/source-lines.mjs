// Stacks in the lines that their author wrote, for code whose entry has no source map while a file that it imports has one.
// Node itself maps only what was loaded after it was told to, and that costs at every load: this costs at the first error.

const fs = process.getBuiltinModule("node:fs");
const path = process.getBuiltinModule("node:path");
const { SourceMap } = process.getBuiltinModule("node:module");
const { fileURLToPath } = process.getBuiltinModule("node:url");

/** @typedef {{ map: InstanceType<typeof SourceMap>, folder: string }} Mapped */

const readBytes = 16 * 1024 * 1024;
/** Files that are remembered: a stack has ten frames. */
const keptFiles = 100;

/** @type {Map<string, Mapped | null>} */
const known = new Map();

/** Never throws: what cannot be mapped stays as it is. @param {string} stack */
export function inSourceLines(stack) {
  return stack.replaceAll(/((?:file:\/\/)?\/[^()\n]*?):(\d+):(\d+)(?=\)?$)/gm, (whole, file, line, column) => {
    try {
      return sourceOf(file, Number(line), Number(column)) ?? whole;
    } catch {
      return whole;
    }
  });
}

/** @param {string} name @param {number} line @param {number} column */
function sourceOf(name, line, column) {
  const file = name.startsWith("file:") ? fileURLToPath(name) : name;
  let mapped = known.get(file);
  if (mapped === undefined) {
    mapped = mapOf(file);
    if (known.size < keptFiles) known.set(file, mapped);
  }
  const entry = mapped?.map.findEntry(line - 1, column - 1);
  if (!mapped || !entry || !("originalSource" in entry)) return null;
  return `${path.resolve(mapped.folder, entry.originalSource)}:${entry.originalLine + 1}:${entry.originalColumn + 1}`;
}

/** @param {string} file @returns {Mapped | null} */
function mapOf(file) {
  const text = read(file);
  const url = text === null ? null : /\n\/\/# sourceMappingURL=(\S+)\s*$/.exec(text)?.[1];
  if (!url) return null;
  const inline = /^data:application\/json;(?:charset=[^;,]+;)?base64,(.+)$/.exec(url)?.[1];
  const mapFile = path.resolve(path.dirname(file), decodeURIComponent(url));
  const json = inline === undefined ? read(mapFile) : Buffer.from(inline, "base64").toString();
  if (json === null) return null;
  return {
    map: new SourceMap(JSON.parse(json)),
    folder: inline === undefined ? path.dirname(mapFile) : path.dirname(file),
  };
}

/** @param {string} file */
function read(file) {
  const found = fs.statSync(file, { throwIfNoEntry: false });
  return found?.isFile() && found.size <= readBytes ? fs.readFileSync(file, "utf8") : null;
}
