// Unpacks one layer into a folder of its own, as overlayfs wants it. What has no business in an image is left out or refused:
// docs/decisions/images.md has the table.

import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  futimesSync,
  lchownSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  openSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  chmodSync,
  writeSync,
} from "node:fs";
import { type LayerEntry, LayerRefused, LayerTar, quote } from "./layer-tar.ts";
import type { System } from "./system.ts";

export interface LayerBounds {
  readonly pathBytes: number;
  readonly pathDepth: number;
  /** Ids that an image may use: those that a sandbox has. */
  readonly ids: number;
}

/** What is left of an image's bounds: each layer takes of it. */
export interface Allowance {
  entries: number;
  bytes: number;
}

export interface Unpacked {
  readonly entries: number;
  readonly bytes: number;
  /** Entries that were left out, and set-id bits and capabilities that were taken off. */
  readonly defused: number;
}

type Kind = "folder" | "file" | "link" | "whiteout" | "left out";

/** Mounted over in every sandbox: what an image has below them is never seen, and is not trusted to be harmless. */
const mountedOver: ReadonlySet<string> = new Set(["proc", "sys", "dev"]);
/** Must be folders, for something is mounted on them or in them. */
const foldersOnly: ReadonlySet<string> = new Set([...mountedOver, "etc"]);
/** Likewise, but links in real images: without them the sandbox makes the folder. */
const foldersOrNothing: ReadonlySet<string> = new Set(["run", "tmp"]);
const nobody = 65_534;
const setIds = 0o6000;

export async function unpackLayer(
  source: AsyncIterable<Uint8Array>,
  root: string,
  left: Allowance,
  bounds: LayerBounds,
  system: System,
): Promise<Unpacked> {
  const layer = new Layer(root, bounds, left, system);
  const tar = new LayerTar(source);
  const before = { ...left };
  for (let entry = await tar.next(); entry !== null; entry = await tar.next()) {
    layer.count();
    left.bytes -= entry.bytes;
    if (left.bytes < 0) throw new LayerRefused("the image is too large when it is unpacked");
    const fd = layer.place(entry);
    if (fd === null) continue;
    try {
      for (let chunk = await tar.chunk(); chunk !== null; chunk = await tar.chunk()) {
        for (let at = 0; at < chunk.length;) at += writeSync(fd, chunk, at);
      }
      futimesSync(fd, entry.mtimeSeconds, entry.mtimeSeconds);
    } finally {
      closeSync(fd);
    }
  }
  layer.finish();
  return { entries: before.entries - left.entries, bytes: before.bytes - left.bytes, defused: layer.defused };
}

class Layer {
  defused = 0;
  readonly #root: string;
  readonly #bounds: LayerBounds;
  readonly #left: Allowance;
  readonly #system: System;
  /** Every path of this layer: nothing is ever written through what is not a folder that was made here. */
  readonly #kinds = new Map<string, Kind>();
  readonly #folderTimes = new Map<string, number>();

  constructor(root: string, bounds: LayerBounds, left: Allowance, system: System) {
    this.#root = root;
    this.#bounds = bounds;
    this.#left = left;
    this.#system = system;
  }

  /** One more file or folder. */
  count(): void {
    if (--this.#left.entries < 0) throw new LayerRefused("the image has too many files");
  }

  /** The open file whose content comes next; null: there is none. */
  place(entry: LayerEntry): number | null {
    const parts = this.#partsOf(entry.name);
    const path = parts.join("/");
    if (parts.length === 0) {
      if (entry.type !== "folder") throw new LayerRefused(`the root of a layer is no folder`);
      this.#dress(this.#root, entry);
      return null;
    }
    if (this.#isLeftOut(parts, entry)) {
      this.#kinds.set(path, "left out");
      this.defused += 1;
      return null;
    }
    this.#makeParents(parts);
    const name = parts.at(-1)!;
    if (name.startsWith(".wh.")) this.#markGone(parts, name.slice(4));
    else if (entry.type === "folder") this.#makeFolder(path, entry);
    else return this.#makeOther(path, entry);
    return null;
  }

  /** What was written into folders has changed their times. */
  finish(): void {
    for (const [path, seconds] of this.#folderTimes) utimesSync(this.#at(path), seconds, seconds);
  }

  #at(path: string): string {
    return `${this.#root}/${path}`;
  }

  #partsOf(name: string): string[] {
    const { pathBytes, pathDepth } = this.#bounds;
    if (Buffer.byteLength(name) > pathBytes || name.includes("\0"))
      throw new LayerRefused(`${quote(name)} in a layer is longer than ${pathBytes} bytes, or no name`);
    // "/etc/x" and "./etc/x" are the same: below the root.
    const parts = name.split("/").filter((part) => part !== "" && part !== ".");
    if (parts.includes("..")) throw new LayerRefused(`${quote(name)} in a layer leads out of it`);
    if (parts.length > pathDepth)
      throw new LayerRefused(`${quote(name)} in a layer is deeper than ${pathDepth} folders`);
    if (parts.some((part) => Buffer.byteLength(part) > 255))
      throw new LayerRefused(`${quote(name)} in a layer has a part of more than 255 bytes`);
    return parts;
  }

  #isLeftOut(parts: readonly string[], entry: LayerEntry): boolean {
    const top = parts[0]!;
    const plain = top.replace(/^\.wh\./, "");
    if (parts.length === 1 && foldersOnly.has(top) && entry.type !== "folder")
      throw new LayerRefused(
        `/${top} of the image is a ${entry.type === "symlink" ? "link" : entry.type}; it must be a folder`,
      );
    if (parts.length === 1 && foldersOrNothing.has(top) && entry.type !== "folder") return true;
    if (parts.length === 1 && top !== plain && foldersOnly.has(plain)) return true;
    if (parts.length > 1 && mountedOver.has(top)) return true;
    if (entry.type === "device") return true;
    return entry.type === "hardlink" && this.#kinds.get(this.#partsOf(entry.linkTarget).join("/")) === "left out";
  }

  #makeParents(parts: readonly string[]): void {
    for (let length = 1; length < parts.length; length++) {
      const above = parts.slice(0, length).join("/");
      const kind = this.#kinds.get(above);
      if (kind === "folder") continue;
      if (kind !== undefined && kind !== "whiteout")
        throw new LayerRefused(
          `${quote(parts.join("/"))} in a layer goes through ${quote(above)}, which is no folder of it`,
        );
      // No entry of its own has counted it.
      this.count();
      this.#newFolder(above, 0o755);
    }
  }

  #newFolder(path: string, mode: number): void {
    // The entry hides what the layers below have there, and so does the folder.
    const hides = this.#kinds.get(path) === "whiteout";
    if (hides) unlinkSync(this.#at(path));
    mkdirSync(this.#at(path), { mode });
    if (hides) this.#system.opaque(this.#at(path));
    this.#kinds.set(path, "folder");
  }

  #makeFolder(path: string, entry: LayerEntry): void {
    const kind = this.#kinds.get(path);
    if (kind !== undefined && kind !== "folder" && kind !== "whiteout")
      throw new LayerRefused(`${quote(path)} stands in a layer as a folder and as something else`);
    if (kind !== "folder") this.#newFolder(path, entry.mode);
    this.#dress(this.#at(path), entry);
    this.#folderTimes.set(path, entry.mtimeSeconds);
  }

  #dress(path: string, entry: LayerEntry): void {
    lchownSync(path, this.#id(entry.uid), this.#id(entry.gid));
    // A folder's set-group-id bit gives no right: what is made in it has its group.
    chmodSync(path, entry.mode & ~0o4000);
  }

  #makeOther(path: string, entry: LayerEntry): number | null {
    const kind = this.#kinds.get(path);
    if (kind === "folder") throw new LayerRefused(`${quote(path)} stands in a layer as a folder and as something else`);
    const target = entry.type === "hardlink" ? this.#targetOf(path, entry) : null;
    // A name that stands twice is what stands there last; what was a link first is not written through.
    if (kind !== undefined && kind !== "left out") unlinkSync(this.#at(path));
    this.#kinds.set(path, entry.type === "symlink" ? "link" : "file");
    if (target !== null) {
      this.#kinds.set(path, this.#kinds.get(target) ?? "file");
      linkSync(this.#at(target), this.#at(path));
      return null;
    }
    const [uid, gid] = [this.#id(entry.uid), this.#id(entry.gid)];
    if (entry.type === "symlink") {
      if (entry.linkTarget === "" || Buffer.byteLength(entry.linkTarget) > this.#bounds.pathBytes)
        throw new LayerRefused(`${quote(path)} in a layer is a link to nothing, or to too long a name`);
      symlinkSync(entry.linkTarget, this.#at(path));
      if (uid !== 0 || gid !== 0) lchownSync(this.#at(path), uid, gid);
      lutimesSync(this.#at(path), entry.mtimeSeconds, entry.mtimeSeconds);
      return null;
    }
    if ((entry.mode & setIds) !== 0 || entry.attributes) this.defused += 1;
    const mode = entry.mode & ~setIds;
    if (entry.type === "fifo") {
      this.#system.fifo(this.#at(path), mode);
      lchownSync(this.#at(path), uid, gid);
      return null;
    }
    const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
    const fd = openSync(this.#at(path), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode & 0o777);
    if (uid !== 0 || gid !== 0) fchownSync(fd, uid, gid);
    if (mode > 0o777) fchmodSync(fd, mode);
    return fd;
  }

  #targetOf(path: string, entry: LayerEntry): string {
    const target = this.#partsOf(entry.linkTarget).join("/");
    const kind = this.#kinds.get(target);
    if ((kind !== "file" && kind !== "link") || target === path)
      throw new LayerRefused(
        `${quote(path)} in a layer is a hard link to ${quote(entry.linkTarget)}, which is no file of it`,
      );
    return target;
  }

  #markGone(parts: readonly string[], name: string): void {
    const above = parts.slice(0, -1).join("/");
    if (name === ".wh..opq") return this.#system.opaque(above === "" ? this.#root : this.#at(above));
    // Of aufs, for itself.
    if (name.startsWith(".wh.")) return;
    if (name === "" || name === "." || name === "..")
      throw new LayerRefused(`${quote(parts.join("/"))} in a layer takes away what cannot be`);
    const path = above === "" ? name : `${above}/${name}`;
    // What this layer itself has there stays: it speaks of the layers below.
    if (this.#kinds.has(path)) return;
    this.#system.whiteout(this.#at(path));
    this.#kinds.set(path, "whiteout");
  }

  /** An owner that no sandbox has is nobody there. */
  #id(id: number): number {
    return id < this.#bounds.ids ? id : nobody;
  }
}
