// Folders of kept processes. Those that are done with serve again, with the files that are in them: a file system takes longer to make a
// file than to fill it (a quarter of a millisecond where it looks for a number that nobody had lately), and a run of a second writes two.

import {
  closeSync,
  constants,
  fdatasync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

export const noteName = "note.json";
export const endName = "end.json";
/** Nobody's: names that begin with a point are no process's. */
const sparePrefix = ".spare-";
const newSuffix = ".new";

const synced = promisify(fdatasync);

/** Of one supervisor, which is the only one that makes or empties any. */
export class KeptFolders {
  readonly #directory: string;
  readonly #most: number;
  readonly #spare: string[] = [];
  #count = 0;

  /** `most`: so many are held for those that come. */
  constructor(directory: string, most: number) {
    this.#directory = directory;
    this.#most = most;
    for (const name of readdirSync(directory)) {
      if (!name.startsWith(sparePrefix)) continue;
      this.#spare.push(name);
      this.#count = Math.max(this.#count, Number(name.slice(sparePrefix.length)) + 1 || 0);
    }
  }

  /** Has the note from its first moment on: what is found without one is nobody's. Throws where there is no room for it. */
  make(name: string, note: string): string {
    const folder = join(this.#directory, name);
    const spare = this.#spare.pop();
    if (spare !== undefined) {
      try {
        return fill(join(this.#directory, spare), folder, note);
      } catch {
        // Whatever it is that is wrong with it.
      }
    }
    const unfinished = join(this.#directory, this.#spareName());
    mkdirSync(unfinished, { recursive: true, mode: 0o700 });
    return fill(unfinished, folder, note);
  }

  /** Nobody asks for what is in it any more. */
  forget(name: string): void {
    const folder = join(this.#directory, name);
    if (this.#spare.length >= this.#most || !this.#empty(folder))
      return rmSync(folder, { recursive: true, force: true });
    const spare = this.#spareName();
    renameSync(folder, join(this.#directory, spare));
    this.#spare.push(spare);
  }

  /** All but its two files, of which its end is not one any more. */
  #empty(folder: string): boolean {
    try {
      renameSync(join(folder, endName), join(folder, `${endName}${newSuffix}`));
      for (const name of readdirSync(folder))
        if (name !== noteName && !name.startsWith(endName)) rmSync(join(folder, name), { recursive: true });
      return true;
    } catch {
      return false;
    }
  }

  #spareName(): string {
    return `${sparePrefix}${this.#count++}`;
  }
}

/** Where it cannot be, nothing of it stays. */
function fill(unfinished: string, folder: string, note: string): string {
  try {
    writeOver(join(unfinished, noteName), note);
    renameSync(unfinished, folder);
    return folder;
  } catch (error) {
    rmSync(unfinished, { recursive: true, force: true });
    throw error;
  }
}

/** Whole. */
export function writeWhole(path: string, text: string): void {
  writeOver(`${path}${newSuffix}`, text);
  renameSync(`${path}${newSuffix}`, path);
}

/** Whole, and on the disk. Only the disk is waited for in a thread: a few bytes in memory take less than asking one. */
export async function writeDurably(path: string, text: string): Promise<void> {
  const file = openOver(`${path}${newSuffix}`, text);
  try {
    await synced(file);
  } finally {
    closeSync(file);
  }
  renameSync(`${path}${newSuffix}`, path);
}

function writeOver(path: string, text: string): void {
  closeSync(openOver(path, text));
}

/** What was in it is cut off behind: a file that is emptied first is written out at its close (ext4's auto_da_alloc). */
function openOver(path: string, text: string): number {
  const file = openSync(path, constants.O_WRONLY | constants.O_CREAT, 0o600);
  try {
    writeFileSync(file, text);
    ftruncateSync(file, Buffer.byteLength(text));
    return file;
  } catch (error) {
    closeSync(file);
    throw error;
  }
}
