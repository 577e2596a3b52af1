// What remembers: the state of what exists, changed in transactions, mirrored in the main thread's memory.

import type { AuditEntry, Secret, Token } from "#model/access.ts";
import type { InvocationRecord } from "#model/invocation.ts";
import type { Run, RunId } from "#model/run.ts";
import type { UsageTotal } from "#model/usage.ts";
import type { Project, Revision, Workload, WorkloadKey } from "#model/workload.ts";

/**
 * One thing that changes. The store and the mirror each apply the same list: one switch each.
 * put_workload must name a revision that is there or in the same change; remove_workload takes its revisions and runs along,
 * remove_project its workloads, tokens and secrets; the revision that serves cannot be removed. put_run is for a new one, of a job that is there.
 */
export type Mutation =
  | { readonly kind: "put_project"; readonly project: Project }
  | { readonly kind: "remove_project"; readonly project: string }
  | { readonly kind: "put_workload"; readonly workload: Workload }
  | { readonly kind: "remove_workload"; readonly key: WorkloadKey }
  | { readonly kind: "put_revision"; readonly revision: Revision }
  | { readonly kind: "remove_revision"; readonly key: WorkloadKey; readonly number: number }
  | { readonly kind: "put_run"; readonly run: Run }
  | { readonly kind: "put_token"; readonly token: Token }
  | { readonly kind: "remove_token"; readonly id: string }
  | { readonly kind: "put_secret"; readonly secret: Secret }
  | { readonly kind: "remove_secret"; readonly project: string; readonly name: string };

/** Applied in one transaction, fsynced, or not at all. */
export interface Change {
  readonly mutations: readonly Mutation[];
  readonly audit: AuditEntry;
}

export interface Snapshot {
  readonly projects: readonly Project[];
  readonly workloads: readonly Workload[];
  /** The current revision of each workload; older ones are read by `revisions`. */
  readonly revisions: readonly Revision[];
  readonly tokens: readonly Token[];
  readonly secrets: readonly Secret[];
}

export interface InvocationQuery {
  readonly project: string;
  readonly workload?: string;
  readonly id?: string;
  readonly sinceMs?: number;
  readonly limit: number;
}

export interface RunQuery {
  readonly project: string;
  readonly workload?: string;
  readonly id?: RunId;
  readonly limit: number;
}

export interface UsageQuery {
  /** null: all projects. */
  readonly project: string | null;
  readonly workload?: string;
  /** Hours without an error are left out. */
  readonly withErrors?: true;
  readonly sinceMs: number;
  readonly untilMs: number;
  /** What comes behind this one. */
  readonly after?: Pick<UsageTotal, "hourMs" | "project" | "workload">;
}

/** Answers of the store worker. Every call rejects with EbbError store_unavailable while the worker is being replaced. */
export interface Store {
  /** Opens (or creates) and migrates. Rejects with one clear sentence: in use, broken, of a newer version, no space. */
  start(): Promise<void>;
  stop(): Promise<void>;
  /** In parts: of what changes meanwhile some may be in it. */
  load(): Promise<Snapshot>;
  /** Commits, then changes the mirror; resolves after both. */
  apply(change: Change): Promise<void>;
  /** An audit row without a change (a refused command). */
  audit(entry: AuditEntry): Promise<void>;
  audits(query: { project: string | null; sinceMs: number; limit: number }): Promise<readonly AuditEntry[]>;
  /** Newest first. */
  revisions(key: WorkloadKey): Promise<readonly Revision[]>;
  /** Newest first; fewer than asked for where they hold more than `jobLimits.queryBytes`. */
  runs(query: RunQuery): Promise<readonly Run[]>;
  /** All that have not ended, oldest first. */
  openRuns(): Promise<readonly Run[]>;
  /** Where they are now, in one transaction; of those that are not there any more nothing is kept. */
  updateRuns(runs: readonly Run[]): Promise<void>;
  /** Digests of code and images that any revision still names, or a run that has not ended. */
  contentDigests(): Promise<ReadonlySet<string>>;
  /** Both load the journal to its end first. Newest first. */
  invocations(query: InvocationQuery): Promise<readonly InvocationRecord[]>;
  /** By hour, project and workload; `storeLimits.usageRows` at most, and fewer only when there are no more. */
  usage(query: UsageQuery): Promise<readonly UsageTotal[]>;
  /** When records were last thrown away to keep the bounds; null: never. */
  retention(): Promise<{ readonly oldestRecordMs: number | null }>;
}

/** What exists, in memory: read on the request path, without waiting. Changed by Store.apply alone. */
export interface Mirror {
  project(name: string): Project | null;
  projects(): Iterable<Project>;
  workload(project: string, name: string): { readonly workload: Workload; readonly revision: Revision } | null;
  /** How many workloads a project has. */
  count(project: string): number;
  workloads(project?: string): Iterable<{ readonly workload: Workload; readonly revision: Revision }>;
  tokenByHash(hash: string): Token | null;
  tokens(project: string | null): Iterable<Token>;
  secret(project: string, name: string): Secret | null;
  secrets(project: string): Iterable<Secret>;
  /** Called after each applied change. */
  onChange(listener: (mutations: readonly Mutation[]) => void): void;
}
