// The ledger in SQL: invocations, hourly totals, and the journal's position, changed together or not at all.

import { sql, type Kysely } from "kysely";
import type { InvocationRecord } from "#model/invocation.ts";
import { storeLimits } from "#model/limits.ts";
import type { UsageTotal } from "#model/usage.ts";
import type { JournalPosition, LedgerBatch, RecordDay } from "#metering/door.ts";
import type { InvocationQuery, UsageQuery } from "../door.ts";
import type { NodeSqlite } from "./dialect.ts";
import type { InvocationRow, Schema, TotalRow } from "./schema.ts";

const dayMs = 86_400_000;

export async function journal(
  db: Kysely<Schema>,
): Promise<{ readonly position: JournalPosition; readonly state: string } | null> {
  const row = await db.selectFrom("journal").selectAll().where("id", "=", 1).executeTakeFirst();
  if (!row || row.segment === 0) return null;
  return { position: { segment: row.segment, offsetBytes: row.offset_bytes }, state: row.state };
}

export async function commit(db: Kysely<Schema>, sqlite: NodeSqlite, batch: LedgerBatch): Promise<void> {
  await db.transaction().execute(async (trx) => {
    // Compiled once and run a thousand times: Kysely's building would cost more than SQLite's inserting.
    const first = batch.records[0];
    if (first) {
      const insert = sqlite.prepare(trx.insertInto("invocations").values(rowOf(first)).compile().sql);
      for (const record of batch.records) insert.run(Object.values(rowOf(record)));
    }
    for (const total of batch.totals) await addTotal(trx, total);
    for (const day of daysOf(batch.records))
      await trx
        .insertInto("record_days")
        .values({ project: day.project, day_ms: day.dayMs, records: day.records })
        .onConflict((on) =>
          on
            .columns(["project", "day_ms"])
            .doUpdateSet((set) => ({ records: set("record_days.records", "+", set.ref("excluded.records")) })),
        )
        .execute();
    const { position, state, damagedBytes } = batch;
    const at = { segment: position.segment, offset_bytes: position.offsetBytes, state };
    await trx
      .insertInto("journal")
      .values({ id: 1, ...at, damaged_bytes: damagedBytes })
      .onConflict((on) =>
        on
          .column("id")
          .doUpdateSet((set) => ({ ...at, damaged_bytes: set("journal.damaged_bytes", "+", damagedBytes) })),
      )
      .execute();
  });
}

function daysOf(records: readonly InvocationRecord[]): RecordDay[] {
  const days = new Map<string, { project: string; dayMs: number; records: number }>();
  for (const record of records) {
    const day = Math.floor(record.timeMs / dayMs) * dayMs;
    const key = `${record.project}/${day}`;
    const known = days.get(key);
    if (known) known.records++;
    else days.set(key, { project: record.project, dayMs: day, records: 1 });
  }
  return [...days.values()];
}

const sums = [
  "requests",
  "errors",
  "billed_us",
  "memory_mb_us",
  "cpu_ns",
  "provisioned_us",
  "provisioned_mb_us",
  "bytes_in",
  "bytes_out",
] as const;

async function addTotal(db: Kysely<Schema>, total: UsageTotal): Promise<void> {
  await db
    .insertInto("usage_totals")
    .values(totalRowOf(total))
    .onConflict((on) =>
      on
        .columns(["hour_ms", "project", "workload"])
        .doUpdateSet((set) =>
          Object.fromEntries(sums.map((name) => [name, set(`usage_totals.${name}`, "+", set.ref(`excluded.${name}`))])),
        ),
    )
    .execute();
}

/** In the order of the insert's parameters: one place says what goes where. */
function rowOf(record: InvocationRecord): Omit<InvocationRow, "seq"> {
  return {
    id: record.id,
    project: record.project,
    workload: record.workload,
    revision: record.revision,
    instance: record.instance,
    trigger: record.trigger,
    time_ms: record.timeMs,
    cold: record.cold ? 1 : 0,
    queued_us: record.queuedUs,
    start_us: record.startUs,
    execution_us: record.executionUs,
    billed_us: record.billedUs,
    memory_mb: record.memoryMb,
    cpu_ns: record.cpuNs,
    bytes_in: record.bytesIn,
    bytes_out: record.bytesOut,
    status: record.status,
    outcome: record.outcome,
  };
}

function recordOf(row: Omit<InvocationRow, "seq">): InvocationRecord {
  return {
    id: row.id,
    project: row.project,
    workload: row.workload,
    revision: row.revision,
    instance: row.instance,
    trigger: row.trigger as InvocationRecord["trigger"],
    timeMs: row.time_ms,
    cold: row.cold === 1,
    queuedUs: row.queued_us,
    startUs: row.start_us,
    executionUs: row.execution_us,
    billedUs: row.billed_us,
    memoryMb: row.memory_mb,
    cpuNs: row.cpu_ns,
    bytesIn: row.bytes_in,
    bytesOut: row.bytes_out,
    status: row.status,
    outcome: row.outcome as InvocationRecord["outcome"],
  };
}

function totalRowOf(total: UsageTotal): TotalRow {
  return {
    project: total.project,
    workload: total.workload,
    hour_ms: total.hourMs,
    requests: total.requests,
    errors: total.errors,
    billed_us: total.billedUs,
    memory_mb_us: total.memoryMbUs,
    cpu_ns: total.cpuNs,
    provisioned_us: total.provisionedUs,
    provisioned_mb_us: total.provisionedMbUs,
    bytes_in: total.bytesIn,
    bytes_out: total.bytesOut,
  };
}

function totalOf(row: TotalRow): UsageTotal {
  return {
    project: row.project,
    workload: row.workload,
    hourMs: row.hour_ms,
    requests: row.requests,
    errors: row.errors,
    billedUs: row.billed_us,
    memoryMbUs: row.memory_mb_us,
    cpuNs: row.cpu_ns,
    provisionedUs: row.provisioned_us,
    provisionedMbUs: row.provisioned_mb_us,
    bytesIn: row.bytes_in,
    bytesOut: row.bytes_out,
  };
}

export async function invocations(db: Kysely<Schema>, query: InvocationQuery): Promise<InvocationRecord[]> {
  const limit = Math.max(0, Math.min(query.limit, storeLimits.queryRows));
  if (query.id !== undefined) return byId(db, query.id, query, limit);
  let select = db.selectFrom("invocations").selectAll().where("project", "=", query.project);
  if (query.workload !== undefined) select = select.where("workload", "=", query.workload);
  if (query.sinceMs !== undefined) select = select.where("time_ms", ">=", query.sinceMs);
  const rows = await select.orderBy("time_ms", "desc").orderBy("seq", "desc").limit(limit).execute();
  return rows.map(recordOf);
}

/** By its id alone, the rest here: with more conditions SQLite may walk the whole project by time. */
async function byId(
  db: Kysely<Schema>,
  id: string,
  query: InvocationQuery,
  limit: number,
): Promise<InvocationRecord[]> {
  const rows = await db
    .selectFrom("invocations")
    .selectAll()
    .where("id", "=", id)
    .limit(storeLimits.queryRows)
    .execute();
  const { project, workload = null, sinceMs = 0 } = query;
  return rows
    .filter((row) => row.project === project && row.time_ms >= sinceMs && (workload ?? row.workload) === row.workload)
    .toSorted((a, b) => b.time_ms - a.time_ms || b.seq - a.seq)
    .slice(0, limit)
    .map(recordOf);
}

/** Hours that begin in [sinceMs, untilMs). */
export async function usage(db: Kysely<Schema>, query: UsageQuery): Promise<UsageTotal[]> {
  let select = db
    .selectFrom("usage_totals")
    .selectAll()
    .where("hour_ms", ">=", query.sinceMs)
    .where("hour_ms", "<", query.untilMs);
  if (query.project !== null) select = select.where("project", "=", query.project);
  if (query.workload !== undefined) select = select.where("workload", "=", query.workload);
  if (query.withErrors) select = select.where("errors", ">", 0);
  const rows = await select.orderBy("hour_ms").orderBy("project").orderBy("workload").execute();
  return rows.map(totalOf);
}

export async function oldestRecordMs(db: Kysely<Schema>): Promise<number | null> {
  const row = await db
    .selectFrom("record_days")
    .select((select) => select.fn.min("day_ms").as("oldest"))
    .executeTakeFirst();
  return row?.oldest ?? null;
}

export async function recordDays(db: Kysely<Schema>): Promise<RecordDay[]> {
  const rows = await db.selectFrom("record_days").selectAll().execute();
  return rows.map((row) => ({ project: row.project, dayMs: row.day_ms, records: row.records }));
}

export async function deleteRecords(
  db: Kysely<Schema>,
  day: { project: string; dayMs: number; limit: number },
): Promise<number> {
  return db.transaction().execute(async (trx) => {
    const oldest = trx
      .selectFrom("invocations")
      .select("seq")
      .where("project", "=", day.project)
      .where("time_ms", ">=", day.dayMs)
      .where("time_ms", "<", day.dayMs + dayMs)
      .orderBy("time_ms")
      .limit(day.limit);
    const { numDeletedRows } = await trx.deleteFrom("invocations").where("seq", "in", oldest).executeTakeFirst();
    const deleted = Number(numDeletedRows);
    const ofDay = trx.updateTable("record_days").where("project", "=", day.project).where("day_ms", "=", day.dayMs);
    await ofDay.set((set) => ({ records: deleted === 0 ? 0 : set("records", "-", deleted) })).execute();
    await trx.deleteFrom("record_days").where("records", "<=", 0).execute();
    return deleted;
  });
}

/** Two questions: SQLite answers each from one end of the index, and both at once by reading all of it. */
export async function totalHours(db: Kysely<Schema>): Promise<{ oldestMs: number; newestMs: number } | null> {
  const hour = db.selectFrom("usage_totals").select("hour_ms").limit(1);
  const oldest = await hour.orderBy("hour_ms").executeTakeFirst();
  const newest = await hour.orderBy("hour_ms", "desc").executeTakeFirst();
  return oldest && newest ? { oldestMs: oldest.hour_ms, newestMs: newest.hour_ms } : null;
}

export async function deleteTotals(
  db: Kysely<Schema>,
  { hourMs, limit }: { hourMs: number; limit: number },
): Promise<number> {
  const oldest = db
    .selectFrom("usage_totals")
    .select(["hour_ms", "project", "workload"])
    .where("hour_ms", "<", hourMs)
    .orderBy("hour_ms")
    .limit(limit);
  const { numDeletedRows } = await db
    .deleteFrom("usage_totals")
    .where((x) =>
      x(x.refTuple("hour_ms", "project", "workload"), "in", oldest.$asTuple("hour_ms", "project", "workload")),
    )
    .executeTakeFirst();
  return Number(numDeletedRows);
}

export async function lastRetention(db: Kysely<Schema>): Promise<number | null> {
  const row = await db.selectFrom("journal").select("retained_ms").where("id", "=", 1).executeTakeFirst();
  return row?.retained_ms ?? null;
}

export async function retained(db: Kysely<Schema>, atMs: number): Promise<void> {
  await db
    .insertInto("journal")
    .values({ id: 1, segment: 0, offset_bytes: 0, state: "", damaged_bytes: sql`0`, retained_ms: atMs })
    .onConflict((on) => on.column("id").doUpdateSet({ retained_ms: atMs }))
    .execute();
}
