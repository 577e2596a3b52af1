// The key that seals secrets: 32 random bytes in a file of the data directory, made once, checked at every start.

import { randomBytes } from "node:crypto";
import { closeSync, constants, fstatSync, fsyncSync, linkSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { errnoOf } from "#lib/errno.ts";
import { EbbError } from "#model/errors.ts";

const keyBytes = 32;

/**
 * Reads the key, or makes it where `mayCreate`. Every refusal is one sentence for the operator: a key that is replaced
 * silently would make every secret unreadable.
 */
export function readOrCreateKey(path: string, mayCreate: boolean): Buffer {
  try {
    return readKey(path);
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw error;
  }
  if (!mayCreate)
    throw new EbbError(
      "conflict",
      `the key file ${path} is missing, and secrets are stored that only it opens; restore it from a backup, or remove the secrets`,
    );
  return createKey(path);
}

function readKey(path: string): Buffer {
  // O_NOFOLLOW: a link put here by somebody else must not choose the key.
  let file: number;
  try {
    file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (error) {
    if (errnoOf(error) !== "ELOOP") throw error;
    throw new EbbError("conflict", `the key file ${path} is a link; put the file itself there`);
  }
  try {
    const stat = fstatSync(file);
    if (!stat.isFile()) throw new EbbError("conflict", `the key file ${path} is not a regular file`);
    if ((stat.mode & 0o077) !== 0)
      throw new EbbError("conflict", `the key file ${path} can be read by others; run: chmod 600 ${path}`);
    if (stat.size !== keyBytes)
      throw new EbbError(
        "conflict",
        `the key file ${path} has ${stat.size} bytes instead of ${keyBytes}; restore it from a backup`,
      );
    const key = Buffer.alloc(keyBytes);
    if (readSync(file, key, 0, keyBytes, 0) !== keyBytes || key.every((byte) => byte === key[0]))
      throw new EbbError("conflict", `the key file ${path} holds no key; restore it from a backup`);
    return key;
  } finally {
    closeSync(file);
  }
}

/** Whole from its first instant: written under another name, and then linked, which fails where a key stands already. */
function createKey(path: string): Buffer {
  const key = randomBytes(keyBytes);
  const unfinished = `${path}.${process.pid}.new`;
  rmSync(unfinished, { force: true }); // of a start that was killed
  const file = openSync(unfinished, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
  try {
    if (writeSync(file, key) !== keyBytes) throw new EbbError("storage_full", `the key file ${path} cannot be written`);
    fsyncSync(file);
    linkSync(unfinished, path);
  } finally {
    closeSync(file);
    rmSync(unfinished, { force: true });
  }
  // The name must survive a power cut before anything is sealed with the key.
  const folder = openSync(dirname(path), constants.O_RDONLY);
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
  return key;
}
