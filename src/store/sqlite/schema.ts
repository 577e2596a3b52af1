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
  invocations: InvocationRow;
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

export interface InvocationRow {
  seq: Generated<number>;
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
