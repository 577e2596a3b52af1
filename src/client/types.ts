// What the API answers, as its clients see it. A test of the API holds these types against its schemas.

import type { Scope } from "#model/access.ts";
import type { Problem } from "#model/errors.ts";

export interface IdentityView {
  readonly name: string;
  readonly project: string | null;
  readonly scope: Scope;
}

export interface ProjectView {
  readonly name: string;
  readonly created: string;
  readonly workloads: number;
  readonly quotas: Quotas;
  readonly egressPermit: readonly string[];
}

export interface Quotas {
  readonly memoryMb: number | null;
  readonly instances: number | null;
  readonly ratePerSecond: number | null;
}

/** What is left out stays. */
export interface NewProjectSettings extends Partial<Quotas> {
  readonly egressPermit?: readonly string[] | null;
}

/** By what it scales, what is aimed at, and the last change of how many instances are wanted. */
export interface ScalingRow {
  readonly by: string;
  readonly target: number;
  readonly percent: number | null;
  readonly last: {
    readonly time: string;
    readonly from: number;
    readonly to: number;
    readonly reasons: readonly string[];
  } | null;
}

export interface WorkloadRow {
  readonly project: string;
  readonly kind: string;
  readonly name: string;
  readonly revision: number;
  readonly state: string;
  readonly isolation: string;
  readonly instances: number;
  readonly paused: number;
  /** null: a job, which is not called. */
  readonly url: string | null;
  readonly pathUrl: string | null;
  readonly triggers: readonly unknown[];
  readonly public: boolean;
  readonly max: number;
  /** After starts that failed: none is tried before. */
  readonly nextStart: string | null;
  /** null: a job, which does not scale. */
  readonly scaling: ScalingRow | null;
  readonly lastActive: string | null;
  readonly errorsLastHour: number;
}

export interface InstanceRow {
  readonly id: string;
  readonly revision: number;
  readonly state: string;
  readonly isolation: string;
  readonly memoryMb: number;
  readonly started: string;
  readonly active: number;
}

export interface WorkloadView extends WorkloadRow {
  readonly runtime: string | null;
  readonly image: string | null;
  readonly settings: Readonly<Record<string, { readonly value: unknown; readonly source: string }>>;
  readonly instanceList: readonly InstanceRow[];
  readonly waiting: number;
  readonly active: number;
  readonly starting: number;
  readonly draining: number;
  readonly lastError: {
    readonly time: string;
    readonly fault: string;
    readonly message: string;
    readonly stack: string | null;
    readonly hint: string | null;
  } | null;
  readonly deployedBy: string;
  readonly deployed: string;
  readonly gitCommit: string | null;
}

export interface RevisionRow {
  readonly revision: number;
  readonly current: boolean;
  readonly created: string;
  readonly createdBy: string;
  readonly gitCommit: string | null;
  readonly runtime: string | null;
  readonly image: string | null;
  readonly codeDigest: string | null;
  readonly imageDigest: string | null;
}

export interface InvocationRow {
  readonly id: string;
  readonly time: string;
  readonly workload: string;
  readonly trigger: string;
  readonly outcome: string;
  readonly status: number | null;
  readonly cold: boolean;
  readonly queuedMs: number;
  readonly startMs: number;
  readonly durationMs: number;
  readonly billedMs: number;
  readonly memoryMb: number;
  readonly cpuMs: number | null;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly instance: string | null;
  readonly revision: number | null;
}

export interface LogRow {
  readonly time: string;
  readonly workload: string;
  readonly invocation: string | null;
  readonly stream: string;
  readonly level: string;
  readonly message: string;
}

export interface TaskRow {
  readonly index: number;
  readonly state: string;
  readonly reason: string | null;
  readonly message: string | null;
  readonly attempts: number;
  readonly invocation: string | null;
  readonly instance: string | null;
  readonly started: string | null;
  readonly ended: string | null;
  readonly notBefore: string | null;
  readonly exitCode: number | null;
  readonly resultBytes: number | null;
}

export interface RunRow {
  readonly id: string;
  readonly project: string;
  readonly workload: string;
  readonly revision: number;
  readonly state: string;
  readonly reason: string | null;
  readonly message: string | null;
  readonly created: string;
  readonly createdBy: string;
  readonly started: string | null;
  readonly ended: string | null;
  readonly exitCode: number | null;
  /** Names of what the run says itself. */
  readonly env: readonly string[];
  readonly args: readonly string[];
  readonly memoryMb: number;
  readonly tasks: readonly TaskRow[];
}

/** What a run says in the place of its job; null, left out: nothing. */
export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly args?: readonly string[] | null;
  readonly memoryMb?: number | null;
  readonly parallelism?: number | null;
}

export interface SecretRow {
  readonly name: string;
  readonly version: number;
  readonly updated: string;
}

export interface SecretSet {
  readonly version: number;
  readonly replaced: readonly string[];
}

export interface TokenRow {
  readonly id: string;
  readonly name: string;
  readonly project: string | null;
  readonly scope: Scope;
  readonly created: string;
  readonly expires: string | null;
}

export interface UsageRow {
  readonly project: string;
  readonly workload: string;
  readonly day: string;
  readonly requests: number;
  readonly errors: number;
  readonly billedMs: number;
  readonly gbSeconds: number;
  readonly vcpuSeconds: number;
  readonly provisionedSeconds: number;
  readonly provisionedGbSeconds: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
}

export interface UsageView {
  readonly rows: readonly UsageRow[];
  readonly oldestRecord: string | null;
  readonly keptDays: number;
}

export interface AuditRow {
  readonly time: string;
  readonly identity: string;
  readonly command: string;
  readonly project: string | null;
  readonly target: string | null;
  readonly outcome: string;
  readonly detail: string;
}

export interface DeployedWorkload {
  readonly source: string;
  readonly workload: string;
  readonly project: string;
  readonly revision: number;
  readonly before: number | null;
  readonly unchanged: boolean;
  readonly kind: string;
  readonly runtime: string | null;
  readonly entry: string | null;
  readonly handler: string | null;
  readonly signature: string | null;
  readonly image: string | null;
  readonly imageDigest: string | null;
  readonly command: readonly string[] | null;
  readonly public: boolean;
  /** null: a job, which is not called. */
  readonly url: string | null;
  readonly pathUrl: string | null;
}

export interface Deployed {
  readonly results: readonly DeployedWorkload[];
  readonly kept: readonly string[];
  readonly keptMore: number;
  readonly removed: readonly string[];
}

/** A line of a deploy's answer; the last is `deployed` or `failed`. A newer daemon may tell others too. */
export type DeployStep =
  | { readonly step: "received"; readonly files: number; readonly bytes: number }
  | { readonly step: "noted"; readonly workload: string; readonly message: string }
  | { readonly step: "building"; readonly workload: string }
  | { readonly step: "built"; readonly workload: string; readonly files: number; readonly transpiled: number }
  | { readonly step: "fetching"; readonly workload: string; readonly what: string }
  | { readonly step: "image"; readonly workload: string; readonly message: string }
  | { readonly step: "printed"; readonly workload: string; readonly message: string }
  | { readonly step: "checking"; readonly workload: string }
  | {
      readonly step: "checked";
      readonly workload: string;
      readonly runtime: string | null;
      readonly entry: string | null;
      readonly handler: string | null;
      readonly signature: string | null;
    }
  | (Deployed & { readonly step: "deployed" })
  | { readonly step: "failed"; readonly problem: Problem };

export interface DeployOptions {
  readonly project: string | null;
  readonly name: string | null;
  readonly folderName: string | null;
  readonly memoryMb: number | null;
  readonly env: readonly string[];
  readonly public: boolean | null;
  /** Workloads that are removed with it. */
  readonly prune: readonly string[];
  /** Images are built anew, whatever is kept of earlier builds. */
  readonly noCache?: boolean;
  readonly gitCommit: string | null;
}

export interface LogsQuery {
  readonly workload?: string;
  readonly invocation?: string;
  readonly run?: string;
  /** Epoch ms. */
  readonly since?: number;
  readonly limit?: number;
}
