// SQLite's result codes as sentences for the operator.

import { EbbError } from "#model/errors.ts";

/** https://www.sqlite.org/rescode.html; the low byte is the primary code. */
const code = { perm: 3, busy: 5, readonly: 8, ioerr: 10, corrupt: 11, full: 13, cantopen: 14, notadb: 26 } as const;

/** The primary result code of what node:sqlite threw; null: it is something else. */
export function resultCode(error: unknown): number | null {
  if (!(error instanceof Error) || !("errcode" in error)) return null;
  const { errcode } = error;
  return typeof errcode === "number" ? errcode & 0xff : null;
}

export function isBusy(error: unknown): boolean {
  return resultCode(error) === code.busy;
}

/** The file is no database, or a broken one. */
export function isDamaged(error: unknown): boolean {
  const result = resultCode(error);
  return result === code.corrupt || result === code.notadb;
}

/** What SQLite cannot see itself: its rows do not belong together. */
export function damaged(words: string): Error {
  return Object.assign(new Error(words), { errcode: code.corrupt });
}

/** What an operator can act upon becomes an EbbError; anything else is handed back as it is: a defect. */
export function explain(error: unknown, directory: string): unknown {
  switch (resultCode(error)) {
    case code.full:
      return new EbbError("storage_full", `the disk that holds ${directory} is full`, { cause: error });
    case code.corrupt:
    case code.notadb:
      return new EbbError(
        "data_directory",
        `the data directory ${directory} is broken: its database ebb.db is damaged (${(error as Error).message}); restore a backup, or start with an empty one`,
        { cause: error },
      );
    case code.perm:
    case code.readonly:
    case code.cantopen:
      return new EbbError(
        "data_directory",
        `the database in ${directory} cannot be opened for writing (${(error as Error).message}); give the directory to the user that runs ebb`,
        { cause: error },
      );
    case code.ioerr:
      return new EbbError(
        "storage_full",
        `the disk that holds ${directory} does not take what is written (${(error as Error).message})`,
        { cause: error },
      );
    case code.busy:
      return new EbbError("store_unavailable", `another program holds the database in ${directory}`, { cause: error });
    default:
      return error;
  }
}
