// The store in memory: for simulations and tests. Behaves as the others do, but remembers nothing.

import type { AuditEntry, Secret, Token } from "#model/access.ts";
import { EbbError } from "#model/errors.ts";
import type { InvocationRecord } from "#model/invocation.ts";
import { jobLimits, storeLimits } from "#model/limits.ts";
import { hasEnded, type Run, type RunId } from "#model/run.ts";
import { recordsOf } from "#model/record-block.ts";
import { addUsage, type UsageTotal } from "#model/usage.ts";
import { contentDigestOf, keyOf, type Project, type Revision, type Workload } from "#model/workload.ts";
import type { LedgerBatch, RecordDay } from "#metering/door.ts";
import type { Change, Mutation } from "../door.ts";
import type { DeployedText, StoreDriver } from "../driver.ts";

const dayMs = 86_400_000;

interface State {
  projects: Map<string, Project>;
  workloads: Map<string, Workload>;
  /** By "project/workload", then by number. */
  revisions: Map<string, Map<number, Revision>>;
  runs: Map<RunId, Run>;
  tokens: Map<string, Token>;
  secrets: Map<string, Secret>;
}

export function createMemoryDriver(): StoreDriver {
  let state: State = {
    projects: new Map(),
    workloads: new Map(),
    revisions: new Map(),
    runs: new Map(),
    tokens: new Map(),
    secrets: new Map(),
  };
  const audits: AuditEntry[] = [];
  let records: InvocationRecord[] = [];
  const totals = new Map<string, UsageTotal>();
  let journal: Pick<LedgerBatch, "position" | "state"> | null = null;
  let retainedMs: number | null = null;

  const days = (): RecordDay[] => {
    const counts = new Map<string, RecordDay>();
    for (const { project, timeMs } of records) {
      const day = Math.floor(timeMs / dayMs) * dayMs;
      const known = counts.get(`${project}/${day}`)?.records ?? 0;
      counts.set(`${project}/${day}`, { project, dayMs: day, records: known + 1 });
    }
    return [...counts.values()];
  };

  return {
    open: async () => {},
    close: async () => {},
    rest: async () => {},
    async load() {
      const { projects, workloads, revisions, tokens, secrets } = state;
      const deployed = [...workloads.values()].map((of): DeployedText => {
        const revision = revisions.get(keyOf(of))!.get(of.current)!;
        return [of.createdMs, of.updatedMs, revision];
      });
      return {
        ...structuredClone({
          projects: [...projects.values()],
          tokens: [...tokens.values()],
          secrets: [...secrets.values()],
        }),
        deployed: JSON.stringify(deployed),
        next: null,
      };
    },
    async apply(change: Change) {
      // Worked out on a copy: all or nothing.
      const next: State = {
        projects: new Map(state.projects),
        workloads: new Map(state.workloads),
        revisions: new Map(Array.from(state.revisions, ([key, of]) => [key, new Map(of)])),
        runs: new Map(state.runs),
        tokens: new Map(state.tokens),
        secrets: new Map(state.secrets),
      };
      for (const mutation of structuredClone(change.mutations)) mutate(next, mutation);
      const serving = new Map<string, Revision>();
      for (const mutation of change.mutations) {
        if (mutation.kind !== "put_workload") continue;
        const workload = next.workloads.get(keyOf(mutation.workload));
        if (!workload) continue;
        const revision = next.revisions.get(keyOf(workload))?.get(workload.current);
        if (!revision)
          throw new EbbError("not_found", `there is no revision r${workload.current} of ${keyOf(workload)}`);
        serving.set(keyOf(workload), revision);
      }
      state = next;
      audits.push(structuredClone(change.audit));
      return [...serving.values()];
    },
    async audit(entry) {
      audits.push(structuredClone(entry));
    },
    async audits({ project, sinceMs, limit }) {
      const found = audits.filter((one) => one.timeMs >= sinceMs && (project === null || one.project === project));
      return found.toReversed().slice(0, Math.min(limit, storeLimits.queryRows));
    },
    async revisions(key) {
      return [...(state.revisions.get(keyOf(key))?.values() ?? [])].toSorted((a, b) => b.number - a.number);
    },
    async runs({ project, workload, id, limit }) {
      const found = [...state.runs.values()].filter(
        (run) =>
          run.revision.project === project &&
          (workload === undefined || run.revision.workload === workload) &&
          (id === undefined || run.id === id),
      );
      const newest = found.toSorted((a, b) => (a.id < b.id ? 1 : -1)).slice(0, limit);
      let bytes = 0;
      const kept = newest.filter((run) => {
        const before = bytes;
        bytes += JSON.stringify(run).length;
        return before < jobLimits.queryBytes;
      });
      return structuredClone(kept);
    },
    async openRuns() {
      const found = [...state.runs.values()].filter((run) => !hasEnded(run.state));
      return structuredClone(found.toSorted((a, b) => (a.id < b.id ? -1 : 1)));
    },
    async updateRuns(runs) {
      for (const run of structuredClone(runs)) if (state.runs.has(run.id)) state.runs.set(run.id, run);
    },
    async contentDigests() {
      const digests = new Set<string>();
      for (const of of state.revisions.values())
        for (const revision of of.values()) digests.add(contentDigestOf(revision));
      for (const run of state.runs.values()) if (!hasEnded(run.state)) digests.add(contentDigestOf(run.revision));
      return [...digests];
    },
    async invocations({ project, workload, id, sinceMs, limit }) {
      const found = records.filter(
        (one) =>
          one.project === project &&
          (workload === undefined || one.workload === workload) &&
          (id === undefined || one.id === id) &&
          (sinceMs === undefined || one.timeMs >= sinceMs),
      );
      const newestFirst = found.toReversed().toSorted((a, b) => b.timeMs - a.timeMs);
      return newestFirst.slice(0, Math.max(0, Math.min(limit, storeLimits.queryRows)));
    },
    async usage({ project, workload, withErrors = false, sinceMs, untilMs, after }) {
      const found = [...totals.values()].filter(
        (one) =>
          one.hourMs >= sinceMs &&
          one.hourMs < untilMs &&
          (project === null || one.project === project) &&
          (workload === undefined || one.workload === workload) &&
          (!withErrors || one.errors > 0) &&
          (after === undefined || orderOf(one) > orderOf(after)),
      );
      return found.toSorted((a, b) => (orderOf(a) < orderOf(b) ? -1 : 1)).slice(0, storeLimits.usageRows);
    },
    async retention() {
      const oldest = days().map((day) => day.dayMs);
      return { oldestRecordMs: oldest.length > 0 ? Math.min(...oldest) : null };
    },
    journal: async () => journal,
    async commit(batch) {
      for (const block of batch.blocks) records.push(...recordsOf(block));
      for (const total of batch.totals) {
        const key = `${total.project}/${total.workload}/${total.hourMs}`;
        const known = totals.get(key);
        totals.set(key, known ? addUsage(known, total) : { ...total });
      }
      journal = { position: { ...batch.position }, state: batch.state };
    },
    recordDays: async () => days(),
    async deleteRecords({ project, dayMs: day, limit }) {
      const inDay = (one: InvocationRecord): boolean =>
        one.project === project && one.timeMs >= day && one.timeMs < day + dayMs;
      const oldest = records.filter(inDay).toSorted((a, b) => a.timeMs - b.timeMs);
      const gone = new Set(oldest.slice(0, limit));
      records = records.filter((one) => !gone.has(one));
      return gone.size;
    },
    async totalHours() {
      const hours = [...totals.values()].map((total) => total.hourMs);
      return hours.length > 0 ? { oldestMs: Math.min(...hours), newestMs: Math.max(...hours) } : null;
    },
    async deleteTotals({ hourMs, limit }) {
      const before = [...totals].filter(([, total]) => total.hourMs < hourMs);
      const oldest = before.toSorted(([, a], [, b]) => a.hourMs - b.hourMs).slice(0, limit);
      for (const [key] of oldest) totals.delete(key);
      return oldest.length;
    },
    lastRetention: async () => retainedMs,
    async retained(atMs) {
      retainedMs = atMs;
    },
  };
}

function orderOf(of: Pick<UsageTotal, "hourMs" | "project" | "workload">): string {
  return `${String(of.hourMs).padStart(16, "0")} ${of.project} ${of.workload}`;
}

function mutate(state: State, mutation: Mutation): void {
  switch (mutation.kind) {
    case "put_project":
      state.projects.set(mutation.project.name, mutation.project);
      return;
    case "remove_project": {
      const { project } = mutation;
      state.projects.delete(project);
      for (const [key, of] of state.workloads) if (of.project === project) state.workloads.delete(key);
      for (const key of state.revisions.keys()) if (key.startsWith(`${project}/`)) state.revisions.delete(key);
      for (const [id, { revision }] of state.runs) if (revision.project === project) state.runs.delete(id);
      for (const [key, of] of state.tokens) if (of.project === project) state.tokens.delete(key);
      for (const [key, of] of state.secrets) if (of.project === project) state.secrets.delete(key);
      return;
    }
    case "put_workload":
      state.workloads.set(keyOf(mutation.workload), mutation.workload);
      return;
    case "remove_workload":
      state.workloads.delete(keyOf(mutation.key));
      state.revisions.delete(keyOf(mutation.key));
      for (const [id, { revision }] of state.runs) if (keyOf(revision) === keyOf(mutation.key)) state.runs.delete(id);
      return;
    case "put_revision": {
      const { revision } = mutation;
      const of = state.revisions.get(keyOf(revision)) ?? new Map<number, Revision>();
      state.revisions.set(keyOf(revision), of.set(revision.number, revision));
      return;
    }
    case "remove_revision": {
      const { key, number } = mutation;
      if (state.workloads.get(keyOf(key))?.current === number)
        throw new EbbError("conflict", `revision r${number} of ${keyOf(key)} serves and cannot be removed`);
      state.revisions.get(keyOf(key))?.delete(number);
      return;
    }
    case "put_run":
      putRun(state, mutation.run);
      return;
    case "put_token":
      state.tokens.set(mutation.token.id, mutation.token);
      return;
    case "remove_token":
      state.tokens.delete(mutation.id);
      return;
    case "put_secret":
      state.secrets.set(`${mutation.secret.project}/${mutation.secret.name}`, mutation.secret);
      return;
    case "remove_secret":
      state.secrets.delete(`${mutation.project}/${mutation.name}`);
  }
}

/** Of those of its job that have ended the oldest go. */
function putRun(state: State, run: Run): void {
  const { project, workload } = run.revision;
  if (!state.workloads.has(keyOf(run.revision)))
    throw new EbbError("not_found", `there is no job ${project}/${workload}`);
  state.runs.set(run.id, run);
  const ended = [...state.runs.values()].filter(
    (one) => keyOf(one.revision) === keyOf(run.revision) && hasEnded(one.state),
  );
  const newestFirst = ended.toSorted((a, b) => (a.id < b.id ? 1 : -1));
  for (const { id } of newestFirst.slice(jobLimits.endedRunsKept)) state.runs.delete(id);
}
