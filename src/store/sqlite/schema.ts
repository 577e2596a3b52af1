// The tables, as Kysely types. What is asked for by name is a column; the rest of a thing is JSON in `body`.

import type { Generated } from "kysely";

export interface Schema {
  schema_migrations: { number: number; name: string; applied_ms: number };
  projects: { name: string; body: string };
  workloads: {
    project: string;
    workload: string;
    kind: string;
    current: number;
    created_ms: number;
    updated_ms: number;
  };
  revisions: { project: string; workload: string; number: number; code_digest: string; body: string };
  tokens: { id: string; project: string | null; hash: string; body: string };
  secrets: { project: string; name: string; body: string };
  audits: {
    seq: Generated<number>;
    time_ms: number;
    identity: string;
    command: string;
    project: string | null;
    target: string | null;
    outcome: string;
    detail: string;
  };
  runs: { id: string; project: string; workload: string; open: number; content_digest: string; body: string };
  record_blocks: RecordBlockRow;
  /** Where the record of an id is that does not tell it. */
  stray_ids: { project: string; id: string; slot_ms: number };
  usage_totals: TotalRow;
  record_days: { project: string; day_ms: number; records: number };
  /** One row: where the journal is loaded to, and the state of the fold there. */
  journal: {
    id: number;
    segment: number;
    offset_bytes: number;
    state: string;
    damaged_bytes: number;
    retained_ms: number | null;
  };
}

/** Records of one workload and one second (model/record-block.ts); of one second there are as many as it took loads. */
export interface RecordBlockRow {
  seq: Generated<number>;
  project: string;
  workload: string;
  slot_ms: number;
  records: number;
  body: Uint8Array;
}

export interface TotalRow {
  project: string;
  workload: string;
  hour_ms: number;
  requests: number;
  errors: number;
  billed_us: number;
  memory_mb_us: number;
  cpu_ns: number;
  provisioned_us: number;
  provisioned_mb_us: number;
  bytes_in: number;
  bytes_out: number;
}
