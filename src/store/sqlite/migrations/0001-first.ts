// The first tables: what exists, who did what, and the ledger.

import { sql, type Kysely } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  const { schema } = db;
  await schema
    .createTable("projects")
    .addColumn("name", "text", (column) => column.primaryKey())
    .addColumn("body", "text", (column) => column.notNull())
    .execute();
  await schema
    .createTable("workloads")
    .addColumn("project", "text", (column) => column.notNull())
    .addColumn("workload", "text", (column) => column.notNull())
    .addColumn("kind", "text", (column) => column.notNull())
    .addColumn("current", "integer", (column) => column.notNull())
    .addColumn("created_ms", "bigint", (column) => column.notNull())
    .addColumn("updated_ms", "bigint", (column) => column.notNull())
    .addPrimaryKeyConstraint("workloads_key", ["project", "workload"])
    .execute();
  await schema
    .createTable("revisions")
    .addColumn("project", "text", (column) => column.notNull())
    .addColumn("workload", "text", (column) => column.notNull())
    .addColumn("number", "integer", (column) => column.notNull())
    .addColumn("code_digest", "text", (column) => column.notNull())
    .addColumn("body", "text", (column) => column.notNull())
    .addPrimaryKeyConstraint("revisions_key", ["project", "workload", "number"])
    .execute();
  await schema.createIndex("revisions_by_code").on("revisions").column("code_digest").execute();
  await schema
    .createTable("tokens")
    .addColumn("id", "text", (column) => column.primaryKey())
    .addColumn("project", "text")
    .addColumn("hash", "text", (column) => column.notNull().unique())
    .addColumn("body", "text", (column) => column.notNull())
    .execute();
  await schema
    .createTable("secrets")
    .addColumn("project", "text", (column) => column.notNull())
    .addColumn("name", "text", (column) => column.notNull())
    .addColumn("body", "text", (column) => column.notNull())
    .addPrimaryKeyConstraint("secrets_key", ["project", "name"])
    .execute();
  await schema
    .createTable("audits")
    .addColumn("seq", "integer", (column) => column.primaryKey().autoIncrement())
    .addColumn("time_ms", "bigint", (column) => column.notNull())
    .addColumn("identity", "text", (column) => column.notNull())
    .addColumn("command", "text", (column) => column.notNull())
    .addColumn("project", "text")
    .addColumn("target", "text")
    .addColumn("outcome", "text", (column) => column.notNull())
    .addColumn("detail", "text", (column) => column.notNull())
    .execute();
  await schema.createIndex("audits_by_time").on("audits").column("time_ms").execute();
  await ledger(db);
}

async function ledger(db: Kysely<unknown>): Promise<void> {
  const { schema } = db;
  let invocations = schema
    .createTable("invocations")
    .addColumn("seq", "integer", (column) => column.primaryKey())
    .addColumn("id", "text", (column) => column.notNull())
    .addColumn("project", "text", (column) => column.notNull())
    .addColumn("workload", "text", (column) => column.notNull())
    .addColumn("revision", "integer")
    .addColumn("instance", "text")
    .addColumn("trigger", "text", (column) => column.notNull());
  for (const name of ["time_ms", "cold", "queued_us", "start_us", "execution_us", "billed_us", "memory_mb"])
    invocations = invocations.addColumn(name, "bigint", (column) => column.notNull());
  await invocations
    .addColumn("cpu_ns", "bigint")
    .addColumn("bytes_in", "bigint", (column) => column.notNull())
    .addColumn("bytes_out", "bigint", (column) => column.notNull())
    .addColumn("status", "integer")
    .addColumn("outcome", "text", (column) => column.notNull())
    .execute();
  // One invocation may have several records (one an attempt), so its id is no key.
  await schema.createIndex("invocations_by_id").on("invocations").column("id").execute();
  await schema
    .createIndex("invocations_by_workload")
    .on("invocations")
    .columns(["project", "workload", "time_ms"])
    .execute();
  await schema.createIndex("invocations_by_time").on("invocations").columns(["project", "time_ms"]).execute();
  let totals = schema
    .createTable("usage_totals")
    .addColumn("project", "text", (column) => column.notNull())
    .addColumn("workload", "text", (column) => column.notNull())
    .addColumn("hour_ms", "bigint", (column) => column.notNull());
  const sums = ["requests", "errors", "billed_us", "memory_mb_us", "cpu_ns", "provisioned_us", "provisioned_mb_us"];
  for (const name of [...sums, "bytes_in", "bytes_out"])
    totals = totals.addColumn(name, "bigint", (column) => column.notNull());
  await totals.addPrimaryKeyConstraint("usage_totals_key", ["hour_ms", "project", "workload"]).execute();
  await schema
    .createTable("record_days")
    .addColumn("project", "text", (column) => column.notNull())
    .addColumn("day_ms", "bigint", (column) => column.notNull())
    .addColumn("records", "bigint", (column) => column.notNull())
    .addPrimaryKeyConstraint("record_days_key", ["project", "day_ms"])
    .execute();
  await schema
    .createTable("journal")
    .addColumn("id", "integer", (column) => column.primaryKey())
    .addColumn("segment", "bigint", (column) => column.notNull())
    .addColumn("offset_bytes", "bigint", (column) => column.notNull())
    .addColumn("state", "text", (column) => column.notNull())
    .addColumn("damaged_bytes", "bigint", (column) => column.notNull().defaultTo(sql`0`))
    .addColumn("retained_ms", "bigint")
    .execute();
}
