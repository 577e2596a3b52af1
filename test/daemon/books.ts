// The ledger as it lies in a data directory, read beside ebb and checked against what clients saw.

import assert from "node:assert/strict";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { Seen } from "./load.ts";

export interface Entry {
  readonly seq: number;
  readonly id: string;
  readonly workload: string;
  readonly outcome: string;
  readonly status: number | null;
}

/** Reads on from where the last reading stopped. Only what a daemon has loaded is in it: ask it for its usage first. */
export class BookReader {
  readonly #path: string;
  #seq = 0;

  constructor(directory: string) {
    this.#path = join(directory, "ebb.db");
  }

  /** New records; every sum of records must be its total, to the microsecond. */
  read(): Entry[] {
    const database = new DatabaseSync(this.#path, { readOnly: true, timeout: 5_000 });
    try {
      database.exec("begin");
      const fresh = database
        .prepare("select seq, id, workload, outcome, status from invocations where seq > ? order by seq")
        .all(this.#seq) as unknown as Entry[];
      const sums = (table: string, count: string): unknown =>
        database
          .prepare(
            `select project, workload, ${count} as requests, sum(billed_us) as billedUs from ${table} group by project, workload order by project, workload`,
          )
          .all();
      assert.deepEqual(
        sums("invocations", "count(*)"),
        sums("usage_totals", "sum(requests)"),
        "the records' sums are not the totals",
      );
      this.#seq = fresh.at(-1)?.seq ?? this.#seq;
      return fresh;
    } finally {
      database.close();
    }
  }
}

export interface Balance {
  readonly records: number;
  readonly interrupted: number;
}

/**
 * Holds what clients saw against the records of the same time: whoever got an id has one record; whoever got a whole answer
 * has its status in it. At most `atRisk` may be interrupted: those that were under way when the daemon died.
 */
export function balance(seen: readonly Seen[], entries: readonly Entry[], atRisk: number): Balance {
  const byId = new Map<string, Entry>();
  for (const entry of entries) {
    assert.ok(!byId.has(entry.id), `${entry.id} is recorded twice`);
    byId.set(entry.id, entry);
  }
  for (const one of seen) {
    if (one.id === null) continue;
    const entry = byId.get(one.id);
    assert.ok(entry, `${one.workload} ${one.id} was answered with ${one.status} (${one.ending}) and is not recorded`);
    assert.equal(entry.workload, one.workload);
    // The journal marks an answer when it is whole: cut off by a kill, the status that went ahead of it is not known.
    const told = one.ending === "complete" || entry.outcome !== "interrupted" || entry.status !== null;
    if (told)
      assert.equal(
        entry.status,
        one.status,
        `${one.workload} ${one.id}: ${one.ending} with ${one.status}, recorded as ${JSON.stringify(entry)}`,
      );
    if (one.ending === "complete" && one.status === 200)
      assert.ok(
        ["ok", "interrupted"].includes(entry.outcome),
        `${one.id} was whole and is recorded as ${entry.outcome}`,
      );
  }
  const interrupted = entries.filter((entry) => entry.outcome === "interrupted").length;
  assert.ok(interrupted <= atRisk, `${interrupted} are recorded as interrupted, and only ${atRisk} were under way`);
  return { records: entries.length, interrupted };
}
