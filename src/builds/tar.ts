// Reads a tar archive that may be hostile, entry by entry: ustar, GNU long names and pax (POSIX.1-2024, pax), every length bounded.

import { paxRecords } from "#lib/pax-records.ts";
import { EbbError } from "#model/errors.ts";

export interface TarEntry {
  readonly type: "file" | "folder" | "symlink" | "hardlink";
  /** As it stands in the archive, decoded strictly as UTF-8. */
  readonly name: string;
  readonly linkTarget: string;
  readonly executable: boolean;
  readonly bytes: number;
}

const blockBytes = 512;
/** Long names and pax records before one entry: a name, a link target and some times fit many times. */
const extensionBytesMax = 64 * 1024;

export function refuseArchive(message: string): EbbError {
  return new EbbError("invalid_archive", message);
}

/** For a sentence: at most 120 characters, without control characters. */
export function quote(name: string): string {
  return JSON.stringify(name.length > 120 ? `${name.slice(0, 117)}…` : name);
}

/** Pulls exact lengths out of chunks of any length. Holds one chunk, and what spans a border. */
class Bytes {
  readonly #source: AsyncIterator<Uint8Array>;
  #rest: Uint8Array = new Uint8Array(0);

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** At most `max` bytes, at least one; null at the end. */
  async some(max: number): Promise<Uint8Array | null> {
    while (this.#rest.length === 0) {
      const next = await this.#source.next();
      if (next.done === true) return null;
      this.#rest = next.value;
    }
    const part = this.#rest.subarray(0, max);
    this.#rest = this.#rest.subarray(part.length);
    return part;
  }

  async exactly(count: number): Promise<Uint8Array | null> {
    if (this.#rest.length >= count) return this.some(count);
    const whole = new Uint8Array(count);
    let filled = 0;
    while (filled < count) {
      const part = await this.some(count - filled);
      if (part === null)
        return filled === 0 ? null : Promise.reject(refuseArchive("the archive ends in the middle of an entry"));
      whole.set(part, filled);
      filled += part.length;
    }
    return whole;
  }

  async close(): Promise<void> {
    await this.#source.return?.();
  }
}

/** What long names and pax records say about the next entry. */
interface Extension {
  name?: string;
  linkTarget?: string;
  bytes?: number;
}

export class TarReader {
  readonly #bytes: Bytes;
  #left = 0;
  #padding = 0;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#bytes = new Bytes(source);
  }

  /** The next entry, past what is unread of the one before; null at the end of the archive, once the rest has been seen to be empty. */
  async next(): Promise<TarEntry | null> {
    while ((await this.chunk()) !== null);
    const extension: Extension = {};
    let extensionBytes = 0;
    for (;;) {
      const block = await this.#bytes.exactly(blockBytes);
      if (block === null) throw refuseArchive("the archive ends without its end mark: it was cut short");
      if (isZero(block)) {
        if (extensionBytes > 0) throw refuseArchive("the archive ends after a long name without its entry");
        await this.#end();
        return null;
      }
      const header = parseHeader(block);
      if (!"xgLK".includes(header.flag)) return this.#entry(header, extension);
      // Each costs its block too, so that a flood of empty ones ends.
      extensionBytes += header.bytes + blockBytes;
      if (extensionBytes > extensionBytesMax) throw refuseArchive("an entry has more than 64 KiB of extended header");
      const padded = Math.ceil(header.bytes / blockBytes) * blockBytes;
      const body = padded === 0 ? new Uint8Array(0) : await this.#bytes.exactly(padded);
      if (body === null) throw refuseArchive("the archive ends in the middle of an entry");
      extend(extension, header.flag, body.subarray(0, header.bytes));
    }
  }

  /** The next piece of the entry's content; null at its end. */
  async chunk(): Promise<Uint8Array | null> {
    if (this.#left > 0) {
      const part = await this.#bytes.some(this.#left);
      if (part === null) throw refuseArchive("the archive ends in the middle of an entry");
      this.#left -= part.length;
      return part;
    }
    if (this.#padding > 0) {
      const padding = this.#padding;
      this.#padding = 0;
      if ((await this.#bytes.exactly(padding)) === null)
        throw refuseArchive("the archive ends in the middle of an entry");
    }
    return null;
  }

  close(): Promise<void> {
    return this.#bytes.close();
  }

  #entry(header: Header, extension: Extension): TarEntry {
    const name = extension.name ?? header.name;
    const type = typeOf(header.flag, name);
    if (type === null)
      throw refuseArchive(
        `${quote(name)} is ${words[header.flag] ?? "of an unknown kind"}; send files, folders and links`,
      );
    const bytes = extension.bytes ?? header.bytes;
    // Links carry no content, whatever some archivers write there.
    this.#left = type === "file" ? bytes : 0;
    if (type !== "file" && bytes > 0 && type !== "hardlink")
      throw refuseArchive(`${quote(name)} is no file and has content`);
    this.#padding = (blockBytes - (this.#left % blockBytes)) % blockBytes;
    return {
      type,
      name,
      linkTarget: extension.linkTarget ?? header.linkTarget,
      executable: (header.mode & 0o111) !== 0,
      bytes: this.#left,
    };
  }

  /** After the end mark there may be zeros, to fill the tape's record. */
  async #end(): Promise<void> {
    for (;;) {
      const part = await this.#bytes.some(64 * 1024);
      if (part === null) return;
      if (!isZero(part)) throw refuseArchive("something follows the end of the archive");
    }
  }
}

interface Header {
  readonly name: string;
  readonly mode: number;
  readonly bytes: number;
  readonly flag: string;
  readonly linkTarget: string;
}

const words: Readonly<Record<string, string>> = {
  "3": "a device",
  "4": "a device",
  "6": "a named pipe",
  S: "a sparse file",
  D: "an incremental folder",
  M: "part of another volume",
  V: "a volume label",
};

function typeOf(flag: string, name: string): TarEntry["type"] | null {
  if (flag === "0" || flag === "\0" || flag === "7") return name.endsWith("/") ? "folder" : "file";
  if (flag === "1") return "hardlink";
  if (flag === "2") return "symlink";
  return flag === "5" ? "folder" : null;
}

function parseHeader(block: Uint8Array): Header {
  // The checksum counts its own field as eight spaces.
  let sum = 8 * 32;
  for (let i = 0; i < blockBytes; i++) if (i < 148 || i >= 156) sum += block[i]!;
  if (sum !== digitsOf(block, 148, 8)) throw refuseArchive("this is not a tar archive, or it is damaged");
  const flag = String.fromCharCode(block[156]!);
  const ustar = text(block.subarray(257, 262)) === "ustar";
  const posix = ustar && block[262] === 0;
  const prefix = posix ? field(block, 345, 155) : "";
  const name = field(block, 0, 100);
  return {
    name: prefix === "" ? name : `${prefix}/${name}`,
    mode: octal(block, 100, 8),
    bytes: octal(block, 124, 12),
    flag,
    linkTarget: field(block, 157, 100),
  };
}

/** What follows the NUL must be empty: other readers see another name there. */
function field(block: Uint8Array, at: number, length: number): string {
  const whole = block.subarray(at, at + length);
  const end = whole.indexOf(0);
  if (end < 0) return text(whole);
  if (!isZero(whole.subarray(end)))
    throw refuseArchive(`a NUL character stands in the name ${quote(text(whole.subarray(0, end)))}`);
  return text(whole.subarray(0, end));
}

function octal(block: Uint8Array, at: number, length: number): number {
  const first = block[at]!;
  if ((first & 0x80) !== 0) {
    // GNU base 256: a large size. Beyond what is allowed anyway, so only its small form is read.
    let value = first & 0x7f;
    for (let i = 1; i < length; i++) {
      value = value * 256 + block[at + i]!;
      if (value > Number.MAX_SAFE_INTEGER) throw refuseArchive("a size in the archive is too large to be true");
    }
    return value;
  }
  const value = digitsOf(block, at, length);
  if (value === null) throw refuseArchive("a number in the archive is not one");
  return value;
}

/** Octal digits between spaces and NULs; none is 0; null: something else is there. */
function digitsOf(block: Uint8Array, at: number, length: number): number | null {
  const digits = String.fromCharCode(...block.subarray(at, at + length))
    .replace(/[\0 ]+$/, "")
    .replace(/^ +/, "");
  if (!/^[0-7]*$/.test(digits)) return null;
  return digits === "" ? 0 : Number.parseInt(digits, 8);
}

function extend(extension: Extension, flag: string, body: Uint8Array): void {
  if (flag === "L" || flag === "K") {
    const name = text(body.at(-1) === 0 ? body.subarray(0, -1) : body);
    if (flag === "L") extension.name = name;
    else extension.linkTarget = name;
    return;
  }
  for (const [key, value] of paxRecords(body, damaged)) {
    // A global name or size would be that of every entry: nobody means that.
    if (flag === "g") continue;
    if (key === "path") extension.name = text(value);
    else if (key === "linkpath") extension.linkTarget = text(value);
    else if (key === "size") extension.bytes = paxSize(text(value));
    else if (key.startsWith("GNU.sparse."))
      throw refuseArchive("a sparse file is in the archive; send files, folders and links");
  }
}

function paxSize(value: string): number {
  if (!/^[0-9]{1,15}$/.test(value)) throw refuseArchive("a size in the archive is not a number");
  return Number(value);
}

function damaged(): Error {
  return refuseArchive("an extended header of the archive is damaged");
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
    throw refuseArchive(`the name ${quote(Buffer.from(bytes).toString("latin1"))} is not UTF-8`);
  }
}
