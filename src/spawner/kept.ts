// What a kept process leaves in its folder: its output, its result, what whoever adopts it must know, and its end, durably.

import { closeSync, openSync, readFileSync, readdirSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { Fifo } from "#lib/fifo.ts";
import { KeptWriter } from "#lib/kept-output.ts";
import { systemClock as clock } from "#model/clock.ts";
import { logLimits } from "#model/limits.ts";
import type { Kept, KeptEnd, LaunchSpec, ProcessExit } from "./door.ts";
import { endName, noteName, writeDurably, writeWhole, type KeptFolders } from "./kept-folders.ts";

/** In the folder of all: the run directory of whoever was here last. */
export const pointerName = ".run-directory";
export const resultName = "result";

export interface KeptNote {
  readonly id: string;
  readonly note: unknown;
}

let thisBoot: string | null = null;

export function bootId(): string {
  return (thisBoot ??= readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim());
}

export function readNote(folder: string): KeptNote | null {
  return readJson(join(folder, noteName)) as KeptNote | null;
}

export function readEnd(folder: string): KeptEnd | null {
  return readJson(join(folder, endName)) as KeptEnd | null;
}

/** null: there is none that is whole. */
function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return null;
  }
}

export function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory).filter((name) => !name.startsWith("."));
  } catch {
    return [];
  }
}

/** Reads what one process writes, from before its start to its end. */
export class Keeping {
  readonly kept: Kept;
  readonly folder: string;
  begunMs: number | null = null;
  expired = false;
  /** What ends it where nobody is there, cleared with it. */
  expiry: NodeJS.Timeout | undefined;
  readonly #writer: KeptWriter;
  readonly #fifos: Fifo[] = [];
  readonly #result: ResultFile | null;

  /** Throws where its files cannot be made. `tooMuch`: it has written more than its result may be. */
  constructor(folders: KeptFolders, kept: Kept, output: LaunchSpec["output"], id: string, tooMuch: () => void) {
    const { stdout, stderr, result } = output;
    this.kept = kept;
    this.folder = folders.make(kept.name, JSON.stringify({ id, note: kept.note } satisfies KeptNote));
    const writer = new KeptWriter(this.folder, {
      segmentBytes: logLimits.keptSegmentBytes,
      segments: logLimits.keptSegments,
    });
    this.#writer = writer;
    this.#fifos.push(new Fifo(stdout, (bytes) => writer.write(1, bytes)));
    this.#fifos.push(new Fifo(stderr, (bytes) => writer.write(2, bytes)));
    this.#result = result === undefined ? null : new ResultFile(result, this.folder, kept.resultBytes, tooMuch);
  }

  /** It was not launched after all. */
  drop(): void {
    for (const fifo of this.#fifos) fifo.close();
    this.#writer.close();
    this.#result?.end();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Nobody writes any more. `durably`: nobody else remembers it. */
  async end(how: ProcessExit, durably: boolean): Promise<void> {
    for (const fifo of this.#fifos) {
      fifo.drain();
      fifo.close();
    }
    this.#writer.close();
    const end: KeptEnd = {
      how,
      begunMs: this.begunMs,
      bootId: bootId(),
      endedMs: clock.wallMs(),
      endedUs: clock.monotonicUs(),
      expired: this.expired,
      resultBytes: null,
      resultTooLarge: false,
      ...this.#result?.end(),
    };
    const [path, text] = [join(this.folder, endName), JSON.stringify(end)];
    if (durably) await writeDurably(path, text);
    else writeWhole(path, text);
  }
}

class ResultFile {
  readonly #path: string;
  readonly #most: number;
  readonly #fifo: Fifo;
  #fd: number | null = null;
  readonly #tooMuch: () => void;
  #bytes = 0;
  #failed = false;

  constructor(fifo: string, folder: string, most: number, tooMuch: () => void) {
    this.#path = join(folder, resultName);
    this.#most = most;
    this.#tooMuch = tooMuch;
    this.#fifo = new Fifo(fifo, (part) => this.#write(part));
  }

  #write(part: Buffer): void {
    this.#bytes += part.length;
    if (this.#bytes > this.#most) {
      // Whoever goes on writing is told so: nobody reads any more.
      this.#fifo.close();
      return this.#tooMuch();
    }
    try {
      this.#fd ??= openSync(this.#path, "w", 0o600);
      for (let at = 0; at < part.length;) at += writeSync(this.#fd, part, at);
    } catch {
      this.#failed = true;
    }
  }

  end(): { readonly resultBytes: number | null; readonly resultTooLarge: boolean } {
    this.#fifo.drain();
    this.#fifo.close();
    if (this.#fd !== null) closeSync(this.#fd);
    const resultTooLarge = this.#bytes > this.#most;
    const whole = this.#bytes > 0 && !resultTooLarge && !this.#failed;
    return { resultBytes: whole ? this.#bytes : null, resultTooLarge };
  }
}
