// The ledger in SQL: invocations, hourly totals, and the journal's position, changed together or not at all.

import { sql, type Kysely } from "kysely";
import type { InvocationRecord } from "#model/invocation.ts";
import { storeLimits } from "#model/limits.ts";
import { packRecords, recordsOf, slotOf, slotOfId, type RecordBlock } from "#model/record-block.ts";
import type { UsageTotal } from "#model/usage.ts";
import type { JournalPosition, LedgerBatch, RecordDay } from "#metering/door.ts";
import type { InvocationQuery, UsageQuery } from "../door.ts";
import type { NodeSqlite } from "./dialect.ts";
import type { RecordBlockRow, Schema, TotalRow } from "./schema.ts";

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
    // Compiled once and run for each: Kysely's building would cost more than SQLite's inserting.
    const first = batch.blocks[0];
    if (first) {
      const insert = sqlite.prepare(trx.insertInto("record_blocks").values(rowOf(first)).compile().sql);
      const insertStray = sqlite.prepare(insertStrayId(trx, "", "", 0).compile().sql);
      for (const block of batch.blocks) {
        insert.run(Object.values(rowOf(block)));
        for (const id of block.strayIds) insertStray.run([block.project, id, block.slotMs]);
      }
    }
    for (const total of batch.totals) await addTotal(trx, total);
    for (const day of daysOf(batch.blocks))
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

function insertStrayId(db: Kysely<Schema>, project: string, id: string, slotMs: number) {
  return db
    .insertInto("stray_ids")
    .values({ project, id, slot_ms: slotMs })
    .onConflict((on) => on.doNothing());
}

function daysOf(blocks: readonly RecordBlock[]): RecordDay[] {
  const days = new Map<string, { project: string; dayMs: number; records: number }>();
  for (const { project, slotMs, records } of blocks) {
    const day = Math.floor(slotMs / dayMs) * dayMs;
    const key = `${project}/${day}`;
    const known = days.get(key);
    if (known) known.records += records;
    else days.set(key, { project, dayMs: day, records });
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
function rowOf({ project, workload, slotMs, records, body }: RecordBlock): Omit<RecordBlockRow, "seq"> {
  return { project, workload, slot_ms: slotMs, records, body };
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
  if (limit === 0) return [];
  if (query.id !== undefined) return (await byId(db, query.id, query)).slice(0, limit);
  const { project, workload, sinceMs } = query;
  let select = db.selectFrom("record_blocks").select(["project", "workload", "slot_ms", "body"]);
  select = select.where("project", "=", project);
  if (workload !== undefined) select = select.where("workload", "=", workload);
  if (sinceMs !== undefined) select = select.where("slot_ms", ">=", slotOf(sinceMs));
  // Slots do not overlap: when there are enough, none that is older can have one more.
  const found: InvocationRecord[] = [];
  let slot: InvocationRecord[] = [];
  let slotMs: number | null = null;
  for await (const row of select.orderBy("slot_ms", "desc").orderBy("seq", "desc").stream()) {
    if (row.slot_ms !== slotMs) {
      found.push(...slot.toSorted(newestFirst));
      if (found.length >= limit) return found.slice(0, limit);
      slot = [];
      slotMs = row.slot_ms;
    }
    for (const record of recordsOf(row).toReversed()) if (record.timeMs >= (sinceMs ?? -Infinity)) slot.push(record);
  }
  found.push(...slot.toSorted(newestFirst));
  return found.slice(0, limit);
}

/** Of the same time the later is first already: sorting keeps the order. */
function newestFirst(a: InvocationRecord, b: InvocationRecord): number {
  return b.timeMs - a.timeMs;
}

/** Where the id says, and where it does not. */
async function byId(db: Kysely<Schema>, id: string, query: InvocationQuery): Promise<InvocationRecord[]> {
  const { project, workload, sinceMs = -Infinity } = query;
  const strays = await db
    .selectFrom("stray_ids")
    .select("slot_ms")
    .where("project", "=", project)
    .where("id", "=", id)
    .execute();
  const slots = [slotOfId(id) ?? [], ...strays.map((row) => row.slot_ms)].flat();
  const blocks = await db
    .selectFrom("record_blocks")
    .select(["project", "workload", "body"])
    .where("project", "=", project)
    .where("slot_ms", "in", slots)
    .orderBy("seq", "desc")
    .execute();
  return blocks
    .filter((block) => block.workload === (workload ?? block.workload) && mayHold(block.body, id))
    .flatMap((block) => recordsOf(block).toReversed())
    .filter((record) => record.id === id && record.timeMs >= sinceMs)
    .toSorted(newestFirst);
}

/** Looks at the bytes: a busy second has thousands of records, and to unpack them takes a hundred times as long. */
function mayHold(body: Uint8Array, id: string): boolean {
  return Buffer.from(body.buffer, body.byteOffset, body.byteLength).includes(id, 0, "latin1");
}

/** Hours that begin in [sinceMs, untilMs). */
export async function usage(db: Kysely<Schema>, sqlite: NodeSqlite, query: UsageQuery): Promise<UsageTotal[]> {
  // With the connection for itself: between two statements of a transaction it would read what may be taken back.
  const rows = await db.connection().execute(async (own) => usageRows(own, sqlite, query));
  return rows.map(totalOf);
}

/** Each hour is looked up by itself: so the index finds a project's rows among those of all. */
function usageRows(db: Kysely<Schema>, sqlite: NodeSqlite, query: UsageQuery): TotalRow[] {
  const { project, workload, withErrors, sinceMs, untilMs, after } = query;
  const nextHour = db
    .selectFrom("usage_totals")
    .select("hour_ms")
    .where("hour_ms", ">=", 0)
    .orderBy("hour_ms")
    .limit(1);
  const next = sqlite.prepare(nextHour.compile().sql);
  const hourFrom = (ms: number): number =>
    (next.all([ms, 1])[0] as { hour_ms: number } | undefined)?.hour_ms ?? Infinity;

  let ofHour = db.selectFrom("usage_totals").selectAll().where("hour_ms", "=", 0);
  if (project !== null) ofHour = ofHour.where("project", "=", project);
  if (workload !== undefined) ofHour = ofHour.where("workload", "=", workload);
  if (withErrors) ofHour = ofHour.where("errors", ">", 0);
  const sorted = ofHour.orderBy("project").orderBy("workload").limit(1);
  const of = [...(project === null ? [] : [project]), ...(workload === undefined ? [] : [workload])];
  const bound = withErrors ? [...of, 0] : of;

  const rows: TotalRow[] = [];
  let hourMs = hourFrom(Math.max(sinceMs, after?.hourMs ?? sinceMs));
  if (after !== undefined && hourMs === after.hourMs) {
    const behind = sorted.where((x) => x(x.refTuple("project", "workload"), ">", x.tuple("", "")));
    const parameters = [hourMs, ...bound, after.project, after.workload, storeLimits.usageRows];
    rows.push(...(sqlite.prepare(behind.compile().sql).all(parameters) as TotalRow[]));
    hourMs = hourFrom(hourMs + 1);
  }
  const select = sqlite.prepare(sorted.compile().sql);
  for (; hourMs < untilMs && rows.length < storeLimits.usageRows; hourMs = hourFrom(hourMs + 1))
    rows.push(...(select.all([hourMs, ...bound, storeLimits.usageRows - rows.length]) as TotalRow[]));
  return rows;
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
    const oldest = await trx
      .selectFrom("record_blocks")
      .select(["seq", "slot_ms", "records"])
      .where("project", "=", day.project)
      .where("slot_ms", ">=", day.dayMs)
      .where("slot_ms", "<", day.dayMs + dayMs)
      .orderBy("slot_ms")
      .orderBy("seq")
      // Each has at least one record.
      .limit(day.limit)
      .execute();
    let deleted = 0;
    const slots = new Set<number>();
    for (const { seq, slot_ms, records } of oldest) {
      if (deleted >= day.limit) break;
      slots.add(slot_ms);
      const last = day.limit - deleted < records;
      deleted += last ? await shorten(trx, seq, day.limit - deleted) : records;
      if (!last) await trx.deleteFrom("record_blocks").where("seq", "=", seq).execute();
    }
    await forgetStrays(trx, day.project, [...slots]);
    const ofDay = trx.updateTable("record_days").where("project", "=", day.project).where("day_ms", "=", day.dayMs);
    await ofDay.set((set) => ({ records: deleted === 0 ? 0 : set("records", "-", deleted) })).execute();
    await trx.deleteFrom("record_days").where("records", "<=", 0).execute();
    return deleted;
  });
}

/** Deletes the oldest records of a block, not all of them. */
async function shorten(db: Kysely<Schema>, seq: number, count: number): Promise<number> {
  const block = await db.selectFrom("record_blocks").selectAll().where("seq", "=", seq).executeTakeFirstOrThrow();
  const records = recordsOf(block);
  const gone = new Set(records.toSorted((a, b) => a.timeMs - b.timeMs).slice(0, count));
  // In their order, so that it is one block again: none takes more than it took.
  const [left] = packRecords(records.filter((record) => !gone.has(record)));
  const { records: kept, body } = left!;
  await db.updateTable("record_blocks").set({ records: kept, body }).where("seq", "=", seq).execute();
  return count;
}

/** Ids of slots of which nothing is left. */
async function forgetStrays(db: Kysely<Schema>, project: string, slots: readonly number[]): Promise<void> {
  for (const slotMs of slots) {
    const left = db
      .selectFrom("record_blocks")
      .select("seq")
      .where("project", "=", project)
      .where("slot_ms", "=", slotMs);
    await db
      .deleteFrom("stray_ids")
      .where("project", "=", project)
      .where("slot_ms", "=", slotMs)
      .where((where) => where.not(where.exists(left)))
      .execute();
  }
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
