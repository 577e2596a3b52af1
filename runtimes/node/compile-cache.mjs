// What V8 compiled of a function's modules: made at the load check and told to ebb, read by the starts after it.

const fs = process.getBuiltinModule("node:fs");
const path = process.getBuiltinModule("node:path");
const module = process.getBuiltinModule("node:module");

/** Below the code, where ebb lays what an earlier check made. */
const folder = ".ebb/cache";
/** Where a check lets Node write it. */
const scratch = "/tmp/.ebb-compile-cache";
/** Node's, by which the author says how it is to be; then it is theirs. */
const authors = ["NODE_COMPILE_CACHE", "NODE_DISABLE_COMPILE_CACHE"];
/** Of the packed bytes, so that a line of them as base64 stays below what ebb reads of a line. */
const pieceBytes = 45_000;
const bytesMax = 32 * 1024 * 1024;

/**
 * Answers what tells it, where it is to be made.
 * @param {"use" | "make"} what @param {string} code @returns {((tell: (value: unknown) => void) => Promise<void>) | null}
 */
export function enable(what, code) {
  if (authors.some((name) => process.env[name] !== undefined)) return null;
  module.enableCompileCache(what === "use" ? path.join(code, folder) : scratch);
  return what === "use" ? null : tellCache;
}

/** @param {(value: unknown) => void} tell */
async function tellCache(tell) {
  try {
    module.flushCompileCache();
    const { gzip, constants } = process.getBuiltinModule("node:zlib");
    const packed = await new Promise((resolve, reject) => {
      gzip(Buffer.concat(files()), { level: constants.Z_BEST_SPEED }, (error, bytes) =>
        error ? reject(error) : resolve(bytes),
      );
    });
    for (let at = 0; at < packed.length; at += pieceBytes)
      tell({ cache: packed.subarray(at, at + pieceBytes).toString("base64") });
  } catch {
    // A full /tmp, an older Node: there is none then, and nothing else is wrong.
  }
}

/** Lengths of name (u16) and contents (u32), name, contents: for each file. */
function files() {
  /** @type {Buffer[]} */
  const parts = [];
  let total = 0;
  for (const version of fs.readdirSync(scratch))
    for (const entry of fs.readdirSync(path.join(scratch, version), { withFileTypes: true })) {
      const { name } = entry;
      if (!entry.isFile()) continue;
      const contents = fs.readFileSync(path.join(scratch, version, name));
      const named = Buffer.from(`${folder}/${version}/${name}`);
      const head = Buffer.alloc(6);
      head.writeUInt16BE(named.length, 0);
      head.writeUInt32BE(contents.length, 2);
      parts.push(head, named, contents);
      total += head.length + named.length + contents.length;
      if (total > bytesMax) throw new RangeError("more than ebb takes");
    }
  return parts;
}
