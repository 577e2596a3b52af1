// What is kept of the steps of builds, each for its own project alone: the tar of what a command has changed, the times of what was
// copied. A record is written when its file is there, so that whatever is found without one was left by an end in the middle. No image
// needs any of it.

import { readFileSync } from "node:fs";
import { link, mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf } from "#lib/errno.ts";
import type { Clock } from "#model/clock.ts";
import type { Spawner } from "#spawner/door.ts";
import { leastUsed, outdated, type CachedStep } from "./cached-steps.ts";
import { hasRoom } from "./room-guard.ts";

export interface StepCacheOptions {
  /** Its own, on the disk of the builds; made here. */
  readonly folder: string;
  readonly spawner: Pick<Spawner, "exec">;
  readonly clock: Clock;
}

/** What a build may take and keep: its project's. */
export interface ProjectSteps {
  /** The digest of the layer whose file is now at `path` too; null: nothing is kept under this key. */
  take(key: string, path: string): Promise<string | null>;
  /** The file is written no more. What cannot be kept is not, and nobody fails for it. */
  keep(key: string, kept: { readonly digest: string; readonly bytes: number; readonly path: string }): Promise<void>;
}

const syncMs = 10 * 60_000;
const readMs = 2 * 60_000;
const keyForm = /^[0-9a-f]{64}$/;

export class StepCache {
  readonly #options: StepCacheOptions;
  readonly #boot = readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
  readonly #steps = new Map<string, CachedStep>();
  /** Counts how often a project was forgotten: a build that began before keeps nothing for the next one of that name. */
  readonly #forgotten = new Map<string, number>();
  readonly #ending = new AbortController();
  #unsynced = false;
  #syncing: Promise<void> = Promise.resolve();
  /** One change of the disk after the other. */
  #changing: Promise<unknown> = Promise.resolve();

  constructor(options: StepCacheOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    const { folder } = this.#options;
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const names = new Set(await readdir(folder));
    for (const name of names) {
      if (!name.endsWith(".json")) continue;
      const step = await this.#read(name);
      const whole = step !== null && names.has(`${step.key}.kept`);
      if (whole && (step.synced || step.boot === this.#boot)) this.#steps.set(step.key, step);
    }
    for (const name of names) {
      const key = /^(.*)\.(?:json|kept)$/.exec(name)?.[1] ?? "";
      if (!this.#steps.has(key)) await rm(join(folder, name), { recursive: true, force: true });
    }
    await this.collect();
    if ([...this.#steps.values()].some(({ synced }) => !synced)) this.#sync();
  }

  async stop(): Promise<void> {
    this.#ending.abort(new Error("ebb is stopping"));
    await this.#syncing;
    await this.#changing;
  }

  /** `takes`: whether anything of earlier builds is taken. */
  of(project: string, takes: boolean): ProjectSteps {
    const began = this.#forgotten.get(project) ?? 0;
    const isGone = (): boolean => (this.#forgotten.get(project) ?? 0) !== began;
    return {
      take: async (key, path) => {
        const step = this.#steps.get(key);
        if (!takes || step?.project !== project || isGone()) return null;
        try {
          await link(this.#file(key), path);
        } catch (error) {
          // It has just given way.
          if (errnoOf(error) === "ENOENT") return null;
          throw error;
        }
        const sum = (await stat(path)).size === step.bytes ? await this.#sumOf(path) : "";
        if (sum !== step.sha256) {
          await rm(path);
          // The disk has lost some of it. What is run again is kept again.
          if (sum !== null) await this.#inTurn(() => this.#remove(key));
          return null;
        }
        await this.#used(key);
        return step.digest;
      },
      keep: async (key, { digest, bytes, path }) => {
        const sha256 = await this.#sumOf(path);
        const kept = this.#inTurn(async () => {
          if (isGone()) return;
          await this.#remove(key);
          if (sha256 === null) return;
          await link(path, this.#file(key));
          const usedMs = this.#options.clock.wallMs();
          await this.#put({ version: 2, key, project, digest, bytes, sha256, usedMs, boot: this.#boot, synced: false });
          await this.#removeOutdated();
        });
        await kept.catch(() => this.#inTurn(() => this.#remove(key)).catch(() => {}));
      },
    };
  }

  async collect(): Promise<void> {
    await this.#inTurn(() => this.#removeOutdated());
  }

  async forget(project: string): Promise<void> {
    this.#forgotten.set(project, (this.#forgotten.get(project) ?? 0) + 1);
    await this.#inTurn(async () => {
      for (const step of this.#steps.values()) if (step.project === project) await this.#remove(step.key);
    });
  }

  /** Whether so much may be written beside it; where there is no room for both, it gives way. */
  readonly room = async (folder: string, bytes: number): Promise<boolean> => {
    if (await hasRoom(folder, bytes)) return true;
    return this.#inTurn(async () => {
      for (;;) {
        if (await hasRoom(folder, bytes)) return true;
        const step = leastUsed(this.#steps.values());
        if (step === null) return false;
        await this.#remove(step.key);
      }
    });
  };

  /** By a program: a layer of a gigabyte is seconds of a processor. null: it cannot be had now. */
  async #sumOf(path: string): Promise<string | null> {
    try {
      const options = { timeoutMs: readMs, signal: this.#ending.signal };
      const { code, stdout } = await this.#options.spawner.exec(["sha256sum", "--", path], options);
      return code === 0 ? (/^\\?([0-9a-f]{64}) /.exec(stdout)?.[1] ?? null) : null;
    } catch {
      return null;
    }
  }

  async #removeOutdated(): Promise<void> {
    for (const { key } of outdated(this.#steps.values(), this.#options.clock.wallMs())) await this.#remove(key);
  }

  /** The record first: a file without one is nobody's. */
  async #remove(key: string): Promise<void> {
    this.#steps.delete(key);
    await rm(this.#record(key), { force: true });
    await rm(this.#file(key), { force: true });
  }

  async #used(key: string): Promise<void> {
    await this.#inTurn(async () => {
      const now = this.#steps.get(key);
      if (now) await this.#put({ ...now, usedMs: this.#options.clock.wallMs() });
    }).catch(() => {
      // It counts as used when it was before: no worse than that.
    });
  }

  async #put(step: CachedStep): Promise<void> {
    const half = join(this.#options.folder, `${step.key}.half`);
    try {
      await writeFile(half, JSON.stringify(step), { mode: 0o600 });
      await rename(half, this.#record(step.key));
    } catch (error) {
      await rm(half, { force: true });
      throw error;
    }
    this.#steps.set(step.key, step);
    if (!step.synced) this.#sync();
  }

  /** Nobody waits for the disk, and many are synced at once. */
  #sync(): void {
    if (this.#unsynced) return;
    this.#unsynced = true;
    const before = this.#syncing;
    this.#syncing = (async () => {
      await before;
      this.#unsynced = false;
      const { spawner, folder } = this.#options;
      const written = [...this.#steps.values()].filter(({ synced }) => !synced);
      try {
        const options = { timeoutMs: syncMs, signal: this.#ending.signal };
        if ((await spawner.exec(["sync", "-f", folder], options)).code !== 0) return;
        for (const { key, digest } of written)
          await this.#inTurn(async () => {
            const now = this.#steps.get(key);
            if (now?.synced === false && now.digest === digest) await this.#put({ ...now, synced: true });
          });
      } catch {
        // Tried again at the next start.
      }
    })();
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#changing.then(work);
    this.#changing = done.catch(() => {});
    return done;
  }

  async #read(name: string): Promise<CachedStep | null> {
    try {
      const path = join(this.#options.folder, name);
      if (!(await stat(path)).isFile()) return null;
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- ebb's own words
      const step = JSON.parse(await readFile(path, "utf8")) as CachedStep;
      return step.version === 2 && keyForm.test(step.key) && name === `${step.key}.json` ? step : null;
    } catch {
      return null;
    }
  }

  #record(key: string): string {
    return join(this.#options.folder, `${key}.json`);
  }

  #file(key: string): string {
    return join(this.#options.folder, `${key}.kept`);
  }
}
