// The program that makes a layer of what a command of a build has changed: overlayfs's upper folder becomes a tar. It is locked into that
// folder, and its plan comes on stdin, as it does for the program that unpacks. Nothing runs in the folder any more.

import { createHash } from "node:crypto";
import {
  closeSync,
  constants,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  type Stats,
  writeSync,
} from "node:fs";
import { once } from "node:events";
import { type Header, pack, type Pack } from "tar-stream";
import { answer } from "./answer.ts";
import { quote } from "./layer-tar.ts";
import { createSystem } from "./system.ts";

export interface PackPlan {
  /** Absolute: what was changed. */
  readonly changes: string;
  /** Absolute path of the tar, which is made here. */
  readonly layer: string;
  /** The host's id of the image's 0, and how many follow. */
  readonly firstId: number;
  readonly ids: number;
  /** Paths that are not the command's own: of these nothing is kept. */
  readonly leftOut: readonly string[];
  readonly bounds: {
    readonly entries: number;
    readonly bytes: number;
    readonly pathBytes: number;
    readonly pathDepth: number;
  };
}

export type PackResult =
  | { readonly digest: string; readonly bytes: number; readonly entries: number }
  /** What it was refused for. */
  | { readonly refused: string }
  | { readonly full: true };

class Refused extends Error {}

const nobody = 65_534;
const pieceBytes = 256 * 1024;
/** What the packer of tars can write. */
const latestSeconds = 2 ** 31 - 1;
/** Of the bound on content: heads, names and padding come to it. */
const tarShare = 2;

async function main(): Promise<PackResult> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- ebb's own words
  const plan = JSON.parse(readFileSync(0, "utf8")) as PackPlan;
  const system = createSystem();
  const { O_WRONLY, O_CREAT, O_EXCL } = constants;
  const fd = openSync(plan.layer, O_WRONLY | O_CREAT | O_EXCL, 0o600);
  system.chroot(plan.changes);
  const tar = pack();
  const hash = createHash("sha256");
  let bytes = 0;
  tar.on("data", (data: unknown) => {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what a tar is made of
    const piece = data as Buffer;
    hash.update(piece);
    bytes += piece.length;
    for (let at = 0; at < piece.length;) at += writeSync(fd, piece, at);
  });
  const ended = once(tar, "end");
  const isOpaque = (path: string): boolean => system.isOpaque(path);
  const changes = new Changes({ plan, tar, isOpaque, written: () => bytes });
  await changes.folder("", lstatSync("/"), 0);
  tar.finalize();
  await ended;
  return { digest: `sha256:${hash.digest("hex")}`, bytes, entries: changes.entries };
}

class Changes {
  entries = 0;
  #bytes = 0;
  readonly #plan: PackPlan;
  readonly #tar: Pack;
  readonly #isOpaque: (path: string) => boolean;
  /** Bytes of the tar so far. */
  readonly #written: () => number;
  readonly #leftOut: ReadonlySet<string>;
  /** Files of several names, by the first of them. */
  readonly #linked = new Map<number, string>();

  constructor(options: { plan: PackPlan; tar: Pack; isOpaque: (path: string) => boolean; written: () => number }) {
    const { plan, tar, isOpaque, written } = options;
    this.#plan = plan;
    this.#tar = tar;
    this.#isOpaque = isOpaque;
    this.#written = written;
    this.#leftOut = new Set(plan.leftOut);
  }

  async folder(path: string, stat: Stats, depth: number): Promise<void> {
    if (depth > this.#plan.bounds.pathDepth)
      throw new Refused(`${quote(path)} is deeper than ${this.#plan.bounds.pathDepth} folders`);
    await this.#entry(`${path}/`, stat, { type: "directory" });
    if (path !== "" && this.#isOpaque(`/${path}`)) await this.#entry(`${path}/.wh..wh..opq`, stat, { mode: 0o600 });
    const names = readdirSync(`/${path}`, { encoding: "buffer" }).toSorted((one, other) => one.compare(other));
    for (const bytes of names) {
      const name = bytes.toString("utf8");
      const below = path === "" ? name : `${path}/${name}`;
      if (!Buffer.from(name).equals(bytes))
        throw new Refused(`the name ${quote(bytes.toString("latin1"))} is not UTF-8`);
      if (Buffer.byteLength(below) > this.#plan.bounds.pathBytes)
        throw new Refused(`${quote(below)} is longer than ${this.#plan.bounds.pathBytes} bytes`);
      // A name by which layers say that another is gone.
      if (this.#leftOut.has(below) || name.startsWith(".wh.")) continue;
      const found = lstatSync(`/${below}`);
      if (found.isDirectory()) await this.folder(below, found, depth + 1);
      else await this.#other(path, name, below, found);
    }
  }

  async #other(folder: string, name: string, path: string, stat: Stats): Promise<void> {
    if (stat.isCharacterDevice() && stat.rdev === 0) {
      const gone = folder === "" ? `.wh.${name}` : `${folder}/.wh.${name}`;
      return this.#entry(gone, stat, { mode: 0o600 });
    }
    if (stat.isSymbolicLink()) {
      const target = readlinkSync(`/${path}`, { encoding: "buffer" });
      const linkname = target.toString("utf8");
      if (!Buffer.from(linkname).equals(target))
        throw new Refused(`${quote(path)} is a link to a name that is not UTF-8`);
      return this.#entry(path, stat, { type: "symlink", linkname });
    }
    if (stat.isFIFO()) return this.#entry(path, stat, { type: "fifo" });
    // Sockets are their programs', which have ended.
    if (!stat.isFile()) return;
    const first = this.#linked.get(stat.ino);
    if (first !== undefined) return this.#entry(path, stat, { type: "link", linkname: first });
    if (stat.nlink > 1) this.#linked.set(stat.ino, path);
    return this.#file(path, stat);
  }

  async #file(path: string, stat: Stats): Promise<void> {
    this.#bytes += stat.size;
    // A file may be all holes, and larger than what has room.
    if (this.#bytes > this.#plan.bounds.bytes) throw this.#tooLarge();
    const fd = openSync(`/${path}`, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const entry = this.#tar.entry({ ...this.#header(path, stat), size: stat.size });
      for (let left = stat.size; left > 0;) {
        const piece = Buffer.allocUnsafe(Math.min(pieceBytes, left));
        const read = readSync(fd, piece, 0, piece.length, null);
        if (read === 0) throw new Error(`a file of ${left} bytes less than it said`);
        left -= read;
        if (!entry.write(piece.subarray(0, read))) await once(entry, "drain");
      }
      entry.end(null);
    } finally {
      closeSync(fd);
    }
  }

  async #entry(name: string, stat: Stats, header: Partial<Header>): Promise<void> {
    this.#tar.entry({ ...this.#header(name, stat), ...header }, "");
  }

  #header(name: string, stat: Stats): Partial<Header> & { readonly name: string } {
    this.entries += 1;
    if (this.entries > this.#plan.bounds.entries) throw new Refused("it leaves too many files");
    // A link has cost next to nothing, and is written with two paths.
    if (this.#written() > this.#plan.bounds.bytes * tarShare) throw this.#tooLarge();
    return {
      name,
      mode: stat.mode & 0o7777,
      uid: this.#id(stat.uid),
      gid: this.#id(stat.gid),
      mtime: new Date(Math.min(latestSeconds, Math.max(0, Math.floor(stat.mtimeMs / 1_000))) * 1_000),
    };
  }

  #tooLarge(): Refused {
    return new Refused(`it leaves files of more than ${Math.floor(this.#plan.bounds.bytes / 1024 ** 2)} MiB`);
  }

  #id(id: number): number {
    const inside = id - this.#plan.firstId;
    return inside >= 0 && inside < this.#plan.ids ? inside : nobody;
  }
}

await answer<PackResult>(main, (error) => (error instanceof Refused ? { refused: error.message } : null));
