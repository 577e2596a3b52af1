// credentials.json: how whoever owns the data directory comes in. Mode 0600, and of the user behind sudo.

import { chownSync, closeSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import { join } from "node:path";

const file = "credentials.json";

/** The token of an earlier start, to be kept while it is valid; null: none, or not readable as one. */
export function readKnownToken(directory: string): string | null {
  try {
    const known: unknown = JSON.parse(readFileSync(join(directory, file), "utf8"));
    const token = (known as { token?: unknown } | null)?.token;
    return typeof token === "string" ? token : null;
  } catch {
    return null; // absent, or cut off by a full disk: a new token takes its place
  }
}

/** Whole or not at all: a reader never sees half of it. */
export function writeCredentials(
  directory: string,
  credentials: { readonly url: string; readonly token: string },
  owner: { readonly uid: number; readonly gid: number } | null,
): void {
  const unfinished = join(directory, `.${file}.${process.pid}`);
  const fd = openSync(unfinished, "w", 0o600);
  try {
    writeSync(fd, `${JSON.stringify(credentials)}\n`);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  if (owner) chownSync(unfinished, owner.uid, owner.gid);
  renameSync(unfinished, join(directory, file));
}
