// Reads the tar of a layer, which may be hostile, entry by entry: ustar, GNU and pax, every length bounded. What it does not
// understand it refuses: two readers of one archive must not see two different things.

import { paxRecords } from "#lib/pax-records.ts";

export type LayerEntryType = "file" | "folder" | "symlink" | "hardlink" | "device" | "fifo";

export interface LayerEntry {
  readonly type: LayerEntryType;
  /** As it stands in the archive. */
  readonly name: string;
  readonly linkTarget: string;
  /** The lower twelve bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSeconds: number;
  readonly bytes: number;
  /** Extended attributes, among them file capabilities, stand with it. */
  readonly attributes: boolean;
}

/** What an image is refused for, in words for its author. */
export class LayerRefused extends Error {}

const blockBytes = 512;
/** As late as every file system has it. */
const latestSeconds = 2 ** 32;
/** Of long names and pax records before one entry: PATH_MAX twice, and attributes. */
const extensionBytesMax = 1024 * 1024;

/** For a sentence: at most 120 characters, without control characters. */
export function quote(name: string): string {
  return JSON.stringify(name.length > 120 ? `${name.slice(0, 117)}…` : name);
}

interface Extension {
  name?: string;
  linkTarget?: string;
  bytes?: number;
  uid?: number;
  gid?: number;
  mtimeSeconds?: number;
  attributes?: boolean;
}

const types: Readonly<Record<string, LayerEntryType>> = {
  "0": "file", "\0": "file", "7": "file", "1": "hardlink", "2": "symlink", "3": "device", "4": "device", "5": "folder", "6": "fifo",
}; // prettier-ignore

export class LayerTar {
  readonly #source: AsyncIterator<Uint8Array>;
  #rest: Uint8Array = new Uint8Array(0);
  #left = 0;
  #padding = 0;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** The next entry, past what is unread of the one before; null at the end, once the rest has been read. */
  async next(): Promise<LayerEntry | null> {
    while (this.#left > 0) await this.chunk();
    if (this.#padding > 0) await this.#exactly(this.#padding);
    this.#padding = 0;
    const extension: Extension = {};
    let extensionBytes = 0;
    for (;;) {
      const block = await this.#exactly(blockBytes, true);
      // Two blocks of zeros end it; some archivers write one, or none.
      if (block === null || isZero(block)) {
        if (extensionBytes > 0) throw new LayerRefused("a layer ends after a long name without its entry");
        while ((await this.#some(1024 * 1024)) !== null);
        return null;
      }
      const flag = String.fromCharCode(block[156]!);
      checkSum(block);
      const bytes = this.#number(block, 124, 12);
      if (!"xgLK".includes(flag)) return this.#entry(block, flag, bytes, extension);
      extensionBytes += bytes + blockBytes;
      if (extensionBytes > extensionBytesMax)
        throw new LayerRefused("an entry of a layer has more than 1 MiB of names");
      const body = (await this.#exactly(Math.ceil(bytes / blockBytes) * blockBytes))!.subarray(0, bytes);
      if (flag === "L") extension.name = cString(body);
      else if (flag === "K") extension.linkTarget = cString(body);
      // A global name or size would be that of every entry: nobody means that.
      else if (flag === "x")
        for (const [key, value] of paxRecords(body, damaged)) extend(extension, key, named.has(key) ? text(value) : "");
    }
  }

  /** The next piece of the entry's content; null at its end. */
  async chunk(): Promise<Uint8Array | null> {
    if (this.#left === 0) return null;
    const part = await this.#some(this.#left);
    if (part === null) throw cutShort();
    this.#left -= part.length;
    return part;
  }

  #entry(block: Uint8Array, flag: string, headerBytes: number, extension: Extension): LayerEntry {
    const posix = text(block.subarray(257, 263)) === "ustar\0";
    const prefix = posix ? cString(block.subarray(345, 500)) : "";
    const own = cString(block.subarray(0, 100));
    const name = extension.name ?? (prefix === "" ? own : `${prefix}/${own}`);
    const type = flag === "0" && name.endsWith("/") ? "folder" : types[flag];
    if (type === undefined)
      throw new LayerRefused(`${quote(name)} in a layer is of a kind that no layer has (${quote(flag)})`);
    const bytes = extension.bytes ?? headerBytes;
    // Links and devices carry no content, whatever some archivers write there.
    this.#left = type === "file" ? bytes : 0;
    if (type === "folder" && bytes > 0) throw new LayerRefused(`${quote(name)} in a layer is a folder and has content`);
    this.#padding = (blockBytes - (this.#left % blockBytes)) % blockBytes;
    return {
      type,
      name,
      linkTarget: extension.linkTarget ?? cString(block.subarray(157, 257)),
      mode: this.#number(block, 100, 8) & 0o7777,
      uid: extension.uid ?? this.#number(block, 108, 8),
      gid: extension.gid ?? this.#number(block, 116, 8),
      mtimeSeconds: Math.min(extension.mtimeSeconds ?? this.#number(block, 136, 12), latestSeconds),
      bytes: this.#left,
      attributes: extension.attributes ?? false,
    };
  }

  #number(block: Uint8Array, at: number, length: number): number {
    const first = block[at]!;
    if ((first & 0x80) !== 0) {
      // GNU base 256: what octal digits have no room for. Negative is nothing but a time, of which nobody asks.
      if (first === 0xff) return 0;
      let value = first & 0x7f;
      for (let i = 1; i < length; i++) {
        value = value * 256 + block[at + i]!;
        if (value > Number.MAX_SAFE_INTEGER) throw new LayerRefused("a number in a layer is too large to be true");
      }
      return value;
    }
    const digits = digitsOf(block, at, length);
    if (digits === null) throw new LayerRefused("a number in a layer is not one");
    return digits;
  }

  /** At most `max` bytes, at least one; null at the end. */
  async #some(max: number): Promise<Uint8Array | null> {
    while (this.#rest.length === 0) {
      const next = await this.#source.next();
      if (next.done === true) return null;
      this.#rest = next.value;
    }
    const part = this.#rest.subarray(0, max);
    this.#rest = this.#rest.subarray(part.length);
    return part;
  }

  async #exactly(count: number, orEnd = false): Promise<Uint8Array | null> {
    if (this.#rest.length >= count) {
      const part = this.#rest.subarray(0, count);
      this.#rest = this.#rest.subarray(count);
      return part;
    }
    const whole = new Uint8Array(count);
    let filled = 0;
    while (filled < count) {
      const part = await this.#some(count - filled);
      if (part === null) {
        if (orEnd && filled === 0) return null;
        throw cutShort();
      }
      whole.set(part, filled);
      filled += part.length;
    }
    return whole;
  }
}

function cutShort(): LayerRefused {
  return new LayerRefused("a layer ends in the middle of an entry: it was cut short");
}

function checkSum(block: Uint8Array): void {
  // The checksum counts its own field as eight spaces.
  let sum = 8 * 32;
  for (let i = 0; i < blockBytes; i++) if (i < 148 || i >= 156) sum += block[i]!;
  if (sum !== digitsOf(block, 148, 8)) throw new LayerRefused("a layer is no tar archive, or it is damaged");
}

/** Octal digits between spaces and NULs; none is 0; null: something else is there. */
function digitsOf(block: Uint8Array, at: number, length: number): number | null {
  let value = 0;
  let state: "before" | "in" | "after" = "before";
  for (let i = at; i < at + length; i++) {
    const byte = block[i]!;
    if (byte === 32 || byte === 0) {
      if (state === "in" || byte === 0) state = "after";
    } else if (byte >= 48 && byte <= 55 && state !== "after") {
      state = "in";
      value = value * 8 + byte - 48;
    } else return null;
  }
  return value;
}

function extend(extension: Extension, key: string, value: string): void {
  if (key === "path") extension.name = value;
  else if (key === "linkpath") extension.linkTarget = value;
  else if (key === "size") extension.bytes = whole(key, value);
  else if (key === "uid") extension.uid = whole(key, value);
  else if (key === "gid") extension.gid = whole(key, value);
  else if (key === "mtime") extension.mtimeSeconds = Math.max(0, Number.parseFloat(value) || 0);
  else if (key.startsWith("SCHILY.xattr.") || key.startsWith("LIBARCHIVE.xattr.")) extension.attributes = true;
  else if (key.startsWith("GNU.sparse.")) throw new LayerRefused("a sparse file is in a layer; pack it whole");
}

function whole(key: string, value: string): number {
  if (!/^[0-9]{1,15}$/.test(value)) throw new LayerRefused(`the ${key} of an entry of a layer is not a number`);
  return Number(value);
}

function damaged(): LayerRefused {
  return new LayerRefused("an extended header of a layer is damaged");
}

/** Attributes and comments may be any bytes, and nobody asks. */
const named = new Set(["path", "linkpath", "size", "uid", "gid", "mtime"]);

function cString(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return text(end < 0 ? bytes : bytes.subarray(0, end));
}

function isZero(bytes: Uint8Array): boolean {
  for (let i = 0; i < bytes.length; i++) if (bytes[i] !== 0) return false;
  return true;
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function text(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw new LayerRefused(`the name ${quote(Buffer.from(bytes).toString("latin1"))} in a layer is not UTF-8`);
  }
}
