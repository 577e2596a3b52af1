// Records in blocks of a second and a workload, in place of a row each with three indexes.

import type { Kysely } from "kysely";
import type { InvocationRecord } from "#model/invocation.ts";
import { packRecords } from "#model/record-block.ts";

/** Packed and written at a time. */
const rowsAtOnce = 5_000;
const blocksAtOnce = 500;

export async function up(db: Kysely<unknown>): Promise<void> {
  const { schema } = db;
  await schema
    .createTable("record_blocks")
    .addColumn("seq", "integer", (column) => column.primaryKey())
    .addColumn("project", "text", (column) => column.notNull())
    .addColumn("workload", "text", (column) => column.notNull())
    .addColumn("slot_ms", "bigint", (column) => column.notNull())
    .addColumn("records", "integer", (column) => column.notNull())
    .addColumn("body", "blob", (column) => column.notNull())
    .execute();
  await schema
    .createIndex("record_blocks_by_workload")
    .on("record_blocks")
    .columns(["project", "workload", "slot_ms"])
    .execute();
  await schema.createIndex("record_blocks_by_time").on("record_blocks").columns(["project", "slot_ms"]).execute();
  // An id tells when it was made, and so where its record is; those that are elsewhere are here.
  await schema
    .createTable("stray_ids")
    .addColumn("project", "text", (column) => column.notNull())
    .addColumn("id", "text", (column) => column.notNull())
    .addColumn("slot_ms", "bigint", (column) => column.notNull())
    .addPrimaryKeyConstraint("stray_ids_key", ["project", "id", "slot_ms"])
    .execute();
  await schema.createIndex("stray_ids_by_slot").on("stray_ids").columns(["project", "slot_ms"]).execute();
  await convert(db);
  await schema.dropTable("invocations").execute();
}

async function convert(db: Kysely<Before & After>): Promise<void> {
  for (let after = 0; ;) {
    const rows = await db
      .selectFrom("invocations")
      .selectAll()
      .where("seq", ">", after)
      .orderBy("seq")
      .limit(rowsAtOnce)
      .execute();
    const blocks = packRecords(rows.map(recordOf));
    // Many in one statement: of seldom called workloads each record is a block.
    for (let from = 0; from < blocks.length; from += blocksAtOnce) {
      const some = blocks.slice(from, from + blocksAtOnce);
      const values = some.map(({ project, workload, slotMs, records, body }) => {
        return { project, workload, slot_ms: slotMs, records, body };
      });
      await db.insertInto("record_blocks").values(values).execute();
      const strays = some.flatMap(({ project, slotMs, strayIds }) =>
        strayIds.map((id) => ({ project, id, slot_ms: slotMs })),
      );
      for (let of = 0; of < strays.length; of += blocksAtOnce)
        await db
          .insertInto("stray_ids")
          .values(strays.slice(of, of + blocksAtOnce))
          .onConflict((on) => on.doNothing())
          .execute();
    }
    const last = rows.at(-1);
    if (!last) return;
    after = last.seq;
  }
}

interface After {
  record_blocks: { project: string; workload: string; slot_ms: number; records: number; body: Uint8Array };
  stray_ids: { project: string; id: string; slot_ms: number };
}

interface Before {
  invocations: {
    seq: number;
    id: string;
    project: string;
    workload: string;
    revision: number | null;
    instance: string | null;
    trigger: string;
    time_ms: number;
    cold: number;
    queued_us: number;
    start_us: number;
    execution_us: number;
    billed_us: number;
    memory_mb: number;
    cpu_ns: number | null;
    bytes_in: number;
    bytes_out: number;
    status: number | null;
    outcome: string;
  };
}

function recordOf(row: Before["invocations"]): InvocationRecord {
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
