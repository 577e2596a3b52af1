// What tasks leave at /ebb/result: read from a pipe up to its bound, kept as a file, and the oldest dropped when a project has too many.

import { createWriteStream } from "node:fs";
import { mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { finished } from "node:stream/promises";
import type { Readable } from "node:stream";
import { Fifo } from "#lib/fifo.ts";
import { jobLimits } from "#model/limits.ts";
import type { RunId } from "#model/run.ts";
import type { WorkloadKey } from "#model/workload.ts";

export interface ResultReader {
  /** Nobody writes any more. Bytes that are kept; null: there is no result, or too much of one. */
  end(): Promise<{ readonly bytes: number | null; readonly tooLarge: boolean }>;
}

const nothing: ResultReader = { end: async () => ({ bytes: null, tooLarge: false }) };

export class Results {
  readonly #folder: string;
  readonly #mostBytes: number;
  readonly #keptBytes: number;

  constructor(folder: string, bounds: { readonly mostBytes?: number; readonly keptBytes?: number } = {}) {
    this.#folder = folder;
    this.#mostBytes = bounds.mostBytes ?? jobLimits.resultBytes;
    this.#keptBytes = bounds.keptBytes ?? jobLimits.resultsBytesPerProject;
  }

  /** Reads from here on; must be called before anybody can write. */
  read(fifo: string | undefined, job: WorkloadKey, run: RunId, index: number): ResultReader {
    if (fifo === undefined) return nothing;
    const parts: Buffer[] = [];
    let bytes = 0;
    let tooLarge = false;
    const pipe = new Fifo(fifo, (part) => {
      bytes += part.length;
      tooLarge ||= bytes > this.#mostBytes;
      // Whoever goes on writing is told so: nobody reads any more.
      if (tooLarge) {
        parts.length = 0;
        pipe.close();
      } else parts.push(Buffer.from(part));
    });
    return {
      end: async () => {
        pipe.drain();
        pipe.close();
        const path = this.#path(job, run, index);
        if (tooLarge || bytes === 0) {
          // Of an earlier attempt: what counts is the last one's.
          await rm(path, { force: true });
          return { bytes: null, tooLarge };
        }
        await this.#keep(job, path, parts);
        return { bytes, tooLarge: false };
      },
    };
  }

  async open(job: WorkloadKey, run: RunId, index: number): Promise<{ bytes: number; content: Readable } | null> {
    const file = await open(this.#path(job, run, index)).catch(() => null);
    if (file === null) return null;
    const { size } = await file.stat();
    return { bytes: size, content: file.createReadStream({ start: 0 }) };
  }

  async remove(job: WorkloadKey): Promise<void> {
    await rm(join(this.#folder, job.project, job.workload), { recursive: true, force: true });
  }

  async #keep(job: WorkloadKey, path: string, parts: readonly Buffer[]): Promise<void> {
    await mkdir(join(this.#folder, job.project, job.workload), { recursive: true, mode: 0o700 });
    const unfinished = `${path}.part`;
    const file = createWriteStream(unfinished, { mode: 0o600 });
    for (const part of parts) file.write(part);
    file.end();
    await finished(file);
    await rename(unfinished, path);
    await this.#dropOldest(job.project);
  }

  async #dropOldest(project: string): Promise<void> {
    const kept: Array<{ readonly path: string; readonly name: string; readonly bytes: number }> = [];
    for (const job of await readdir(join(this.#folder, project)))
      for (const name of await readdir(join(this.#folder, project, job))) {
        const path = join(this.#folder, project, job, name);
        const found = await stat(path).catch(() => null);
        if (found) kept.push({ path, name, bytes: found.size });
      }
    let bytes = kept.reduce((sum, one) => sum + one.bytes, 0);
    // A run's id begins with its time.
    for (const one of kept.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
      if (bytes <= this.#keptBytes) return;
      await rm(one.path, { force: true });
      bytes -= one.bytes;
    }
  }

  #path({ project, workload }: WorkloadKey, run: RunId, index: number): string {
    return join(this.#folder, project, workload, `${run}.${index}`);
  }
}
