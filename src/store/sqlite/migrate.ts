// Brings a database to the schema of this version, and refuses one that is ahead of it.

import type { Kysely } from "kysely";
import { EbbError } from "#model/errors.ts";
import { migrations as all, type Migration } from "./migrations/index.ts";
import type { Schema } from "./schema.ts";

export async function migrate(
  db: Kysely<Schema>,
  options: { directory: string; nowMs: number; migrations?: readonly Migration[] },
): Promise<void> {
  const known = options.migrations ?? all;
  await db.schema
    .createTable("schema_migrations")
    .ifNotExists()
    .addColumn("number", "integer", (column) => column.primaryKey())
    .addColumn("name", "text", (column) => column.notNull())
    .addColumn("applied_ms", "bigint", (column) => column.notNull())
    .execute();
  const done = new Set((await db.selectFrom("schema_migrations").select("number").execute()).map((row) => row.number));
  const newest = known.at(-1)?.number ?? 0;
  const ahead = [...done].filter((number) => number > newest);
  if (ahead.length > 0)
    throw new EbbError(
      "data_directory",
      `the data directory ${options.directory} was written by a newer ebb (schema ${Math.max(...ahead)}, this one knows ${newest}); start that version, or restore a backup from before it`,
    );
  for (const migration of known) {
    if (done.has(migration.number)) continue;
    const { number, name } = migration;
    // Each in its own transaction: what was killed in between goes on with the next.
    await db.transaction().execute(async (trx) => {
      await migration.up(trx as unknown as Kysely<unknown>);
      await trx.insertInto("schema_migrations").values({ number, name, applied_ms: options.nowMs }).execute();
    });
  }
}
