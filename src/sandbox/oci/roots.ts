// Read-only roots of sandboxes: one folder a runtime version, named by what is in it, built once and never changed.

import { createHash } from "node:crypto";
import { chmod, copyFile, link, mkdir, readdir, rename, rm, stat, symlink, utimes, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { systemClock } from "#model/clock.ts";
import { randomHex } from "#model/ids.ts";
import { sandboxLimits } from "#model/limits.ts";
import type { RuntimeName } from "#model/workload.ts";
import type { Spawner } from "#spawner/door.ts";
import { compilePython, type Exec } from "./bytecode.ts";
import { planOf, type Entry, type Plan, type PlanSources } from "./plan.ts";

/** The second layer of an overlay that shows one folder: overlayfs wants two. */
export const emptyLayer = "empty";

const unusedMs = sandboxLimits.rootUnusedDays * 86_400_000;

export interface RootsOptions {
  /** <data>/roots */
  readonly folder: string;
  readonly runDir: string;
  readonly spawner: Pick<Spawner, "exec" | "make">;
  readonly node: PlanSources["node"];
  readonly shims: string;
}

export class Roots {
  readonly #options: RootsOptions;
  readonly #mounted = new Map<string, Promise<string>>();
  readonly #byDigest = new Map<string, Promise<string>>();

  constructor(options: RootsOptions) {
    this.#options = options;
  }

  async start(nowMs = systemClock.wallMs()): Promise<void> {
    const { folder, runDir } = this.#options;
    await mkdir(join(folder, emptyLayer), { recursive: true, mode: 0o755 });
    await mkdir(join(runDir, "roots"), { recursive: true, mode: 0o711 });
    // In an inherited run directory: of what lives on.
    const mounted = new Set(await readdir(join(runDir, "roots")));
    for (const name of await readdir(folder)) {
      if (name === emptyLayer || mounted.has(name)) continue;
      // A crash left it half built; or it is of a machine whose packages were upgraded since.
      if (name.startsWith(".") || nowMs - (await stat(join(folder, name))).mtimeMs > unusedMs)
        await rm(join(folder, name), { recursive: true, force: true });
    }
  }

  /** Path of the mounted root; built at the first call, which may take seconds. A failure is not remembered. */
  of(runtime: RuntimeName): Promise<string> {
    return this.#of(runtime, runtime, this.#options.node);
  }

  /** For programs: all that runtime custom has, with the Node that this runtime means. */
  withTools(runtime: RuntimeName): Promise<string> {
    if (runtime !== "node22" && runtime !== "node24") return this.of("custom");
    return this.#of(`custom, ${runtime}`, "custom", () => this.#options.node(runtime));
  }

  #of(name: string, runtime: RuntimeName, node: PlanSources["node"]): Promise<string> {
    const known = this.#mounted.get(name);
    if (known) return known;
    const made = this.#make(runtime, node);
    this.#mounted.set(name, made);
    made.catch(() => this.#mounted.delete(name));
    return made;
  }

  async #make(runtime: RuntimeName, node: PlanSources["node"]): Promise<string> {
    const { spawner, shims, folder } = this.#options;
    const plan = await planOf(runtime, { node, shims, run: (argv) => spawner.exec(argv) });
    const { digest, modes } = await digestOf(plan);
    if (await isFolder(join(folder, digest))) await usedNow(join(folder, digest));
    else await build(plan, modes, folder, digest, (argv) => spawner.exec(argv));
    const known = this.#byDigest.get(digest);
    if (known) return known;
    const mounted = this.#mount(digest);
    this.#byDigest.set(digest, mounted);
    mounted.catch(() => this.#byDigest.delete(digest));
    return mounted;
  }

  async #mount(digest: string): Promise<string> {
    const { folder, runDir, spawner } = this.#options;
    const target = join(runDir, "roots", digest);
    // An inherited run directory has it already.
    await mkdir(target, { recursive: true, mode: 0o755 });
    await spawner.make({
      owner: "spawner",
      things: [{ kind: "overlay", base: folder, lower: [digest, emptyLayer], target, source: join(folder, digest) }],
      undo: [{ kind: "unmount", path: target }],
    });
    return target;
  }
}

/** The time of its folder says so, since that is never changed for anything else. */
async function usedNow(root: string): Promise<void> {
  const seconds = systemClock.wallMs() / 1_000;
  await utimes(root, seconds, seconds);
}

/** Of the machine's files, by their path. */
type Modes = ReadonlyMap<string, number>;

/** Files of the machine count by identity (a package upgrade replaces them), our own texts by content. */
async function digestOf(plan: Plan): Promise<{ digest: string; modes: Modes }> {
  const hash = createHash("sha256");
  const modes = new Map<string, number>();
  const stats = await inBatches([...plan].toSorted(byPath), async ([path, entry]) => {
    if (entry.kind !== "file") return `${path}\0${JSON.stringify(entry)}\n`;
    const { size, mtimeMs, ino, mode } = await stat(entry.source);
    modes.set(entry.source, mode);
    return `${path}\0${entry.source}\0${size} ${mtimeMs} ${ino} ${entry.executable}\n`;
  });
  for (const line of stats) hash.update(line);
  return { digest: hash.digest("hex").slice(0, 24), modes };
}

async function build(plan: Plan, modes: Modes, folder: string, digest: string, exec: Exec): Promise<void> {
  const unfinished = join(folder, `.${digest}.${randomHex(4)}`);
  await mkdir(unfinished, { recursive: true, mode: 0o755 });
  // The umask of whoever started ebb is not a property of a root.
  await chmod(unfinished, 0o755);
  const entries = [...plan].toSorted(byPath);
  const folders = new Set<string>();
  for (const [path, entry] of entries) {
    for (let at = entry.kind === "folder" ? path : dirname(path); at !== "."; at = dirname(at)) folders.add(at);
  }
  for (const path of [...folders].toSorted((a, b) => (a < b ? -1 : 1))) {
    const entry = plan.get(path);
    if (entry?.kind === "link") continue;
    await mkdir(join(unfinished, path), { recursive: true });
    await chmod(join(unfinished, path), entry?.kind === "folder" ? entry.mode : 0o755);
  }
  await inBatches(entries, ([path, entry]) => place(entry, modes, join(unfinished, path)));
  const python = plan.get("usr/bin/python3");
  if (python?.kind === "file") await compilePython(unfinished, python.source, exec);
  try {
    await rename(unfinished, join(folder, digest));
  } catch (error) {
    await rm(unfinished, { recursive: true, force: true });
    // Another start of the same root was first.
    if (!(await isFolder(join(folder, digest)))) throw error;
  }
}

async function place(entry: Entry, modes: Modes, target: string): Promise<void> {
  switch (entry.kind) {
    case "folder":
      return;
    case "link":
      await symlink(entry.to, target);
      return;
    case "text":
      await writeFile(target, entry.text);
      await chmod(target, entry.executable ? 0o755 : 0o644);
      return;
    case "file":
      await linkOrCopy(entry, modes.get(entry.source)!, target);
  }
}

/** A hard link shares the page cache with the machine's own copy; across file systems, or where its mode would not do, a copy. */
async function linkOrCopy(entry: Extract<Entry, { kind: "file" }>, mode: number, target: string): Promise<void> {
  const wanted = entry.executable ? 0o555 : 0o444;
  if ((mode & wanted) === wanted && (mode & 0o7000) === 0) {
    try {
      await link(entry.source, target);
      return;
    } catch {
      // EXDEV, EMLINK or EPERM: copied below.
    }
  }
  await copyFile(entry.source, target);
  await chmod(target, wanted | 0o200);
}

function byPath(a: readonly [string, unknown], b: readonly [string, unknown]): number {
  return a[0] < b[0] ? -1 : 1;
}

const batch = 32;

/** In order of the items; so many at a time that the thread pool is busy and memory is not. */
async function inBatches<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let at = 0; at < items.length; at += batch)
    results.push(...(await Promise.all(items.slice(at, at + batch).map(work))));
  return results;
}

function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}
