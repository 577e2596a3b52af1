// The ledger as it lies in a data directory, read beside ebb and checked against what clients saw.

import assert from "node:assert/strict";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { InvocationRecord } from "#model/invocation.ts";
import { recordsOf, type RecordBlock } from "#model/record-block.ts";
import type { Seen } from "./load.ts";

/** Reads on from where the last reading stopped. Only what a daemon has loaded is in it: ask it for its usage first. */
export class BookReader {
  readonly #path: string;
  #seq = 0;
  /** Of all that was read, by project and workload. */
  readonly #sums = new Map<string, { requests: number; billedUs: number }>();

  constructor(directory: string) {
    this.#path = join(directory, "ebb.db");
  }

  /** New records; every sum of records must be its total, to the microsecond. */
  read(): InvocationRecord[] {
    const database = new DatabaseSync(this.#path, { readOnly: true, timeout: 5_000 });
    try {
      database.exec("begin");
      const blocks = database
        .prepare("select seq, project, workload, body from record_blocks where seq > ? order by seq")
        .all(this.#seq) as unknown as (Pick<RecordBlock, "project" | "workload" | "body"> & { seq: number })[];
      const fresh = blocks.flatMap(recordsOf);
      for (const { project, workload, billedUs } of fresh) {
        const known = this.#sums.get(`${project}/${workload}`) ?? { requests: 0, billedUs: 0 };
        this.#sums.set(`${project}/${workload}`, {
          requests: known.requests + 1,
          billedUs: known.billedUs + billedUs,
        });
      }
      const totals = database
        .prepare(
          "select project || '/' || workload as name, sum(requests) as requests, sum(billed_us) as billedUs from usage_totals group by project, workload",
        )
        .all();
      assert.deepEqual(
        this.#sums,
        new Map(totals.map(({ name, requests, billedUs }) => [name, { requests, billedUs }])),
        "the records' sums are not the totals",
      );
      this.#seq = blocks.at(-1)?.seq ?? this.#seq;
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
export function balance(seen: readonly Seen[], entries: readonly InvocationRecord[], atRisk: number): Balance {
  const byId = new Map<string, InvocationRecord>();
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
