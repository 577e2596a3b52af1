// Code by its content: one folder a digest, complete or not there at all, readable by every sandbox and never written again.

import { constants } from "node:fs";
import {
  chmod,
  copyFile,
  link,
  mkdir,
  open,
  readdir,
  rename,
  stat,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { eachLimited } from "#lib/each-limited.ts";
import { errnoOf } from "#lib/errno.ts";
import type { Clock } from "#model/clock.ts";
import { EbbError } from "#model/errors.ts";
import { randomHex } from "#model/ids.ts";
import type { Remove } from "./remove.ts";
import { digestOf, sortedPaths, type Tree, type TreeEntry } from "./tree.ts";

/** Code as young as this may belong to a revision that is just being committed. */
export const graceMs = 10 * 60_000;

const atOnce = 8;
const digestShape = /^[0-9a-f]{64}$/;
/** Begins the names of what is not finished; a crash leaves it, `start` removes it. */
const unfinishedMark = ".";

export class CodeStore {
  readonly #folder: string;
  readonly #clock: Pick<Clock, "wallMs">;
  readonly #remove: Remove;
  /** One writer a digest: the second waits for the first. */
  readonly #storing = new Map<string, Promise<void>>();

  constructor(folder: string, clock: Pick<Clock, "wallMs">, remove: Remove) {
    this.#folder = folder;
    this.#clock = clock;
    this.#remove = remove;
  }

  async start(): Promise<void> {
    await mkdir(this.#folder, { recursive: true });
    // Engines look paths up as nobody in particular: they pass through, and list nothing.
    await chmod(this.#folder, 0o711);
    // Node asks the folders above code without a package.json what it is: it must not find ebb's own, which stands above .ebb/.
    await writeFile(join(this.#folder, "package.json"), "{}\n");
    for (const name of await readdir(this.#folder))
      if (name.startsWith(unfinishedMark)) await this.#remove(join(this.#folder, name));
  }

  folderOf(digest: string): string {
    if (!digestShape.test(digest)) throw new EbbError("internal", `"${digest}" is no digest of code`);
    return join(this.#folder, digest);
  }

  /** Stores the tree under its digest, and answers that. Its files are linked, not copied: whoever made them must not write them again. */
  async add(tree: Tree): Promise<string> {
    const digest = digestOf(tree);
    const running = this.#storing.get(digest);
    if (running) {
      await running;
      return digest;
    }
    const storing = this.#store(tree, digest);
    this.#storing.set(digest, storing);
    try {
      await storing;
    } finally {
      this.#storing.delete(digest);
    }
    return digest;
  }

  /** True when it is there; then it counts as young again, so that `collect` leaves it to whoever is about to name it. */
  async touch(digest: string): Promise<boolean> {
    const seconds = this.#clock.wallMs() / 1_000;
    try {
      await utimes(this.folderOf(digest), seconds, seconds);
      return true;
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return false;
      throw error;
    }
  }

  /** Deletes what is not named and not young; answers how many. */
  async collect(named: ReadonlySet<string>): Promise<number> {
    let count = 0;
    for (const name of await readdir(this.#folder)) {
      if (!digestShape.test(name) || named.has(name) || this.#storing.has(name)) continue;
      const path = join(this.#folder, name);
      const found = await stat(path).catch(() => null);
      // A clock that jumps ahead must not make everything old, nor one that jumps back keep it for ever.
      if (found === null || Math.abs(this.#clock.wallMs() - found.mtimeMs) < graceMs) continue;
      // Out of the way in one step: a half-deleted tree must never stand under its digest.
      const away = join(this.#folder, `${unfinishedMark}${randomHex(8)}`);
      await rename(path, away);
      await this.#remove(away);
      count += 1;
    }
    return count;
  }

  async #store(tree: Tree, digest: string): Promise<void> {
    if (await this.touch(digest)) return;
    const unfinished = join(this.#folder, `${unfinishedMark}${randomHex(8)}`);
    await mkdir(unfinished, { mode: 0o755 });
    try {
      await fill(unfinished, tree);
      const seconds = this.#clock.wallMs() / 1_000;
      await utimes(unfinished, seconds, seconds);
      await rename(unfinished, join(this.#folder, digest));
      await syncPath(this.#folder);
    } catch (error) {
      await this.#remove(unfinished);
      if (["EEXIST", "ENOTEMPTY"].includes(errnoOf(error) ?? "")) return; // stored meanwhile
      if (["ENOSPC", "EDQUOT"].includes(errnoOf(error) ?? ""))
        throw new EbbError("storage_full", "there is no room to store the code", { cause: error });
      throw error;
    }
  }
}

async function fill(folder: string, tree: Tree): Promise<void> {
  const paths = sortedPaths(tree);
  const folders = paths.filter((path) => tree.get(path)!.kind === "folder");
  for (const path of folders) await mkdir(join(folder, path), { mode: 0o755 });
  await eachLimited(
    paths.filter((path) => tree.get(path)!.kind !== "folder"),
    atOnce,
    (path) => place(tree.get(path)!, join(folder, path)),
  );
  // Children first: a folder's own fsync makes the names in it durable.
  for (const path of [...folders.toReversed(), "."]) {
    const at = join(folder, path);
    await chmod(at, 0o555);
    await syncPath(at);
  }
}

async function place(entry: TreeEntry, to: string): Promise<void> {
  if (entry.kind === "symlink") return symlink(entry.target, to);
  if (entry.kind === "folder") return;
  try {
    await link(entry.at, to);
  } catch (error) {
    // Another file system, or 65,000 links of one file already.
    if (!["EXDEV", "EMLINK", "EPERM"].includes(errnoOf(error) ?? "")) throw error;
    await copyFile(entry.at, to, constants.COPYFILE_EXCL);
  }
  const mode = entry.executable ? 0o555 : 0o444;
  const file = await open(to, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    await file.chmod(mode);
    // The revision that names this code is fsynced: so must be what it names, or a power cut leaves empty files under a good digest.
    await file.sync();
  } finally {
    await file.close();
  }
}

async function syncPath(path: string): Promise<void> {
  const folder = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
