// What tasks leave at /ebb/result: read from a pipe up to its bound, kept as a file, and the oldest dropped when a project has too many.

import { existsSync } from "node:fs";
import { mkdir, open, readdir, rename, rm, rmdir, stat, type FileHandle } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Readable } from "node:stream";
import { errnoOf } from "#lib/errno.ts";
import { Fifo } from "#lib/fifo.ts";
import { timeOfId } from "#model/ids.ts";
import { jobLimits } from "#model/limits.ts";
import type { RunId } from "#model/run.ts";
import type { WorkloadKey } from "#model/workload.ts";
import type { KeptExit } from "#sandbox/door.ts";

export interface ResultReader {
  /** Nobody writes any more. Bytes that are kept; null: there is no result, too much of one, or no room for it. Never rejects. */
  end(): Promise<{ readonly bytes: number | null; readonly tooLarge: boolean }>;
}

export interface ResultsOptions {
  readonly folder: string;
  /** A result could not be kept: what was written is lost, and nothing else. */
  readonly failed: (error: unknown) => void;
  readonly mostBytes?: number;
  readonly keptBytes?: number;
  readonly keptCount?: number;
}

/** Of a project: read from the disk with its first result, and followed from there on. */
interface Kept {
  readonly bytesByPath: Map<string, number>;
  bytes: number;
}

const nothing: ResultReader = { end: async () => ({ bytes: null, tooLarge: false }) };
const unfinished = ".part";

export class Results {
  readonly #folder: string;
  readonly #failed: (error: unknown) => void;
  readonly #mostBytes: number;
  readonly #keptBytes: number;
  readonly #keptCount: number;
  readonly #kept = new Map<string, Promise<Kept>>();

  constructor(options: ResultsOptions) {
    this.#folder = options.folder;
    this.#failed = options.failed;
    this.#mostBytes = options.mostBytes ?? jobLimits.resultBytes;
    this.#keptBytes = options.keptBytes ?? jobLimits.resultsBytesPerProject;
    this.#keptCount = options.keptCount ?? jobLimits.resultsPerProject;
  }

  /** Before anything is read: what an earlier ebb did not finish goes, and what jobs have left that are gone. */
  async sweep(isThere: (job: WorkloadKey) => boolean): Promise<void> {
    for (const project of await names(this.#folder)) {
      for (const workload of await names(join(this.#folder, project))) {
        const job = { project, workload };
        if (!isThere(job)) await this.remove(job, Infinity);
        else
          for (const name of await names(this.#folderOf(job)))
            if (name.endsWith(unfinished)) await rm(join(this.#folderOf(job), name), { force: true });
      }
    }
  }

  /** Reads from here on; must be called before anybody can write. */
  read(fifo: string | undefined, job: WorkloadKey, run: RunId, index: number): ResultReader {
    if (fifo === undefined) return nothing;
    const path = this.#path(job, run, index);
    const file = new Unfinished(path + unfinished);
    let bytes = 0;
    let tooLarge = false;
    const pipe = new Fifo(fifo, (part) => {
      bytes += part.length;
      tooLarge ||= bytes > this.#mostBytes;
      // Whoever goes on writing is told so: nobody reads any more.
      if (tooLarge) pipe.close();
      else file.write(part);
    });
    return {
      end: async () => {
        pipe.drain();
        pipe.close();
        try {
          await file.close();
          // Of an earlier attempt: what counts is the last one's.
          if (tooLarge || bytes === 0) await this.#drop(job.project, path);
          else await this.#keep(job.project, path, bytes);
          return { bytes: tooLarge || bytes === 0 ? null : bytes, tooLarge };
        } catch (error) {
          this.#failed(error);
          await this.#drop(job.project, path).catch(() => undefined);
          return { bytes: null, tooLarge };
        }
      },
    };
  }

  /** One that was read by whoever kept it, and is to be kept as any other. Never rejects. */
  async take(kept: KeptExit, job: WorkloadKey, run: RunId, index: number): ReturnType<ResultReader["end"]> {
    const path = this.#path(job, run, index);
    const tooLarge = kept.resultTooLarge;
    try {
      if (kept.result !== null && kept.resultBytes !== null) {
        await mkdir(dirname(path), { recursive: true, mode: 0o700 });
        await rename(kept.result, path + unfinished);
        await this.#keep(job.project, path, kept.resultBytes);
        return { bytes: kept.resultBytes, tooLarge };
      }
      await this.#drop(job.project, path);
    } catch (error) {
      this.#failed(error);
    }
    return { bytes: null, tooLarge };
  }

  async open(job: WorkloadKey, run: RunId, index: number): Promise<{ bytes: number; content: Readable } | null> {
    const file = await open(this.#path(job, run, index)).catch(() => null);
    if (file === null) return null;
    const { size } = await file.stat();
    return { bytes: size, content: file.createReadStream({ start: 0 }) };
  }

  /** Of the runs that were made until then: a new job may have its name by now, and runs of its own. */
  async remove(job: WorkloadKey, untilMs: number): Promise<void> {
    const folder = this.#folderOf(job);
    const kept = await this.#kept.get(job.project);
    for (const name of await names(folder)) {
      if ((timeOfId(name.split(".")[0]!) ?? 0) > untilMs) continue;
      await rm(join(folder, name), { force: true });
      if (kept) count(kept, join(folder, name), 0);
    }
    // They may have others in them.
    await rmdir(folder).catch(() => undefined);
    await rmdir(join(this.#folder, job.project)).catch(() => undefined);
    if (kept?.bytesByPath.size === 0) this.#kept.delete(job.project);
  }

  async #keep(project: string, path: string, bytes: number): Promise<void> {
    await rename(path + unfinished, path);
    const kept = await this.#keptOf(project);
    count(kept, path, bytes);
    while (kept.bytes > this.#keptBytes || kept.bytesByPath.size > this.#keptCount) {
      const oldest = oldestOf(kept);
      await rm(oldest, { force: true });
      count(kept, oldest, 0);
    }
  }

  async #drop(project: string, path: string): Promise<void> {
    // Mostly there was none.
    for (const one of [path + unfinished, path]) if (existsSync(one)) await rm(one, { force: true });
    const kept = await this.#kept.get(project);
    if (kept) count(kept, path, 0);
  }

  #keptOf(project: string): Promise<Kept> {
    const known = this.#kept.get(project);
    if (known) return known;
    const kept = this.#look(project);
    this.#kept.set(project, kept);
    return kept;
  }

  async #look(project: string): Promise<Kept> {
    const kept: Kept = { bytesByPath: new Map(), bytes: 0 };
    for (const workload of await names(join(this.#folder, project)))
      for (const name of await names(this.#folderOf({ project, workload }))) {
        const path = join(this.#folderOf({ project, workload }), name);
        const found = name.endsWith(unfinished) ? null : await stat(path).catch(() => null);
        if (found) count(kept, path, found.size);
      }
    return kept;
  }

  #folderOf({ project, workload }: WorkloadKey): string {
    return join(this.#folder, project, workload);
  }

  #path(job: WorkloadKey, run: RunId, index: number): string {
    return join(this.#folderOf(job), `${run}.${index}`);
  }
}

/** Written as it comes: a task that runs for a day holds none of it in memory. */
class Unfinished {
  readonly #path: string;
  #file: FileHandle | null = null;
  #writing: Promise<void> = Promise.resolve();

  constructor(path: string) {
    this.#path = path;
  }

  write(part: Buffer): void {
    const bytes = Buffer.from(part);
    // After one that failed nothing is written; `close` says why.
    this.#writing = this.#writing.then(() => this.#write(bytes));
    this.#writing.catch(() => undefined);
  }

  async #write(bytes: Buffer): Promise<void> {
    this.#file ??= await this.#open();
    await this.#file.writeFile(bytes);
  }

  async #open(): Promise<FileHandle> {
    for (let tries = 1; ; tries++) {
      await mkdir(dirname(this.#path), { recursive: true, mode: 0o700 });
      try {
        return await open(this.#path, "w", 0o600);
      } catch (error) {
        // An earlier job of its name is removed just now, and its empty folder with it.
        if (errnoOf(error) !== "ENOENT" || tries === 3) throw error;
      }
    }
  }

  async close(): Promise<void> {
    try {
      await this.#writing;
    } finally {
      await this.#file?.close();
    }
  }
}

function count(kept: Kept, path: string, bytes: number): void {
  kept.bytes += bytes - (kept.bytesByPath.get(path) ?? 0);
  if (bytes === 0) kept.bytesByPath.delete(path);
  else kept.bytesByPath.set(path, bytes);
}

/** A run's id begins with its time. */
function oldestOf({ bytesByPath }: Kept): string {
  let oldest: string | null = null;
  for (const path of bytesByPath.keys()) if (oldest === null || basename(path) < basename(oldest)) oldest = path;
  return oldest!;
}

async function names(folder: string): Promise<readonly string[]> {
  return readdir(folder).catch(() => []);
}
