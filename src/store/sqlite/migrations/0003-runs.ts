// Runs of jobs.

import type { Kysely } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  const { schema } = db;
  await schema
    .createTable("runs")
    .addColumn("id", "text", (column) => column.primaryKey())
    .addColumn("project", "text", (column) => column.notNull())
    .addColumn("workload", "text", (column) => column.notNull())
    // 1: it has not ended.
    .addColumn("open", "integer", (column) => column.notNull())
    .addColumn("content_digest", "text", (column) => column.notNull())
    .addColumn("body", "text", (column) => column.notNull())
    .execute();
  await schema.createIndex("runs_by_workload").on("runs").columns(["project", "workload", "id"]).execute();
  await schema.createIndex("runs_by_open").on("runs").columns(["open", "project", "workload", "id"]).execute();
}
