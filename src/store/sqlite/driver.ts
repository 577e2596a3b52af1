// The embedded driver: one SQLite file in the data directory, WAL, every commit on the disk before it is answered.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { Kysely } from "kysely";
import { EbbError } from "#model/errors.ts";
import type { StoreDriver } from "../driver.ts";
import { NodeSqlite, nodeSqliteDialect } from "./dialect.ts";
import { explain } from "./errors.ts";
import { migrate } from "./migrate.ts";
import * as records from "./records.ts";
import * as runs from "./runs.ts";
import type { Schema } from "./schema.ts";
import * as state from "./state.ts";

export interface SqliteOptions {
  /** The data directory; made if it is not there. */
  readonly directory: string;
  readonly nowMs: () => number;
}

/**
 * Tables whose damage stops a start. The ledger's would take minutes to look through, and stops nothing that serves; of the revisions
 * those that serve are all read by `load`, and of 100,000 functions the earlier ones are a gigabyte.
 */
const checked = ["projects", "workloads", "tokens", "secrets"] as const;

export function createSqliteDriver(options: SqliteOptions): StoreDriver {
  const { directory, nowMs } = options;
  let sqlite: NodeSqlite | null = null;
  let db: Kysely<Schema> | null = null;

  /** Runs on the open database, with SQLite's errors explained. */
  const on = async <T>(run: (db: Kysely<Schema>, sqlite: NodeSqlite) => Promise<T>): Promise<T> => {
    if (!db || !sqlite) throw new EbbError("store_unavailable", "the store is not open");
    try {
      return await run(db, sqlite);
    } catch (error) {
      throw explain(error, directory);
    }
  };

  return {
    async open() {
      const opened = openFile(directory);
      try {
        sqlite = new NodeSqlite(opened);
        db = new Kysely<Schema>({ dialect: nodeSqliteDialect(sqlite) });
        await migrate(db, { directory, nowMs: nowMs() });
        quickCheck(opened, directory);
      } catch (error) {
        await db?.destroy();
        db = null;
        throw explain(error, directory);
      }
    },
    async close() {
      await db?.destroy();
      db = null;
      sqlite = null;
    },
    // Its cache of pages, 8 MB after a busy hour; the kernel has them too.
    rest: () => on(async (_db, sqlite) => sqlite.shrink()),
    load: (after) => on((db) => state.load(db, after)),
    apply: (change) => on((db) => state.apply(db, change)),
    audit: (entry) => on((db) => state.insertAudit(db, entry)),
    audits: (query) => on((db) => state.audits(db, query)),
    revisions: (key) => on((db) => state.revisions(db, key)),
    runs: (query) => on((db) => runs.select(db, query)),
    openRuns: () => on(runs.open),
    updateRuns: (changed) => on((db) => runs.update(db, changed)),
    contentDigests: () => on(async (db) => [...(await state.contentDigests(db)), ...(await runs.contentDigests(db))]),
    invocations: (query) => on((db) => records.invocations(db, query)),
    usage: (query) => on((db, sqlite) => records.usage(db, sqlite, query)),
    retention: () => on(async (db) => ({ oldestRecordMs: await records.oldestRecordMs(db) })),
    journal: () => on(records.journal),
    commit: (batch) => on((db, sqlite) => records.commit(db, sqlite, batch)),
    recordDays: () => on(records.recordDays),
    deleteRecords: (day) => on((db) => records.deleteRecords(db, day)),
    totalHours: () => on(records.totalHours),
    deleteTotals: (before) => on((db) => records.deleteTotals(db, before)),
    lastRetention: () => on(records.lastRetention),
    retained: (atMs) => on((db) => records.retained(db, atMs)),
  };
}

function openFile(directory: string): DatabaseSync {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const database = new DatabaseSync(join(directory, "ebb.db"), { timeout: 5_000 });
    try {
      for (const pragma of ["journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "cache_size = -8000"])
        database.exec(`pragma ${pragma}`);
      // Bounds what a burst leaves behind on the disk; a checkpoint does not shrink the file by itself.
      database.exec("pragma journal_size_limit = 67108864");
    } catch (error) {
      database.close();
      throw error;
    }
    return database;
  } catch (error) {
    throw explain(error, directory);
  }
}

function quickCheck(database: DatabaseSync, directory: string): void {
  for (const table of checked) {
    const row = database.prepare(`pragma quick_check(${table})`).get();
    const verdict = row ? String(Object.values(row)[0]) : "ok";
    if (verdict !== "ok")
      throw new EbbError(
        "data_directory",
        `the data directory ${directory} is broken: its database ebb.db is damaged (${verdict}); restore a backup, or start with an empty one`,
      );
  }
}
