// One daemon a data directory: an exclusive lock that frees itself when its holder dies, however it dies.

import { accessSync, chmodSync, closeSync, constants, mkdirSync, openSync } from "node:fs";
import { readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { errnoOf } from "#lib/errno.ts";
import { EbbError } from "#model/errors.ts";
import { explain, isBusy, isDamaged } from "./sqlite/errors.ts";

/** Node closes a database that nothing refers to any more, and the lock would go with it: a lock is held until it is released. */
const heldLocks = new Set<DatabaseSync>();

export interface DirectoryLock {
  release(): void;
}

/**
 * Makes the directory if it is not there and takes its lock. Node has no flock: SQLite's exclusive lock on a database
 * that holds nothing does the same, and the kernel drops it with the process. Throws EbbError data_directory or storage_full.
 */
export function lockDirectory(directory: string): DirectoryLock {
  prepare(directory);
  const pidPath = join(directory, "pid");
  let database: DatabaseSync | null = null;
  try {
    for (const name of ["lock.db", "ebb.db"]) keepPrivate(join(directory, name));
    database = new DatabaseSync(join(directory, "lock.db"), { timeout: 0 });
    database.exec("pragma journal_mode = MEMORY");
    database.exec("begin exclusive");
    writeFileSync(pidPath, `${process.pid}\n`, { mode: 0o600 });
  } catch (error) {
    database?.close();
    if (isBusy(error)) throw inUse(directory, pidPath, error);
    if (isDamaged(error))
      throw new EbbError(
        "data_directory",
        `the file lock.db in the data directory ${directory} is damaged; it holds nothing: remove it`,
        { cause: error },
      );
    throw error instanceof Error && "syscall" in error ? explainSystem(error, directory) : explain(error, directory);
  }
  const held = database;
  heldLocks.add(held);
  let released = false;
  return {
    release() {
      if (released) return;
      released = true;
      // Before the lock: afterwards it could be the next daemon's.
      rmSync(pidPath, { force: true });
      heldLocks.delete(held);
      held.close();
    },
  };
}

/**
 * SQLite gives a new database to everybody to read, and whoever reads may lock. So it is made before SQLite makes it; what SQLite
 * puts beside it takes after it. One that is there is not opened: closing it would drop the lock of whoever holds it.
 */
function keepPrivate(path: string): void {
  try {
    closeSync(openSync(path, "wx", 0o600));
  } catch (error) {
    if (errnoOf(error) !== "EEXIST") throw error;
    for (const one of [path, `${path}-wal`, `${path}-shm`])
      if (((statSync(one, { throwIfNoEntry: false })?.mode ?? 0) & 0o077) !== 0) chmodSync(one, 0o600);
  }
}

function inUse(directory: string, pidPath: string, cause: unknown): EbbError {
  let holder = "another ebb";
  try {
    const pid = Number(readFileSync(pidPath, "utf8").trim());
    if (Number.isSafeInteger(pid) && pid > 0) holder = `another ebb (process ${pid})`;
  } catch {
    // It is just starting, or may not be read: the sentence is true without its number.
  }
  return new EbbError(
    "data_directory",
    `the data directory ${directory} is in use by ${holder}; stop it, or give another --data`,
    { cause },
  );
}

function prepare(directory: string): void {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    if (!statSync(directory).isDirectory()) throw Object.assign(new Error("not a directory"), { code: "ENOTDIR" });
    accessSync(directory, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    throw explainSystem(error, directory);
  }
}

function explainSystem(error: unknown, directory: string): unknown {
  switch ((error as NodeJS.ErrnoException).code) {
    case "EEXIST":
    case "ENOTDIR":
      return new EbbError("data_directory", `${directory} is not a directory; give another --data`, { cause: error });
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return new EbbError(
        "data_directory",
        `ebb may not write in the data directory ${directory} (${(error as NodeJS.ErrnoException).code}); give it to the user that runs ebb`,
        { cause: error },
      );
    case "ENOSPC":
    case "EDQUOT":
      return new EbbError("storage_full", `the disk that holds ${directory} is full`, { cause: error });
    default:
      return error;
  }
}
