// Unpacks a hostile gzipped tar into a fresh folder: nothing is ever written through a link, and everything is bounded.

import { createHash, type Hash } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, link, mkdir, open, symlink } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { errnoOf } from "#lib/errno.ts";
import { EbbError } from "#model/errors.ts";
import { deployLimits } from "#model/limits.ts";
import { quote, refuseArchive, type TarEntry, TarReader } from "./tar.ts";
import { refuseLink, type Tree, type TreeEntry } from "./tree.ts";

export type UnpackLimits = Readonly<
  Record<"archiveBytes" | "unpackedBytes" | "entries" | "pathBytes" | "pathDepth" | "expansionRatio", number>
>;

const componentBytesMax = 255;
/** Below this, how well it was packed says nothing: zeros pack a thousand to one. */
const ratioFromBytes = 32 * 1024 * 1024;
/** Files up to this size are written beside each other. */
const smallBytes = 256 * 1024;
const writesAtOnce = 8;
/** O_EXCL refuses whatever is there already, a link too. */
const create = constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW | constants.O_WRONLY;

/**
 * Unpacks into `folder`, which must exist, be empty, and be out of everybody else's reach: then the tree in memory is the
 * truth, and a path is safe when each of its components was made here as a folder. Links are written last, after each has
 * been resolved in memory. Throws EbbError invalid_archive (payload_too_large for the archive itself); the folder is then the caller's to remove.
 */
export async function unpack(
  archive: Readable,
  folder: string,
  limits: UnpackLimits = deployLimits,
  /** Called for each part of the archive that comes. */
  arrived: () => void = () => {},
): Promise<Tree> {
  const unpacking = new Unpacking(folder, limits);
  const reader = new TarReader(unpacking.expand(archive, arrived));
  try {
    for (let entry = await reader.next(); entry !== null; entry = await reader.next())
      await unpacking.take(entry, reader);
    await unpacking.finish();
    return unpacking.tree;
  } catch (error) {
    throw wordsFor(error);
  } finally {
    await unpacking.settle();
    await reader.close();
    archive.destroy();
  }
}

class Unpacking {
  readonly tree = new Map<string, TreeEntry>();
  readonly #folder: string;
  readonly #limits: UnpackLimits;
  readonly #links = new Map<string, string>();
  readonly #writes = new Set<Promise<void>>();
  #failure: unknown;
  #failed = false;
  #entries = 0;
  #bytes = 0;

  constructor(folder: string, limits: UnpackLimits) {
    this.#folder = folder;
    this.#limits = limits;
  }

  /** The archive's bytes, expanded; both counted as they come. */
  async *expand(archive: Readable, arrived: () => void): AsyncGenerator<Uint8Array> {
    const { archiveBytes, unpackedBytes, entries, expansionRatio } = this.#limits;
    // Headers and padding come on top of the contents, three blocks an entry.
    const streamBytes = unpackedBytes + entries * 3 * 512 + 64 * 1024;
    let received = 0;
    let expanded = 0;
    async function* counted(): AsyncGenerator<Uint8Array> {
      for await (const chunk of archive as AsyncIterable<Uint8Array>) {
        received += chunk.length;
        arrived();
        if (received > archiveBytes) throw tooLarge(`the archive has more than ${archiveBytes} bytes`);
        yield chunk;
      }
    }
    const gunzip = createGunzip({ chunkSize: 64 * 1024, rejectGarbageAfterEnd: true });
    const source = counted();
    const feed = pump(source, gunzip);
    try {
      for await (const chunk of gunzip) {
        expanded += chunk.length;
        if (expanded > streamBytes) throw refuseArchive(`more than ${unpackedBytes} bytes are in the archive`);
        if (expanded > ratioFromBytes && expanded > received * expansionRatio)
          throw refuseArchive(`the archive expands more than ${expansionRatio} times`);
        yield chunk;
      }
    } finally {
      gunzip.destroy();
      await feed;
    }
  }

  async take(entry: TarEntry, reader: TarReader): Promise<void> {
    if (this.#failed) throw this.#failure;
    this.#entries += 1;
    if (this.#entries > this.#limits.entries)
      throw refuseArchive(`more than ${this.#limits.entries} entries are in the archive`);
    const path = this.#pathOf(entry);
    if (path === "") return; // "./"
    if (entry.type === "folder") return this.#makeFolder(path, entry.name);
    await this.#makeParents(path, entry.name);
    if (this.tree.has(path)) throw refuseArchive(`${quote(entry.name)} stands in the archive twice`);
    this.#claim(entry.bytes);
    if (entry.type === "symlink") this.#noteLink(path, entry);
    else if (entry.type === "hardlink") await this.#makeHardLink(path, entry);
    else await this.#makeFile(path, entry, reader);
  }

  /** Waits for what is being written, whether or not it succeeds. */
  async settle(): Promise<void> {
    await Promise.allSettled(this.#writes);
  }

  async finish(): Promise<void> {
    await this.settle();
    if (this.#failed) throw this.#failure;
    for (const [path, target] of this.#links) {
      const refusal = refuseLink(this.tree, path, target);
      if (refusal !== null) throw refuseArchive(`${quote(path)} ${refusal}`);
    }
    for (const [path, target] of this.#links) await symlink(target, join(this.#folder, path));
  }

  /** Canonical, or an error that names the entry. */
  #pathOf(entry: TarEntry): string {
    const { name } = entry;
    const { pathBytes, pathDepth } = this.#limits;
    if (name.includes("\0")) throw refuseArchive(`a NUL character stands in the name ${quote(name)}`);
    if (name.startsWith("/")) throw refuseArchive(`${quote(name)} is an absolute name`);
    if (Buffer.byteLength(name) > pathBytes)
      throw refuseArchive(`the name ${quote(name)} is longer than ${pathBytes} bytes`);
    const parts = name.split("/").filter((part) => part !== "" && part !== ".");
    if (parts.includes("..")) throw refuseArchive(`".." stands in the name ${quote(name)}`);
    if (parts.length > pathDepth) throw refuseArchive(`${quote(name)} is deeper than ${pathDepth} folders`);
    if (parts.some((part) => Buffer.byteLength(part) > componentBytesMax))
      throw refuseArchive(`a part of the name ${quote(name)} is longer than ${componentBytesMax} bytes`);
    if (parts.length === 0 && entry.type !== "folder") throw refuseArchive("an entry of the archive has no name");
    return parts.join("/");
  }

  #claim(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes > this.#limits.unpackedBytes)
      throw refuseArchive(`more than ${this.#limits.unpackedBytes} bytes are in the archive`);
  }

  async #makeFolder(path: string, name: string): Promise<void> {
    const known = this.tree.get(path);
    if (known?.kind === "folder") return;
    if (known !== undefined) throw refuseArchive(`${quote(name)} is a folder and a ${known.kind} in one archive`);
    await this.#makeParents(path, name);
    this.tree.set(path, { kind: "folder" });
    await mkdir(join(this.#folder, path), { mode: 0o755 });
  }

  /** Every component above `path` is a folder of this archive, or becomes one. */
  async #makeParents(path: string, name: string): Promise<void> {
    for (let at = path.indexOf("/"); at > 0; at = path.indexOf("/", at + 1)) {
      const above = path.slice(0, at);
      const known = this.tree.get(above);
      if (known === undefined) {
        // Implied folders are files of ours all the same: they count.
        this.#entries += 1;
        if (this.#entries > this.#limits.entries)
          throw refuseArchive(`more than ${this.#limits.entries} entries are in the archive`);
        this.tree.set(above, { kind: "folder" });
        await mkdir(join(this.#folder, above), { mode: 0o755 });
      } else if (known.kind !== "folder")
        throw refuseArchive(`${quote(name)} goes through ${quote(above)}, which is a ${known.kind}, not a folder`);
    }
  }

  #noteLink(path: string, entry: TarEntry): void {
    if (Buffer.byteLength(entry.linkTarget) > this.#limits.pathBytes)
      throw refuseArchive(`the target of the link ${quote(entry.name)} is longer than ${this.#limits.pathBytes} bytes`);
    this.#links.set(path, entry.linkTarget);
    this.tree.set(path, { kind: "symlink", target: entry.linkTarget });
  }

  /** To a regular file of this archive that is already there. Its bytes count again: whoever copies the tree pays them. */
  async #makeHardLink(path: string, entry: TarEntry): Promise<void> {
    const target = this.#pathOf({ ...entry, name: entry.linkTarget, type: "file" });
    await this.settle();
    const known = this.tree.get(target);
    if (known?.kind !== "file")
      throw refuseArchive(
        `${quote(entry.name)} is a hard link to ${quote(entry.linkTarget)}, which is no file of this archive before it`,
      );
    this.#claim(known.bytes);
    await link(known.at, join(this.#folder, path));
    this.tree.set(path, { ...known, at: join(this.#folder, path) });
  }

  async #makeFile(path: string, entry: TarEntry, reader: TarReader): Promise<void> {
    const at = join(this.#folder, path);
    const mode = entry.executable ? 0o755 : 0o644;
    const hash = createHash("sha256");
    const done = (): void => {
      this.tree.set(path, {
        kind: "file",
        executable: entry.executable,
        bytes: entry.bytes,
        hash: hash.digest("hex"),
        at,
      });
    };
    if (entry.bytes > smallBytes) {
      await writeLarge(at, mode, reader, hash);
      done();
      return;
    }
    const parts: Uint8Array[] = [];
    for (let part = await reader.chunk(); part !== null; part = await reader.chunk()) {
      hash.update(part);
      parts.push(part);
    }
    done();
    // The parts are views of chunks of 64 KiB: copied once here, so that few chunks are held by many small files.
    const writing = writeSmall(at, mode, Buffer.concat(parts)).catch((error: unknown) => {
      if (!this.#failed) this.#failure = error;
      this.#failed = true;
    });
    const tracked = writing.finally(() => this.#writes.delete(tracked));
    this.#writes.add(tracked);
    if (this.#writes.size >= writesAtOnce) await Promise.race(this.#writes);
  }
}

async function writeSmall(at: string, mode: number, contents: Uint8Array): Promise<void> {
  const file = await open(at, create, mode);
  try {
    await writeAll(file, contents);
  } finally {
    await file.close();
  }
}

async function writeLarge(at: string, mode: number, reader: TarReader, hash: Hash): Promise<void> {
  const file = await open(at, create, mode);
  try {
    for (let part = await reader.chunk(); part !== null; part = await reader.chunk()) {
      hash.update(part);
      await writeAll(file, part);
    }
  } finally {
    await file.close();
  }
}

async function writeAll(file: FileHandle, contents: Uint8Array): Promise<void> {
  for (let written = 0; written < contents.length;)
    written += (await file.write(contents, written, contents.length - written)).bytesWritten;
}

/** Feeds a stream with back-pressure; an error of the source becomes the stream's. Never rejects. */
async function pump(source: AsyncGenerator<Uint8Array>, into: ReturnType<typeof createGunzip>): Promise<void> {
  const closed = new Promise<void>((resolve) => void into.once("close", resolve));
  try {
    for await (const chunk of source) {
      if (into.destroyed) return;
      if (!into.write(chunk)) await Promise.race([new Promise((resolve) => into.once("drain", resolve)), closed]);
    }
    into.end();
  } catch (error) {
    into.destroy(error instanceof Error ? error : new Error(String(error)));
  }
}

function tooLarge(message: string): EbbError {
  return new EbbError("payload_too_large", message);
}

/** The words for what a library or the system says about the archive. */
function wordsFor(error: unknown): unknown {
  const code = errnoOf(error) ?? "";
  if (code === "Z_BUF_ERROR") return refuseArchive("the archive was cut short");
  if (code === "ERR_TRAILING_JUNK_AFTER_STREAM_END") return refuseArchive("something follows the end of the archive");
  if (code.startsWith("Z_")) return refuseArchive("the archive is not gzipped, or it is damaged");
  if (code === "ENOSPC" || code === "EDQUOT")
    return new EbbError("storage_full", "there is no room to unpack the archive", { cause: error });
  if (code === "ECONNRESET" || code === "ERR_STREAM_PREMATURE_CLOSE") return refuseArchive("the archive was cut short");
  return error;
}
