// Typed client of our API, for the command line and the console: nothing of Node, and nothing of a browser.

import type { Scope } from "#model/access.ts";
import { ClientError, createTransport, type ClientOptions } from "./transport.ts";
import type {
  AuditRow,
  Deployed,
  DeployOptions,
  DeployStep,
  IdentityView,
  InvocationRow,
  LogRow,
  LogsQuery,
  ProjectView,
  NewProjectSettings,
  RevisionRow,
  RunOptions,
  RunRow,
  SecretRow,
  SecretSet,
  TokenRow,
  UsageView,
  WorkloadRow,
  WorkloadView,
} from "./types.ts";

export { ClientError, type ClientOptions, type Send } from "./transport.ts";
export type * from "./types.ts";

const base = "/api/v1";

/** Every name is encoded: it is data, and never a part of the path's structure. */
function projectPath(project: string, ...rest: readonly string[]): string {
  return [`${base}/projects`, project, ...rest].map((part, i) => (i === 0 ? part : encodeURIComponent(part))).join("/");
}

function tokensPath(project: string | null, id?: string): string {
  const path = project === null ? `${base}/tokens` : projectPath(project, "tokens");
  return id === undefined ? path : `${path}/${encodeURIComponent(id)}`;
}

export type Client = ReturnType<typeof createClient>;

export function createClient(options: ClientOptions) {
  const { text, json, nothing, lines, bytes } = createTransport(options);
  return {
    url: options.url,
    token: options.token,

    version: () => json<{ name: "ebb"; version: string; api: "v1" }>(`${base}/version`),
    identity: () => json<IdentityView>(`${base}/identity`),
    openapi: () => json<object>(`${base}/openapi.json`),
    metrics: () => text("/metrics"),

    projects: {
      list: () => json<ProjectView[]>(`${base}/projects`),
      create: (name: string) => json<ProjectView>(`${base}/projects`, { method: "POST", json: { name } }),
      set: (name: string, settings: NewProjectSettings) =>
        json<ProjectView>(projectPath(name), { method: "PATCH", json: settings }),
      remove: (name: string, everything: boolean) =>
        nothing(projectPath(name), { method: "DELETE", query: { everything } }),
    },

    workloads: {
      list: (project: string) => json<WorkloadRow[]>(projectPath(project, "workloads")),
      show: (project: string, name: string) => json<WorkloadView>(projectPath(project, "workloads", name)),
      remove: (project: string, name: string) => nothing(projectPath(project, "workloads", name), { method: "DELETE" }),
      revisions: (project: string, name: string) =>
        json<RevisionRow[]>(projectPath(project, "workloads", name, "revisions")),
      rollback: (project: string, name: string, revision: number | null) =>
        json<RevisionRow>(projectPath(project, "workloads", name, "rollback"), { method: "POST", json: { revision } }),
      restart: (project: string, name: string) =>
        nothing(projectPath(project, "workloads", name, "restart"), { method: "POST" }),
      invocations: (project: string, name: string, query: { since?: number; limit?: number } = {}) =>
        json<InvocationRow[]>(projectPath(project, "workloads", name, "invocations"), { query }),
    },

    /** `archive`: a gzipped tar. ClientError with every problem when it is refused. */
    async deploy(
      request: DeployOptions,
      archive: AsyncIterable<Uint8Array> | Uint8Array,
      told: (step: DeployStep) => void = () => {},
    ): Promise<Deployed> {
      const steps = lines<DeployStep>(`${base}/deploys`, {
        method: "POST",
        query: { ...request },
        headers: { "content-type": "application/gzip" },
        body: archive,
      });
      for await (const step of steps) {
        if (step.step === "failed") throw new ClientError(step.problem.detail, step.problem.status, step.problem);
        told(step);
        if (step.step !== "deployed") continue;
        const { results, kept, keptMore, removed } = step;
        return { results, kept, keptMore, removed };
      }
      throw new ClientError("the deploy broke off before it told how it ended", null, null);
    },

    runs: {
      start: (project: string, job: string, options: RunOptions = {}) =>
        json<RunRow>(projectPath(project, "workloads", job, "runs"), { method: "POST", json: options }),
      list: (project: string, job: string, query: { limit?: number } = {}) =>
        json<RunRow[]>(projectPath(project, "workloads", job, "runs"), { query }),
      /** With `waitSeconds`: when it has ended, or so much later. */
      show: (project: string, run: string, waitSeconds?: number) =>
        json<RunRow>(projectPath(project, "runs", run), { query: { waitSeconds } }),
      stop: (project: string, run: string) =>
        json<RunRow>(projectPath(project, "runs", run, "stop"), { method: "POST" }),
      result: (project: string, run: string, index = 0) =>
        bytes(projectPath(project, "runs", run, "result"), { query: { index } }),
    },

    secrets: {
      list: (project: string) => json<SecretRow[]>(projectPath(project, "secrets")),
      set: (project: string, name: string, value: string) =>
        json<SecretSet>(projectPath(project, "secrets", name), { method: "PUT", json: { value } }),
      remove: (project: string, name: string) => nothing(projectPath(project, "secrets", name), { method: "DELETE" }),
    },

    tokens: {
      /** `project` null: those of every project. */
      list: (project: string | null) => json<TokenRow[]>(tokensPath(project)),
      create: (project: string | null, token: { name: string; scope: Scope; expiresMs: number | null }) =>
        json<{ id: string; token: string }>(tokensPath(project), { method: "POST", json: token }),
      remove: (project: string | null, id: string) => nothing(tokensPath(project, id), { method: "DELETE" }),
      short: (project: string) =>
        json<{ token: string; expires: string }>(projectPath(project, "short-tokens"), { method: "POST" }),
    },

    invocation: (project: string, id: string) => json<InvocationRow>(projectPath(project, "invocations", id)),
    /** `project` null: all of them. */
    usage: (project: string | null, query: { since?: number; until?: number } = {}) =>
      json<UsageView>(project === null ? `${base}/usage` : projectPath(project, "usage"), { query }),
    audit: (project: string | null, query: { since?: number; limit?: number } = {}) =>
      json<AuditRow[]>(project === null ? `${base}/audit` : projectPath(project, "audit"), { query }),
    logs: (project: string, query: LogsQuery = {}) =>
      json<LogRow[]>(projectPath(project, "logs"), { query: { ...query } }),
    /** What is written from now on, until `signal` aborts or the daemon goes. */
    followLogs: (project: string, query: LogsQuery, signal: AbortSignal) =>
      lines<LogRow>(projectPath(project, "logs"), { query: { ...query, follow: true }, signal }),
  };
}
