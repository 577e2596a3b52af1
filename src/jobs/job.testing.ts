// For tests: a job's revision, whole and valid, and a run of it.

import type { ExecutionSpec } from "#fleet/door.ts";
import type { JobRevision, JobSettings } from "#model/workload.ts";

export function jobOf(workload: string, settings: Partial<JobSettings> = {}, project = "default"): JobRevision {
  return {
    project,
    workload,
    kind: "job",
    number: 1,
    codeDigest: "0".repeat(64),
    digest: `${workload}1`,
    settings: {
      runtime: "node26",
      command: ["node", "report.js"],
      args: [],
      memoryMb: 256,
      cpu: 1,
      cpuStrict: false,
      timeoutSeconds: 3_600,
      retries: 0,
      parallelism: 1,
      rerunOnInterrupt: true,
      env: {},
      secrets: [],
      egress: "none",
      isolation: "container",
      ...settings,
    },
    settingSources: {},
    createdMs: 0,
    createdBy: "test",
    gitCommit: null,
  };
}

export const noOverrides = { env: {}, args: null, memoryMb: null, parallelism: null } as const;

/** One attempt at it, of a program that does nothing. */
export function executionOf(revision: JobRevision, memoryMb = 128): ExecutionSpec {
  return {
    revision,
    memoryMb,
    command: ["true"],
    env: {},
    run: "run",
    execution: "execution",
    held: () => undefined,
  };
}
