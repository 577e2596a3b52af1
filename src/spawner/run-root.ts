// Where the run directories of all ebbs of this machine are. In memory where it can be: each sandbox has some twenty files and folders there,
// and a file system on a disk takes a third of a millisecond for each (docs/decisions/run-root.md).

import { lstatSync, mkdirSync, statfsSync } from "node:fs";
import { EbbError } from "#model/errors.ts";

/** statfs(2). */
const inMemory = new Set([0x01021994, 0x858458f6]);

/** The same for every ebb that sees the same folders: what they share is there. */
export function defaultRunRoot(isInMemory: (folder: string) => boolean = liesInMemory): string {
  const usual = "/run/ebb";
  if (isInMemory(usual) || isInMemory("/run") || !isInMemory("/dev/shm")) return usual;
  return "/dev/shm/ebb";
}

function liesInMemory(folder: string): boolean {
  try {
    return inMemory.has(statfsSync(folder).type);
  } catch {
    return false;
  }
}

/** Made where it is missing. Everybody may write beside it, where that is /dev/shm: one of somebody else's is refused. */
export function openRunRoot(root: string): void {
  // 0711: an engine that has become a sandbox's own user must still reach the file systems below, and list nothing.
  mkdirSync(root, { recursive: true, mode: 0o711 });
  const found = lstatSync(root);
  if (found.isDirectory() && found.uid === process.geteuid?.() && (found.mode & 0o022) === 0) return;
  throw new EbbError("internal", `${root} is not ebb's own folder: remove it, and start ebb again.`);
}
