// Pure: what the rooms know, in the words and units that users see.

import type { LogLine } from "#telemetry/door.ts";
import type { WorkloadLoad } from "#activator/door.ts";
import type { WorkloadFleetState } from "#fleet/door.ts";
import type { Scaled } from "#autoscaler/door.ts";
import type { AuditEntry, Secret, Token } from "#model/access.ts";
import type { InstanceView } from "#model/instance.ts";
import type { InvocationRecord } from "#model/invocation.ts";
import {
  isOfImage,
  requestsEach,
  scalesByUse,
  servingOf,
  type Isolation,
  type Revision,
  type Workload,
} from "#model/workload.ts";
import type { DayTotal } from "./usage.ts";

export function timeOf(ms: number): string {
  return new Date(ms).toISOString();
}

export function timeOrNull(ms: number | null): string | null {
  return ms === null ? null : timeOf(ms);
}

/** `none` says it plainer than the driver's name. */
function isolationOf(isolation: Isolation): string {
  return isolation === "process" ? "none" : isolation;
}

export interface WorkloadFacts {
  readonly workload: Workload;
  readonly revision: Revision;
  readonly fleet: WorkloadFleetState;
  readonly load: WorkloadLoad;
  readonly urls: { readonly url: string | null; readonly pathUrl: string | null };
  /** Tasks of a job that run. */
  readonly running: number;
  readonly scaled: Scaled;
  readonly errorsLastHour: number;
}

/** null: a job, which does not scale. */
function scalingOf(revision: Revision, { percent, last }: Scaled) {
  const settings = servingOf(revision)?.settings;
  if (settings === undefined) return null;
  const { scaling } = settings;
  let [by, target] = ["requests", requestsEach(settings)];
  if (scalesByUse(scaling))
    [by, target] = "cpuPercent" in scaling ? ["cpu", scaling.cpuPercent] : ["memory", scaling.memoryPercent];
  const why = last && { time: timeOf(last.timeMs), from: last.from, to: last.to, reasons: [...last.reasons] };
  return { by, target, percent, last: why };
}

export function workloadRow(facts: WorkloadFacts) {
  const { workload, revision, fleet, load, urls, running, errorsLastHour } = facts;
  const serving = servingOf(revision);
  return {
    project: workload.project,
    kind: workload.kind,
    name: workload.workload,
    revision: revision.number,
    state: fleet.state,
    isolation: isolationOf(revision.settings.isolation),
    instances: fleet.ready + fleet.draining + running,
    paused: fleet.paused,
    ...urls,
    triggers: [],
    public: serving?.settings.public ?? false,
    max: revision.kind === "job" ? revision.settings.parallelism : revision.settings.max,
    nextStart: timeOrNull(fleet.nextStartMs),
    scaling: scalingOf(revision, facts.scaled),
    lastActive: timeOrNull(load.lastActiveMs),
    errorsLastHour,
  };
}

export function workloadView(facts: WorkloadFacts, instances: readonly InstanceView[]) {
  const { revision, fleet, load } = facts;
  const settings: Record<string, { value: unknown; source: string }> = {};
  const sources = new Map(Object.entries(revision.settingSources));
  for (const [key, value] of Object.entries(revision.settings))
    settings[key] = { value, source: sources.get(key) ?? "default" };
  return {
    ...workloadRow(facts),
    ...rootOf(revision),
    settings,
    instanceList: instances.map((instance) => ({
      id: instance.id,
      revision: instance.revision,
      state: instance.state,
      isolation: isolationOf(instance.isolation),
      memoryMb: instance.memoryMb,
      started: timeOf(instance.startedMs),
      active: instance.active,
    })),
    waiting: load.waiting,
    active: load.active,
    starting: fleet.starting,
    draining: fleet.draining,
    lastError: fleet.lastFailure && {
      time: timeOf(fleet.lastFailure.timeMs),
      fault: fleet.lastFailure.fault,
      message: fleet.lastFailure.message,
      stack: fleet.lastFailure.stack,
      hint: fleet.lastFailure.hint,
    },
    deployedBy: revision.createdBy,
    deployed: timeOf(revision.createdMs),
    gitCommit: revision.gitCommit,
  };
}

export function revisionRow(revision: Revision, current: number) {
  return {
    revision: revision.number,
    current: revision.number === current,
    created: timeOf(revision.createdMs),
    createdBy: revision.createdBy,
    gitCommit: revision.gitCommit,
    ...rootOf(revision),
    ...contentOf(revision),
  };
}

/** What runs it: a runtime, or an image by the name that it was asked for. */
function rootOf(revision: Revision) {
  return isOfImage(revision)
    ? { runtime: null, image: revision.settings.image }
    : { runtime: revision.settings.runtime, image: null };
}

function contentOf(revision: Revision) {
  return isOfImage(revision)
    ? { codeDigest: null, imageDigest: revision.imageDigest }
    : { codeDigest: revision.codeDigest, imageDigest: null };
}

export function invocationRow(record: InvocationRecord) {
  return {
    id: record.id,
    time: timeOf(record.timeMs),
    workload: record.workload,
    trigger: record.trigger,
    outcome: record.outcome,
    status: record.status,
    cold: record.cold,
    queuedMs: record.queuedUs / 1_000,
    startMs: record.startUs / 1_000,
    durationMs: record.executionUs / 1_000,
    billedMs: record.billedUs / 1_000,
    memoryMb: record.memoryMb,
    cpuMs: record.cpuNs === null ? null : record.cpuNs / 1_000_000,
    bytesIn: record.bytesIn,
    bytesOut: record.bytesOut,
    instance: record.instance,
    revision: record.revision,
  };
}

export function logRow({ time, workload, invocation, stream, level, message }: LogLine) {
  return { time: timeOf(time), workload, invocation, stream, level, message };
}

export function secretRow({ name, version, updatedMs }: Secret) {
  return { name, version, updated: timeOf(updatedMs) };
}

/** Never the hash: it is of no use to a reader. */
export function tokenRow({ id, name, project, scope, createdMs, expiresMs }: Token) {
  return { id, name, project, scope, created: timeOf(createdMs), expires: timeOrNull(expiresMs) };
}

export function auditRow({ timeMs, identity, command, project, target, outcome, detail }: AuditEntry) {
  return { time: timeOf(timeMs), identity, command, project, target, outcome, detail };
}

/** GB as clouds bill it: 1,024 MiB. */
export function usageRow(sum: DayTotal) {
  return {
    project: sum.project,
    workload: sum.workload,
    day: sum.day,
    requests: sum.requests,
    errors: sum.errors,
    billedMs: sum.billedUs / 1_000,
    gbSeconds: sum.memoryMbUs / 1_024 / 1_000_000,
    vcpuSeconds: sum.cpuNs / 1_000_000_000,
    provisionedSeconds: sum.provisionedUs / 1_000_000,
    provisionedGbSeconds: sum.provisionedMbUs / 1_024 / 1_000_000,
    bytesIn: sum.bytesIn,
    bytesOut: sum.bytesOut,
  };
}
