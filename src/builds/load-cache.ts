// Compiled code beside the code that it is of: one folder for a project's code and entry, laid over the code in its sandboxes.
// A tenant's load check wrote it, so it is that tenant's alone: the same code in another project has its own, or none.

import { createHash } from "node:crypto";
import { chmod, lstat, mkdir, open, readdir, realpath, rename, stat, utimes } from "node:fs/promises";
import { dirname, join } from "node:path";
import { eachLimited } from "#lib/each-limited.ts";
import { errnoOf } from "#lib/errno.ts";
import type { Clock } from "#model/clock.ts";
import { EbbError } from "#model/errors.ts";
import { loadCacheLimits } from "#model/limits.ts";
import { randomHex } from "#model/ids.ts";
import type { FunctionRevision, Revision } from "#model/workload.ts";
import { graceMs } from "./code-store.ts";
import type { LoadCaches } from "./door.ts";
import { versionOf } from "./interpreters.ts";
import { readLoadCache, type LoadCacheFile } from "./load-cache-archive.ts";
import type { Remove } from "./remove.ts";

export interface LoadCacheOptions {
  readonly folder: string;
  /** Folder of a digest's code. */
  readonly codeOf: (digest: string) => string;
  readonly clock: Pick<Clock, "wallMs">;
  readonly remove: Remove;
}

const atOnce = 8;
const nameShape = /^[a-z][-a-z0-9]*\/([0-9a-f]{64})-[0-9a-f]{16}$/;
/** Begins the names of what is not finished, or on its way out. */
const unfinishedMark = ".";

export class LoadCacheStore implements LoadCaches {
  readonly #options: LoadCacheOptions;
  /** By name; asked at every start, so it is not looked up on the disk. */
  readonly #known = new Set<string>();

  constructor(options: LoadCacheOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    const { folder, remove } = this.#options;
    await mkdir(folder, { recursive: true });
    await chmod(folder, 0o711);
    this.#known.clear();
    for (const project of await readdir(folder)) {
      if (project.startsWith(unfinishedMark)) await remove(join(folder, project));
      else
        for (const name of await readdir(join(folder, project)))
          if (name.startsWith(unfinishedMark)) await remove(join(folder, project, name));
          else this.#known.add(`${project}/${name}`);
    }
  }

  of(revision: Revision): string | null {
    if (this.#known.size === 0) return null;
    if (revision.kind !== "function") return null;
    const name = nameOf(revision, revision.settings.entry);
    return this.#known.has(name) ? name : null;
  }

  folderOf(name: string): string {
    if (!nameShape.test(name)) throw new EbbError("internal", `"${name}" is no name of compiled code`);
    return join(this.#options.folder, name);
  }

  async keep(revision: FunctionRevision, entry: string | null, packed: Uint8Array): Promise<boolean> {
    const name = nameOf(revision, entry);
    if (this.#known.has(name)) return true;
    // Of a bundle's CommonJS V8 keeps little, since nothing of it has run when Node asks; what it keeps spares looking through all of it.
    const fewestBytes = (await this.#isLarge(revision, entry)) ? 1 : loadCacheLimits.fewestBytes;
    const files = await readLoadCache(packed, revision.settings.runtime, fewestBytes);
    if (files === null) return false;
    await this.#refuseStrangers(files, this.#options.codeOf(revision.codeDigest));
    const target = this.folderOf(name);
    const unfinished = join(dirname(target), `${unfinishedMark}${randomHex(8)}`);
    await mkdir(dirname(target), { recursive: true });
    await chmod(dirname(target), 0o711);
    try {
      await fill(unfinished, files);
      const seconds = this.#options.clock.wallMs() / 1_000;
      await utimes(unfinished, seconds, seconds);
      await rename(unfinished, target);
    } catch (error) {
      await this.#options.remove(unfinished);
      // Another check of the same was first.
      if (!["EEXIST", "ENOTEMPTY"].includes(errnoOf(error) ?? "")) throw error;
    }
    this.#known.add(name);
    return true;
  }

  /** The entry alone is worth it; of a bundle it is a link to that. */
  async #isLarge({ codeDigest }: FunctionRevision, entry: string | null): Promise<boolean> {
    const placed = (path: string): Promise<string | null> => realpath(path).catch(() => null);
    const code = await placed(this.#options.codeOf(codeDigest));
    const file = code === null || entry === null ? null : await placed(join(code, entry));
    // What the entry is called a tenant's process has said.
    if (!file?.startsWith(`${code}/`)) return false;
    const found = await stat(file);
    return found.isFile() && found.size >= loadCacheLimits.fewestBytes;
  }

  /** A layer's file or folder hides what is below it: nothing but folders may meet folders, and each file has its source. */
  async #refuseStrangers(files: readonly LoadCacheFile[], code: string): Promise<void> {
    const folders = new Set<string>();
    for (const { path } of files) for (let at = dirname(path); at !== "."; at = dirname(at)) folders.add(at);
    await eachLimited([...folders], atOnce, async (path) => {
      const found = await lstat(join(code, path)).catch(() => null);
      if (found !== null && !found.isDirectory()) throw new RangeError("it would hide a file of the code");
    });
    await eachLimited(files, atOnce, async ({ source }) => {
      const found = source === null ? null : await lstat(join(code, source)).catch(() => null);
      if (source !== null && !found?.isFile()) throw new RangeError("it is of a file that the code has not");
    });
  }

  async forget(project: string): Promise<void> {
    for (const name of this.#known) if (name.startsWith(`${project}/`)) this.#known.delete(name);
    await this.#away(project);
  }

  /** What is of code that nobody names; answers how many. */
  async collect(named: ReadonlySet<string>): Promise<number> {
    let count = 0;
    for (const name of this.#known) {
      if (named.has(nameShape.exec(name)?.[1] ?? "")) continue;
      const found = await stat(join(this.#options.folder, name)).catch(() => null);
      if (found !== null && Math.abs(this.#options.clock.wallMs() - found.mtimeMs) < graceMs) continue;
      this.#known.delete(name);
      await this.#away(name);
      count += 1;
    }
    return count;
  }

  async #away(name: string): Promise<void> {
    const away = join(this.#options.folder, `${unfinishedMark}${randomHex(8)}`);
    try {
      await rename(join(this.#options.folder, name), away);
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return;
      throw error;
    }
    await this.#options.remove(away);
  }
}

/** The interpreter's version is in it: what another one made is of no use, and the next check makes it anew. */
function nameOf({ project, codeDigest, settings }: FunctionRevision, entry: string | null): string {
  const hash = createHash("sha256").update(JSON.stringify([versionOf(settings.runtime), entry]));
  return `${project}/${codeDigest}-${hash.digest("hex").slice(0, 16)}`;
}

/** Durable before it has its name: Python takes a file that a power cut has emptied for its bytecode. */
async function fill(folder: string, files: readonly LoadCacheFile[]): Promise<void> {
  const folders = new Set<string>([folder]);
  for (const { path } of files)
    for (let at = dirname(path); at !== "."; at = dirname(at)) folders.add(join(folder, at));
  const sorted = [...folders].toSorted();
  for (const path of sorted) {
    await mkdir(path);
    await chmod(path, 0o755);
  }
  await eachLimited(files, atOnce, async ({ path, contents }) => {
    const file = await open(join(folder, path), "wx", 0o444);
    try {
      await file.writeFile(contents);
      await file.chmod(0o444);
      await file.sync();
    } finally {
      await file.close();
    }
  });
  for (const path of sorted.toReversed()) await chmod(path, 0o555);
}
