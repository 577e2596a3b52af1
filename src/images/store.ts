// What is kept: folders of layers, named by what is in them, and a record of each image. A record is written when all its layers
// are there, so that whatever is found without one was left by a fetch that did not end.

import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { errnoOf } from "#lib/errno.ts";
import type { Clock } from "#model/clock.ts";
import { randomHex } from "#model/ids.ts";
import { imageLimits } from "#model/limits.ts";
import type { Spawner } from "#spawner/door.ts";
import type { Image, ImageConfig } from "./door.ts";

export interface LayerRecord {
  /** Of the blob, as it was fetched. */
  readonly digest: string;
  /** Of its tar: names the folder. */
  readonly diffId: string;
  readonly bytes: number;
  readonly entries: number;
}

export interface ImageRecord {
  readonly version: 1;
  readonly digest: string;
  readonly reference: string;
  readonly config: ImageConfig;
  /** Lowest first. */
  readonly layers: readonly LayerRecord[];
  /** Who has fetched it. */
  readonly projects: readonly string[];
  readonly fetchedMs: number;
  /** Digest of all that it was built from; null: it was fetched. */
  readonly builtFrom: string | null;
  /** Under which boot it was written; until the disk has it all, a power cut makes it worth nothing. */
  readonly boot: string;
  readonly synced: boolean;
}

const syncMs = 10 * 60_000;
const removeMs = 10 * 60_000;

export class ImageStore {
  readonly folder: string;
  readonly staging: string;
  readonly #layers: string;
  readonly #records: string;
  readonly #spawner: Pick<Spawner, "exec">;
  readonly #clock: Clock;
  readonly #boot = readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
  readonly #images = new Map<string, ImageRecord>();
  /** Layers that fetches under way count on: by diffId, how many. */
  readonly #pinned = new Map<string, number>();
  readonly #ending = new AbortController();
  #syncing: Promise<void> = Promise.resolve();
  #writing: Promise<void> = Promise.resolve();

  constructor(folder: string, spawner: Pick<Spawner, "exec">, clock: Clock) {
    this.folder = folder;
    this.staging = join(folder, "staging");
    this.#layers = join(folder, "layers");
    this.#records = join(folder, "records");
    this.#spawner = spawner;
    this.#clock = clock;
  }

  async start(): Promise<void> {
    // 0711: who reads registries is nobody on this machine, and passes through to what is its own. Layers are root's alone.
    await mkdir(this.staging, { recursive: true, mode: 0o711 });
    await mkdir(this.#layers, { recursive: true, mode: 0o700 });
    await mkdir(this.#records, { recursive: true, mode: 0o700 });
    for (const name of await readdir(this.staging)) await this.remove(join(this.staging, name));
    const there = new Set(await readdir(this.#layers));
    for (const name of await readdir(this.#records)) {
      const record = await this.#read(join(this.#records, name));
      const whole = record?.layers.every(({ diffId }) => there.has(folderName(diffId))) ?? false;
      if (record && whole && (record.synced || record.boot === this.#boot)) this.#images.set(record.digest, record);
      else await this.remove(join(this.#records, name));
    }
    await this.#removeUnneeded();
    for (const record of this.#images.values()) if (!record.synced) this.#sync(record);
  }

  async stop(): Promise<void> {
    this.#ending.abort(new Error("ebb is stopping"));
    await this.#syncing;
    await this.#writing;
  }

  image(digest: string): Image | null {
    const record = this.#images.get(digest);
    return record ? this.#imageOf(record) : null;
  }

  /** null: it is not here, or this project has not fetched it. */
  recordFor(digest: string, project: string): ImageRecord | null {
    const record = this.#images.get(digest);
    return record?.projects.includes(project) === true ? record : null;
  }

  /** What this project has built of the very same. */
  builtFrom(source: string, project: string): ImageRecord | null {
    for (const record of this.#images.values())
      if (record.builtFrom === source && record.projects.includes(project)) return record;
    return null;
  }

  /** A layer that this project has fetched before, by the digest of its blob: it need not come again. */
  layerFor(digest: string, project: string): LayerRecord | null {
    for (const record of this.#images.values()) {
      if (!record.projects.includes(project)) continue;
      const found = record.layers.find((layer) => layer.digest === digest);
      if (found) return found;
    }
    return null;
  }

  /**
   * A layer that this project has, by what is in it. Of others' it would be a claim alone that the image's own blob is the same: nobody
   * has looked into that yet.
   */
  layer(diffId: string, project: string): LayerRecord | null {
    for (const { layers, projects } of this.#images.values()) {
      if (!projects.includes(project)) continue;
      const found = layers.find((layer) => layer.diffId === diffId);
      if (found) return found;
    }
    return null;
  }

  /** Keeps layers from being collected until the returned function is called. */
  pin(diffIds: readonly string[]): () => void {
    for (const id of diffIds) this.#pinned.set(id, (this.#pinned.get(id) ?? 0) + 1);
    return () => {
      for (const id of diffIds) {
        const count = (this.#pinned.get(id) ?? 1) - 1;
        if (count === 0) this.#pinned.delete(id);
        else this.#pinned.set(id, count);
      }
    };
  }

  /** Lowest first. One that an image has twice (empty ones are all the same) is in its upper place alone: there it hides what it hid below. */
  layerFolders(diffIds: readonly string[]): readonly string[] {
    return diffIds.filter((id, index) => !diffIds.includes(id, index + 1)).map((id) => this.#layerPath(id));
  }

  /** Moves an unpacked layer to its place; where another fetch was first, its own is as good. */
  async addLayer(folder: string, diffId: string): Promise<void> {
    try {
      await rename(folder, this.#layerPath(diffId));
    } catch (error) {
      const code = errnoOf(error);
      if (code !== "ENOTEMPTY" && code !== "EEXIST") throw error;
    }
  }

  /** All its layers are there, and pinned. */
  async add(
    found: Omit<ImageRecord, "version" | "boot" | "synced" | "projects" | "fetchedMs">,
    project: string,
  ): Promise<Image> {
    const known = this.#images.get(found.digest);
    const record: ImageRecord = {
      ...found,
      version: 1,
      projects: [...new Set([...(known?.projects ?? []), project])],
      fetchedMs: this.#clock.wallMs(),
      boot: this.#boot,
      synced: known?.synced ?? false,
    };
    // Known at once: whoever adds, collects or forgets meanwhile goes by it.
    this.#images.set(record.digest, record);
    try {
      await this.#write(record.digest);
    } catch (error) {
      if (known) this.#images.set(record.digest, known);
      else this.#images.delete(record.digest);
      throw error;
    }
    if (!record.synced) this.#sync(record);
    return this.#imageOf(record);
  }

  /** One that is here: no collector takes it in between. */
  async addAgain(known: ImageRecord, reference: string, project: string): Promise<Image> {
    const unpin = this.pin(known.layers.map(({ diffId }) => diffId));
    try {
      return await this.add({ ...known, reference }, project);
    } finally {
      unpin();
    }
  }

  async collect(keep: ReadonlySet<string>): Promise<number> {
    const now = this.#clock.wallMs();
    let removed = 0;
    for (const record of this.#images.values()) {
      // A clock that jumped back keeps it for longer, and no more.
      const age = now - record.fetchedMs;
      if (keep.has(record.digest) || (age >= 0 && age < imageLimits.collectAfterMs)) continue;
      this.#images.delete(record.digest);
      await this.#write(record.digest);
      removed += 1;
    }
    await this.#removeUnneeded();
    return removed;
  }

  async forget(project: string): Promise<void> {
    for (const record of this.#images.values()) {
      if (!record.projects.includes(project)) continue;
      const without = { ...record, projects: record.projects.filter((one) => one !== project) };
      this.#images.set(record.digest, without);
      await this.#write(record.digest);
    }
  }

  /** All of it, in a process of its own: a tree of 100,000 files holds Node's loop for seconds. */
  async remove(path: string): Promise<void> {
    await this.#spawner.exec(["nice", "-n", "19", "rm", "-rf", "--one-file-system", "--", path], {
      timeoutMs: removeMs,
    });
  }

  async #removeUnneeded(): Promise<void> {
    for (const name of await readdir(this.#layers)) {
      if (this.#isNeeded(name)) continue;
      // Away from its name in one step: a fetch that comes now unpacks it anew.
      const away = join(this.staging, randomHex(8));
      await rename(join(this.#layers, name), away);
      await this.remove(away);
    }
  }

  #isNeeded(name: string): boolean {
    for (const diffId of this.#pinned.keys()) if (folderName(diffId) === name) return true;
    for (const { layers } of this.#images.values())
      if (layers.some(({ diffId }) => folderName(diffId) === name)) return true;
    return false;
  }

  /** Nobody waits for the disk: until it has everything, a record counts for this boot alone. */
  #sync(record: ImageRecord): void {
    const before = this.#syncing;
    this.#syncing = (async () => {
      await before;
      const known = (): ImageRecord | undefined => this.#images.get(record.digest);
      if (!known()) return;
      try {
        const options = { timeoutMs: syncMs, signal: this.#ending.signal };
        if ((await this.#spawner.exec(["sync", "-f", this.#layers], options)).code !== 0) return;
        const now = known();
        if (!now || now.synced) return;
        this.#images.set(now.digest, { ...now, synced: true });
        await this.#write(now.digest);
      } catch {
        // Tried again at the next start.
      }
    })();
  }

  /** Makes the disk what memory is, one change after the other. */
  #write(digest: string): Promise<void> {
    const before = this.#writing;
    const written = (async () => {
      await before;
      const path = join(this.#records, recordName(digest));
      const record = this.#images.get(digest);
      if (!record) return rm(path, { force: true });
      const half = join(this.staging, randomHex(8));
      await writeFile(half, JSON.stringify(record), { mode: 0o600 });
      return rename(half, path);
    })();
    this.#writing = written.catch(() => {});
    return written;
  }

  async #read(path: string): Promise<ImageRecord | null> {
    try {
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- ebb's own words
      const record = JSON.parse(await readFile(path, "utf8")) as ImageRecord;
      return record.version === 1 ? record : null;
    } catch {
      return null;
    }
  }

  #layerPath(diffId: string): string {
    return join(this.#layers, folderName(diffId));
  }

  #imageOf({ digest, reference, config, layers }: ImageRecord): Image {
    return {
      digest,
      reference,
      config,
      layers: this.layerFolders(layers.map(({ diffId }) => diffId)),
      bytes: layers.reduce((sum, layer) => sum + layer.bytes, 0),
    };
  }
}

/** Half of it is plenty, and overlayfs is told them all in one page. */
export function folderName(diffId: string): string {
  return diffId.slice("sha256:".length, "sha256:".length + 32);
}

function recordName(digest: string): string {
  return `${digest.slice("sha256:".length)}.json`;
}
