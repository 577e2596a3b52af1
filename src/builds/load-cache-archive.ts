// Reads what a load check told of its compiled code. A tenant's process wrote it: bounded, of known names alone, and never run by ebb.

import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { deployLimits, loadCacheLimits } from "#model/limits.ts";
import type { RuntimeName } from "#model/workload.ts";

export interface LoadCacheFile {
  /** Relative to the code. */
  readonly path: string;
  readonly contents: Uint8Array;
  /** The file of the code that it is of; null: no single one. */
  readonly source: string | null;
}

const unpack = promisify(gunzip);
const headBytes = 6;
/** Node's own: a folder for its version, V8's flags and the user, in it a file a module. */
const nodeShape = /^\.ebb\/cache\/v\d[\w.+-]{1,100}\/[0-9a-f]{1,16}$/;
const pythonShape = /^(.+\/)?__pycache__\/([^/]+)\.cpython-\d{2,4}\.pyc$/;

/**
 * Null where there is too little to be worth a layer. Throws RangeError with the reason where it is not what a shim sends.
 * Packed: gzip of, for each file, the lengths of its name (u16) and contents (u32, big endian), its name, its contents.
 */
export async function readLoadCache(
  packed: Uint8Array,
  runtime: RuntimeName,
  fewestBytes: number,
): Promise<LoadCacheFile[] | null> {
  if (packed.length > loadCacheLimits.packedBytes) throw new RangeError("it is too large");
  const bytes = await unpack(packed, { maxOutputLength: loadCacheLimits.unpackedBytes }).catch((cause: unknown) => {
    throw new RangeError("it cannot be unpacked", { cause });
  });
  if (bytes.length < fewestBytes) return null;
  const files: LoadCacheFile[] = [];
  const seen = new Set<string>();
  for (let at = 0; at < bytes.length;) {
    if (at + headBytes > bytes.length) throw new RangeError("it was cut short");
    const nameAt = at + headBytes;
    const contentsAt = nameAt + bytes.readUInt16BE(at);
    const end = contentsAt + bytes.readUInt32BE(at + 2);
    if (end > bytes.length) throw new RangeError("it was cut short");
    const path = bytes.toString("utf8", nameAt, contentsAt);
    const source = sourceOf(path, runtime);
    if (source === undefined || seen.has(path)) throw new RangeError("there is a file in it that does not belong");
    seen.add(path);
    if (seen.size > loadCacheLimits.files) throw new RangeError("there are too many files in it");
    files.push({ path, contents: bytes.subarray(contentsAt, end), source });
    at = end;
  }
  return files;
}

/** undefined: no such file is made by that runtime. */
function sourceOf(path: string, runtime: RuntimeName): string | null | undefined {
  if (runtime !== "python3") return nodeShape.test(path) ? null : undefined;
  const [, folder = "", stem] = pythonShape.exec(path) ?? [];
  const parts = path.split("/");
  const strange = parts.some((part) => part === "" || part === "." || part === ".." || part.includes("\0"));
  if (stem === undefined || strange || !path.isWellFormed()) return undefined;
  if (parts.length > deployLimits.pathDepth || Buffer.byteLength(path) > deployLimits.pathBytes) return undefined;
  return `${folder}${stem}.py`;
}
