// Records lie in blocks of a second: found by id, by time and to the last one deleted, also those of a database from before.

import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, describe, it } from "node:test";
import { Kysely, sql } from "kysely";
import { newInvocationId } from "#model/ids.ts";
import type { InvocationRecord } from "#model/invocation.ts";
import { packRecords, slotOf } from "#model/record-block.ts";
import { record } from "../fixtures/things.ts";
import { NodeSqlite, nodeSqliteDialect } from "./dialect.ts";
import { migrate } from "./migrate.ts";
import { migrations } from "./migrations/index.ts";
import { commit, deleteRecords, invocations, recordDays, usage } from "./records.ts";
import type { Schema } from "./schema.ts";

const day = 86_400_000;
const options = { directory: "d", nowMs: 5 };
const project = "default";

let sqlite: NodeSqlite;
let db: Kysely<Schema>;
beforeEach(() => {
  sqlite = new NodeSqlite(new DatabaseSync(":memory:"));
  db = new Kysely<Schema>({ dialect: nodeSqliteDialect(sqlite) });
});
afterEach(() => db.destroy());

const zeros = {
  requests: 0,
  errors: 0,
  billed_us: 0,
  memory_mb_us: 0,
  cpu_ns: 0,
  provisioned_us: 0,
  provisioned_mb_us: 0,
  bytes_in: 0,
  bytes_out: 0,
};

const at = (timeMs: number, more: Partial<InvocationRecord> = {}): InvocationRecord =>
  record(newInvocationId(timeMs), { timeMs, ...more });
const newestFirst = (records: readonly InvocationRecord[]): InvocationRecord[] =>
  records.toReversed().toSorted((a, b) => b.timeMs - a.timeMs);

describe("records in blocks", () => {
  beforeEach(() => migrate(db, options));
  const store = (...records: InvocationRecord[]): Promise<void> =>
    commit(db, sqlite, {
      blocks: packRecords(records),
      totals: [],
      position: { segment: 1, offsetBytes: 1 },
      state: "",
      damagedBytes: 0,
    });
  const count = (table: "record_blocks" | "stray_ids"): Promise<number> =>
    db
      .selectFrom(table)
      .select((select) => select.fn.countAll<number>().as("count"))
      .executeTakeFirstOrThrow()
      .then((row) => row.count);

  it("are answered newest first, whichever load and workload they came with, as many as are asked for", async () => {
    const records = Array.from({ length: 300 }, (_, n) =>
      at(day + ((n * 7_919) % 5_000), { workload: n % 3 === 0 ? "a" : "b" }),
    );
    for (let n = 0; n < 300; n += 50) await store(...records.slice(n, n + 50));
    const times = async (query: object): Promise<number[]> =>
      (await invocations(db, { project, limit: 1_000, ...query })).map((one) => one.timeMs);
    const expected = newestFirst(records);
    assert.deepEqual(
      await times({}),
      expected.map((one) => one.timeMs),
    );
    const ofA = expected.filter((one) => one.workload === "a");
    for (const limit of [0, 1, 17, 99, 100, 101])
      assert.deepEqual(await invocations(db, { project, workload: "a", limit }), ofA.slice(0, limit));
    const since = day + 1_234;
    const lately = expected.filter((one) => one.timeMs >= since).map((one) => one.timeMs);
    assert.deepEqual(await times({ sinceMs: since }), lately);
  });

  it("are found by an id that tells its second, by one that tells another, and by one that tells nothing", async () => {
    const plain = at(day);
    const late = record(newInvocationId(day), { timeMs: day + 60_000 });
    const odd = record("odd", { timeMs: day + 500 });
    const twice = [1, 2].map((bytesIn) => record(plain.id, { timeMs: day + 90_000, bytesIn }));
    await store(plain, late, odd, ...twice, at(day, { project: "other" }));
    const found = (id: string, more: object = {}): Promise<InvocationRecord[]> =>
      invocations(db, { project, id, limit: 10, ...more });
    assert.deepEqual(await found(late.id), [late]);
    assert.deepEqual(await found("odd"), [odd]);
    assert.deepEqual(await found(plain.id), [twice[1], twice[0], plain]);
    assert.deepEqual(await found(plain.id, { sinceMs: day + 1 }), [twice[1], twice[0]]);
    assert.deepEqual(await found(plain.id, { limit: 1 }), [twice[1]]);
    assert.deepEqual(await found(plain.id, { workload: "another" }), []);
    assert.deepEqual(await found(newInvocationId(day)), []);
    assert.deepEqual(await invocations(db, { project: "other", id: plain.id, limit: 1 }), []);
  });

  it("go one by one, the oldest of the day first, and with the last of a second what was known of its ids", async () => {
    const records = Array.from({ length: 1_500 }, (_, n) =>
      at(day + n, { instance: `i${n % 2}`, workload: n % 5 === 0 ? "a" : "b" }),
    );
    records.push(record("odd", { timeMs: day + 1_600 }));
    const kept = [at(2 * day), at(day, { project: "other" })];
    await store(...records, ...kept);
    let left = records.length;
    for (const limit of [1, 250, 600, 600]) {
      assert.equal(await deleteRecords(db, { project, dayMs: day, limit }), limit);
      left -= limit;
      const days = await recordDays(db);
      assert.deepEqual(days.map((one) => `${one.project} ${one.dayMs / day} ${one.records}`).toSorted(), [
        `default 1 ${left}`,
        "default 2 1",
        "other 1 1",
      ]);
      const found = await invocations(db, { project, limit: 10_000 });
      assert.equal(found.length, left + 1);
      const ids = new Set(found.map((one) => one.id));
      const [here, gone] = [true, false].map((is) => [...records, kept[0]!].filter((one) => ids.has(one.id) === is));
      assert.deepEqual(found, newestFirst(here!));
      assert.ok(slotOf(gone!.at(-1)!.timeMs) <= slotOf(found.at(-1)!.timeMs), "to the second");
    }
    assert.equal(await count("stray_ids"), 1);
    assert.equal(await deleteRecords(db, { project, dayMs: day, limit: 600 }), left);
    assert.equal(await deleteRecords(db, { project, dayMs: day, limit: 600 }), 0);
    assert.equal(await count("stray_ids"), 0);
    assert.equal(await count("record_blocks"), 2);
    assert.deepEqual(await invocations(db, { project, limit: 10 }), [kept[0]]);
  });
});

describe("the migration to blocks", () => {
  it("keeps every record, in its order", async () => {
    await migrate(db, { ...options, migrations: migrations.slice(0, 1) });
    const given = Array.from({ length: 5_003 }, (_, n) =>
      at(day + 700 * n, { workload: n % 3 === 0 ? "a" : "b", cold: n === 7 }),
    );
    const refused = { revision: null, instance: null, status: null, outcome: "refused" } as const;
    given.push(record("x", { timeMs: 5, cpuNs: 77, ...refused }));
    for (let n = 0; n < given.length; n += 500) {
      const values = given.slice(n, n + 500).map((one) => sql`(${oldValues(one)})`);
      await sql`insert into invocations ${oldColumns} values ${sql.join(values)}`.execute(db);
    }
    await migrate(db, options);
    assert.deepEqual(await invocations(db, { project, limit: 10_000 }), newestFirst(given));
    for (const one of [given[0]!, given[5_002]!, given[5_003]!])
      assert.deepEqual(await invocations(db, { project, id: one.id, limit: 2 }), [one]);
  });
});

const oldColumns = sql.raw(
  "(id, project, workload, revision, instance, trigger, time_ms, cold, queued_us, start_us, execution_us, billed_us, memory_mb, cpu_ns, bytes_in, bytes_out, status, outcome)",
);

function oldValues(of: InvocationRecord): ReturnType<typeof sql.join> {
  const { id, workload, revision, instance, trigger, timeMs, cold, queuedUs, startUs } = of;
  const { executionUs, billedUs, memoryMb, cpuNs, bytesIn, bytesOut, status, outcome } = of;
  const first = [id, of.project, workload, revision, instance, trigger, timeMs, cold ? 1 : 0, queuedUs, startUs];
  return sql.join([...first, executionUs, billedUs, memoryMb, cpuNs, bytesIn, bytesOut, status, outcome]);
}

it("totals are read between transactions, not in the middle of one that may be taken back", async () => {
  await migrate(db, options);
  const { promise: written, resolve } = Promise.withResolvers<void>();
  const hour = { project, workload: "hello", hour_ms: 3_600_000 };
  const failing = db.transaction().execute(async (trx) => {
    await trx
      .insertInto("usage_totals")
      .values({ ...zeros, ...hour })
      .execute();
    resolve();
    await new Promise((later) => void setImmediate(later));
    throw new Error("taken back");
  });
  await written;
  const read = usage(db, sqlite, { project, sinceMs: 0, untilMs: day });
  await assert.rejects(failing, /taken back/);
  assert.deepEqual(await read, []);
});
