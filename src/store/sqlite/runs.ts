// Runs of jobs, in SQL: accepted with the command that asks for them, followed until they have ended, and the newest kept.

import { sql, type Kysely, type Transaction } from "kysely";
import { EbbError } from "#model/errors.ts";
import { jobLimits, storeLimits } from "#model/limits.ts";
import { hasEnded, type Run } from "#model/run.ts";
import { contentDigestOf } from "#model/workload.ts";
import type { RunQuery } from "../door.ts";
import type { Schema } from "./schema.ts";

function rowOf(run: Run) {
  const { project, workload } = run.revision;
  const open = hasEnded(run.state) ? 0 : 1;
  return {
    id: run.id,
    project,
    workload,
    open,
    content_digest: contentDigestOf(run.revision),
    body: JSON.stringify(run),
  };
}

/** A new one; of those of its job that have ended the oldest go. EbbError not_found: its job was removed meanwhile. */
export async function insert(db: Transaction<Schema>, run: Run): Promise<void> {
  const { project, workload } = run.revision;
  const job = db.selectFrom("workloads").select("kind").where("project", "=", project).where("workload", "=", workload);
  if ((await job.executeTakeFirst()) === undefined)
    throw new EbbError("not_found", `there is no job ${project}/${workload}`);
  await db.insertInto("runs").values(rowOf(run)).execute();
  const ended = db
    .selectFrom("runs")
    .select("id")
    .where("project", "=", project)
    .where("workload", "=", workload)
    .where("open", "=", 0)
    .orderBy("id", "desc")
    // As a parameter either has the statement prepared anew each time it is bound: SQLite plans by their values.
    .offset(sql.lit(jobLimits.endedRunsKept))
    .limit(sql.lit(storeLimits.queryRows));
  await db.deleteFrom("runs").where("id", "in", ended).execute();
}

/** Those that are not there any more stay away: their job was removed. */
export async function update(db: Kysely<Schema>, runs: readonly Run[]): Promise<void> {
  await db.transaction().execute(async (trx) => {
    for (const run of runs) {
      const { open, body } = rowOf(run);
      await trx.updateTable("runs").set({ open, body }).where("id", "=", run.id).execute();
    }
  });
}

/** Newest first; what is behind so many bytes is left out. */
export async function select(db: Kysely<Schema>, { project, workload, id, limit }: RunQuery): Promise<Run[]> {
  let found = db
    .selectFrom("runs")
    .select(["id", "body"])
    .where("project", "=", project)
    .orderBy("id", "desc")
    .limit(limit);
  if (workload !== undefined) found = found.where("workload", "=", workload);
  if (id !== undefined) found = found.where("id", "=", id);
  const before = sql<number>`sum(length(body)) over (order by id desc) - length(body)`.as("before");
  const newest = db.selectFrom(found.as("found")).select(["id", "body", before]).as("newest");
  const rows = db.selectFrom(newest).select("body").where("before", "<", jobLimits.queryBytes).orderBy("id", "desc");
  return (await rows.execute()).map(({ body }) => JSON.parse(body) as Run);
}

/** Oldest first. */
export async function open(db: Kysely<Schema>): Promise<Run[]> {
  const rows = await db.selectFrom("runs").select("body").where("open", "=", 1).orderBy("id").execute();
  return rows.map(({ body }) => JSON.parse(body) as Run);
}

/** What those that have not ended are made of. */
export async function contentDigests(db: Kysely<Schema>): Promise<string[]> {
  const rows = await db.selectFrom("runs").select("content_digest").distinct().where("open", "=", 1).execute();
  return rows.map((row) => row.content_digest);
}
