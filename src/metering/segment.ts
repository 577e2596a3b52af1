// The journal's segments: files of zeros made ahead, so that a mark never asks the file system for room.

import * as fs from "node:fs";
import { join } from "node:path";

/** The folder of the journal in a data directory: the writer's and the keeper's. */
export function journalDirectory(dataDirectory: string): string {
  return join(dataDirectory, "journal");
}

const pattern = /^(\d{10})\.journal$/;

export function segmentPath(directory: string, segment: number): string {
  return join(directory, `${String(segment).padStart(10, "0")}.journal`);
}

/** Numbers of the segments that are there, ascending. */
export function segmentsIn(directory: string): number[] {
  const found: number[] = [];
  for (const name of fs.readdirSync(directory)) {
    const match = pattern.exec(name);
    if (match) found.push(Number(match[1]));
  }
  return found.toSorted((a, b) => a - b);
}

/** Leftovers of a creation that was killed: they have no segment's name yet. Each maker removes its own: the other may be at work. */
export function removeUnfinished(directory: string, maker: Maker): void {
  for (const name of fs.readdirSync(directory))
    if (name.endsWith(`.${maker}.tmp`)) fs.rmSync(join(directory, name), { force: true });
}

export type Maker = "writer" | "keeper";

const zeros = Buffer.alloc(256 * 1024);

/**
 * Makes a segment of zeros, whole or not at all: written under another name and linked, so that of two makers
 * (the worker ahead, the main thread when the worker is late) one wins and neither sees half of the other's.
 * The zeros are written, not skipped over: a hole would ask for room later, when it may be gone.
 * Throws what the file system throws (ENOSPC, EFBIG, …). `sync`: false on the main thread, which must not wait for a disk.
 */
export function createSegment(
  directory: string,
  segment: number,
  options: { sizeBytes: number; maker: Maker; sync: boolean },
): void {
  const path = segmentPath(directory, segment);
  const temporary = `${path}.${options.maker}.tmp`;
  const fd = fs.openSync(temporary, "w", 0o600);
  try {
    for (let written = 0; written < options.sizeBytes;)
      written += fs.writeSync(fd, zeros, 0, Math.min(zeros.length, options.sizeBytes - written));
    if (options.sync) fs.fsyncSync(fd);
    fs.closeSync(fd);
    linkUnlessThere(temporary, path);
    if (options.sync) syncDirectory(directory);
  } catch (error) {
    try {
      fs.closeSync(fd);
    } catch {
      // Already closed.
    }
    throw error;
  } finally {
    fs.rmSync(temporary, { force: true });
  }
}

function linkUnlessThere(from: string, to: string): void {
  try {
    fs.linkSync(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
}

export function syncDirectory(directory: string): void {
  const fd = fs.openSync(directory, "r");
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}
