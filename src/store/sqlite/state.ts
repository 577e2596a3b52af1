// What exists, in SQL: load, apply, revisions, audit. Portable: nothing here is SQLite's alone.

import type { Kysely, Transaction } from "kysely";
import type { AuditEntry, Secret, Token } from "#model/access.ts";
import { EbbError } from "#model/errors.ts";
import { storeLimits } from "#model/limits.ts";
import {
  contentDigestOf,
  keyOf,
  type Project,
  type Revision,
  type Workload,
  type WorkloadKey,
} from "#model/workload.ts";
import type { Change, Mutation } from "../door.ts";
import type { AuditQuery, Part } from "../driver.ts";
import { damaged } from "./errors.ts";
import { insert as insertRun } from "./runs.ts";
import type { Schema } from "./schema.ts";

export async function load(db: Kysely<Schema>, after: WorkloadKey | null): Promise<Part> {
  return db.transaction().execute(async (trx) => {
    const bodies = async (table: "projects" | "tokens" | "secrets"): Promise<unknown[]> =>
      after === null ? (await trx.selectFrom(table).select("body").execute()).map((row) => JSON.parse(row.body)) : [];
    let select = trx
      .selectFrom("workloads as w")
      .leftJoin("revisions as r", (join) =>
        join
          .onRef("r.project", "=", "w.project")
          .onRef("r.workload", "=", "w.workload")
          .onRef("r.number", "=", "w.current"),
      )
      .select(["w.project", "w.workload", "w.created_ms", "w.updated_ms", "r.body"])
      .orderBy("w.project")
      .orderBy("w.workload")
      .limit(storeLimits.partWorkloads);
    if (after !== null)
      select = select.where((x) =>
        x(x.refTuple("w.project", "w.workload"), ">", x.tuple(after.project, after.workload)),
      );
    const rows = await select.execute();
    const last = rows.length < storeLimits.partWorkloads ? undefined : rows.at(-1);
    return {
      projects: (await bodies("projects")) as Project[],
      tokens: (await bodies("tokens")) as Token[],
      secrets: (await bodies("secrets")) as Secret[],
      deployed: `[${rows.map(textOf).join(",")}]`,
      next: last === undefined ? null : { project: last.project, workload: last.workload },
    };
  });
}

/** As it is stored: what only passes through here is not parsed. */
function textOf(row: WorkloadKey & { created_ms: number; updated_ms: number; body: string | null }): string {
  if (row.body === null) throw damaged(`the revision of ${keyOf(row)} that serves is missing`);
  return `[${row.created_ms},${row.updated_ms},${row.body}]`;
}

/** All or nothing; answers with the revisions that the workloads put now serve. */
export async function apply(db: Kysely<Schema>, change: Change): Promise<Revision[]> {
  return db.transaction().execute(async (trx) => {
    for (const mutation of change.mutations) await mutate(trx, mutation);
    const revisions: Revision[] = [];
    // Checked at the end: the order within a change is free.
    const put = new Map<string, Workload>();
    for (const mutation of change.mutations)
      if (mutation.kind === "put_workload") put.set(keyOf(mutation.workload), mutation.workload);
    for (const { project, workload, current } of put.values()) {
      const still = await workloadRow(trx, { project, workload });
      if (!still) continue;
      revisions.push(await revisionOf(trx, { project, workload }, current));
    }
    await insertAudit(trx, change.audit);
    return revisions;
  });
}

function workloadRow(db: Kysely<Schema>, key: WorkloadKey): Promise<{ current: number } | undefined> {
  return db
    .selectFrom("workloads")
    .select("current")
    .where("project", "=", key.project)
    .where("workload", "=", key.workload)
    .executeTakeFirst();
}

async function revisionOf(db: Kysely<Schema>, key: WorkloadKey, number: number): Promise<Revision> {
  const row = await db
    .selectFrom("revisions")
    .select("body")
    .where("project", "=", key.project)
    .where("workload", "=", key.workload)
    .where("number", "=", number)
    .executeTakeFirst();
  if (!row) throw new EbbError("not_found", `there is no revision r${number} of ${keyOf(key)}`);
  return JSON.parse(row.body) as Revision;
}

async function mutate(db: Transaction<Schema>, mutation: Mutation): Promise<void> {
  switch (mutation.kind) {
    case "put_project": {
      const row = { name: mutation.project.name, body: JSON.stringify(mutation.project) };
      await upsert(
        db
          .insertInto("projects")
          .values(row)
          .onConflict((on) => on.column("name").doUpdateSet(row)),
      );
      return;
    }
    case "remove_project":
      await db.deleteFrom("projects").where("name", "=", mutation.project).execute();
      for (const table of ["workloads", "revisions", "runs", "tokens", "secrets"] as const)
        await db.deleteFrom(table).where("project", "=", mutation.project).execute();
      return;
    case "put_workload": {
      const { project, workload, kind, current, createdMs, updatedMs } = mutation.workload;
      const row = { project, workload, kind, current, created_ms: createdMs, updated_ms: updatedMs };
      const insert = db.insertInto("workloads").values(row);
      await upsert(insert.onConflict((on) => on.columns(["project", "workload"]).doUpdateSet(row)));
      return;
    }
    case "remove_workload": {
      const { project, workload } = mutation.key;
      for (const table of ["workloads", "revisions", "runs"] as const)
        await db.deleteFrom(table).where("project", "=", project).where("workload", "=", workload).execute();
      return;
    }
    case "put_revision": {
      const { revision } = mutation;
      const { project, workload, number } = revision;
      // The column is older than images.
      const row = { project, workload, number, code_digest: contentDigestOf(revision), body: JSON.stringify(revision) };
      const insert = db.insertInto("revisions").values(row);
      await upsert(insert.onConflict((on) => on.columns(["project", "workload", "number"]).doUpdateSet(row)));
      return;
    }
    case "remove_revision":
      return removeRevision(db, mutation.key, mutation.number);
    case "put_run":
      return insertRun(db, mutation.run);
    case "put_token": {
      const { id, project, hash } = mutation.token;
      const row = { id, project, hash, body: JSON.stringify(mutation.token) };
      await upsert(
        db
          .insertInto("tokens")
          .values(row)
          .onConflict((on) => on.column("id").doUpdateSet(row)),
      );
      return;
    }
    case "remove_token":
      await db.deleteFrom("tokens").where("id", "=", mutation.id).execute();
      return;
    case "put_secret": {
      const { project, name } = mutation.secret;
      const row = { project, name, body: JSON.stringify(mutation.secret) };
      const insert = db.insertInto("secrets").values(row);
      await upsert(insert.onConflict((on) => on.columns(["project", "name"]).doUpdateSet(row)));
      return;
    }
    case "remove_secret": {
      const { project, name } = mutation;
      await db.deleteFrom("secrets").where("project", "=", project).where("name", "=", name).execute();
    }
  }
}

async function upsert(query: { execute(): Promise<unknown> }): Promise<void> {
  await query.execute();
}

async function removeRevision(db: Transaction<Schema>, key: WorkloadKey, number: number): Promise<void> {
  if ((await workloadRow(db, key))?.current === number)
    throw new EbbError("conflict", `revision r${number} of ${keyOf(key)} serves and cannot be removed`);
  await db
    .deleteFrom("revisions")
    .where("project", "=", key.project)
    .where("workload", "=", key.workload)
    .where("number", "=", number)
    .execute();
}

export async function revisions(db: Kysely<Schema>, key: WorkloadKey): Promise<Revision[]> {
  const rows = await db
    .selectFrom("revisions")
    .select("body")
    .where("project", "=", key.project)
    .where("workload", "=", key.workload)
    .orderBy("number", "desc")
    .execute();
  return rows.map((row) => JSON.parse(row.body) as Revision);
}

export async function contentDigests(db: Kysely<Schema>): Promise<string[]> {
  const rows = await db.selectFrom("revisions").select("code_digest").distinct().execute();
  return rows.map((row) => row.code_digest);
}

export async function insertAudit(db: Kysely<Schema>, entry: AuditEntry): Promise<void> {
  const { timeMs, identity, command, project, target, outcome, detail } = entry;
  const row = { time_ms: timeMs, identity, command, project, target, outcome, detail };
  const inserted = await db.insertInto("audits").values(row).executeTakeFirst();
  const seq = Number(inserted.insertId ?? 0);
  // Bounded without counting: numbers only rise.
  if (seq % 1_000 === 0)
    await db
      .deleteFrom("audits")
      .where("seq", "<=", seq - storeLimits.auditsKept)
      .execute();
}

export async function audits(db: Kysely<Schema>, query: AuditQuery): Promise<AuditEntry[]> {
  let select = db
    .selectFrom("audits")
    .select(["time_ms", "identity", "command", "project", "target", "outcome", "detail"])
    .where("time_ms", ">=", query.sinceMs)
    .orderBy("seq", "desc")
    .limit(Math.min(query.limit, storeLimits.queryRows));
  if (query.project !== null) select = select.where("project", "=", query.project);
  return (await select.execute()).map((row) => ({
    timeMs: row.time_ms,
    identity: row.identity,
    command: row.command,
    project: row.project,
    target: row.target,
    outcome: row.outcome as AuditEntry["outcome"],
    detail: row.detail,
  }));
}
