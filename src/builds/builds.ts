// The room: receives archives, makes code of them, keeps it by its content, and throws away what nobody names.

import { chmod, mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import type { Fleet } from "#fleet/door.ts";
import type { Cancel, Clock } from "#model/clock.ts";
import { EbbError } from "#model/errors.ts";
import type { Tell } from "#model/fact.ts";
import { newErrorId, randomHex } from "#model/ids.ts";
import { deployLimits } from "#model/limits.ts";
import type { Spawner } from "#spawner/door.ts";
import { bundle } from "./bundle.ts";
import { CodeStore } from "./code-store.ts";
import type { BuiltCode, Builds, Upload } from "./door.ts";
import { LoadCacheStore } from "./load-cache.ts";
import { createRemove, type Remove } from "./remove.ts";
import { type Toolbox, transpile } from "./transpile.ts";
import { digestOf, sizeOf, subtree, type Tree } from "./tree.ts";
import { unpack } from "./unpack.ts";

export interface BuildsOptions {
  /** Ours alone; on one file system, so that code is linked and not copied. */
  readonly directory: string;
  /** Runs one program in a sandbox: fleet.run. */
  readonly run: Fleet["run"];
  readonly spawner: Pick<Spawner, "exec">;
  readonly tell: Tell;
  readonly clock: Clock;
  readonly toolbox: Toolbox;
}

/** Sources whose code is known: a deploy of many functions, one of them changed, transpiles one. */
const rememberedMax = 2_000;

export function createBuilds(options: BuildsOptions): Builds {
  return new BuildsRoom(options);
}

class BuildsRoom implements Builds {
  readonly loadCaches: LoadCacheStore;
  readonly #options: BuildsOptions;
  readonly #uploads: string;
  readonly #store: CodeStore;
  readonly #remove: Remove;
  readonly #trees = new WeakMap<Upload, Tree>();
  /** Digest of a source, and the entry of its bundle, to what became of it; the oldest goes first. */
  readonly #built = new Map<string, BuiltCode>();
  #stopping = false;

  constructor(options: BuildsOptions) {
    this.#options = options;
    this.#uploads = join(options.directory, "uploads");
    this.#remove = createRemove(options.spawner);
    this.#store = new CodeStore(join(options.directory, "code"), options.clock, this.#remove);
    this.loadCaches = new LoadCacheStore({
      folder: join(options.directory, "load-caches"),
      codeOf: (digest) => this.folderOf(digest),
      clock: options.clock,
      remove: this.#remove,
    });
  }

  async start(): Promise<void> {
    this.#stopping = false;
    await mkdir(this.#uploads, { recursive: true });
    // Passed through by the engine on its way to what a build may see, never listed.
    await chmod(this.#uploads, 0o711);
    for (const name of await readdir(this.#uploads)) await this.#remove(join(this.#uploads, name));
    await this.#store.start();
    await this.loadCaches.start();
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    for (const name of await readdir(this.#uploads).catch(() => [])) await this.#remove(join(this.#uploads, name));
  }

  async receive(archive: Readable): Promise<Upload> {
    if (this.#stopping) {
      archive.destroy();
      throw new EbbError("stopping", "ebb is stopping; send it again when it is back");
    }
    const own = await this.#workFolder();
    const folder = join(own, "tree");
    const patience = new Patience(archive, this.#options.clock);
    try {
      await mkdir(folder, { mode: 0o700 });
      const tree = await unpack(archive, folder, deployLimits, () => patience.arrived());
      const upload: Upload = {
        folder,
        entries: tree.size,
        bytes: sizeOf(tree).bytes,
        discard: () => this.#discard(own),
      };
      this.#trees.set(upload, tree);
      return upload;
    } catch (error) {
      archive.destroy();
      await this.#discard(own);
      throw error;
    } finally {
      patience.end();
    }
  }

  async build(upload: Upload, source: string, bundled: string | null = null): Promise<BuiltCode> {
    const whole = this.#trees.get(upload);
    if (!whole) throw new EbbError("internal", "what was never received cannot be built");
    const tree = subtree(whole, canonical(source));
    const sourceDigest = `${digestOf(tree)} ${bundled ?? ""}`;
    const known = this.#built.get(sourceDigest);
    if (known && (await this.#store.touch(known.digest))) return known;
    const [work, beside] = [await this.#workFolder(), await this.#workFolder()];
    try {
      const { toolbox, run } = this.#options;
      const made = await transpile(tree, work, toolbox, run);
      const ran = bundled === null ? made.tree : await bundle(made.tree, tree, bundled, beside, toolbox, run);
      const digest = await this.#store.add(ran);
      const built: BuiltCode = { digest, ...sizeOf(ran), transpiled: made.transpiled };
      this.#remember(sourceDigest, built);
      return built;
    } finally {
      await Promise.all([work, beside].map((folder) => this.#discard(folder)));
    }
  }

  folderOf(digest: string): string {
    return this.#store.folderOf(digest);
  }

  async collect(named: ReadonlySet<string>): Promise<number> {
    await this.loadCaches.collect(named);
    return this.#store.collect(named);
  }

  #remember(sourceDigest: string, built: BuiltCode): void {
    this.#built.delete(sourceDigest);
    this.#built.set(sourceDigest, built);
    if (this.#built.size > rememberedMax) this.#built.delete(this.#built.keys().next().value!);
  }

  async #workFolder(): Promise<string> {
    const folder = join(this.#uploads, randomHex(16));
    await mkdir(folder);
    await chmod(folder, 0o711);
    return folder;
  }

  /** What cannot be removed now is removed at the next start: nobody waits for it, or fails by it. */
  async #discard(folder: string): Promise<void> {
    try {
      await this.#remove(folder);
    } catch (error) {
      this.#options.tell({ kind: "defect", errorId: newErrorId(), where: "builds: removing an upload", error });
    }
  }
}

/** Ends an upload that has stopped coming, or never ends: whoever sends it holds a place that others want. */
class Patience {
  readonly #archive: Readable;
  readonly #clock: Clock;
  readonly #cancelAll: Cancel;
  #cancelStall: Cancel;

  constructor(archive: Readable, clock: Clock) {
    this.#archive = archive;
    this.#clock = clock;
    // Whoever reads it hears of it; nobody may be reading yet.
    archive.on("error", () => {});
    this.#cancelAll = clock.after(deployLimits.uploadMs, () => this.#giveUp(deployLimits.uploadMs, "took longer than"));
    this.#cancelStall = this.#wait();
  }

  arrived(): void {
    this.#cancelStall();
    this.#cancelStall = this.#wait();
  }

  end(): void {
    this.#cancelAll();
    this.#cancelStall();
  }

  #wait(): Cancel {
    const { uploadStallMs } = deployLimits;
    return this.#clock.after(uploadStallMs, () => this.#giveUp(uploadStallMs, "stopped coming for"));
  }

  #giveUp(afterMs: number, what: string): void {
    this.#archive.destroy(new EbbError("request_timeout", `the archive ${what} ${afterMs / 1_000} s`));
  }
}

/** "./api/" and "api" are the same source; what leads out names nothing in the tree. */
function canonical(source: string): string {
  const parts = source.split("/").filter((part) => part !== "" && part !== ".");
  return parts.length === 0 ? "." : parts.join("/");
}
