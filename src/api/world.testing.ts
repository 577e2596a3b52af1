// For tests: the API over control's test world, with doubles of what only answers queries.

import { Readable } from "node:stream";
import type { InvocationRecord } from "#model/invocation.ts";
import { storeLimits } from "#model/limits.ts";
import type { UsageTotal } from "#model/usage.ts";
import type { LogLine } from "#telemetry/door.ts";
import { createWorld, type World } from "#control/world.testing.ts";
import { createApi, type ApiRoom } from "./api.ts";

export interface ApiWorld extends World {
  readonly api: ApiRoom;
  readonly records: InvocationRecord[];
  readonly totals: UsageTotal[];
  readonly lines: LogLine[];
  /** Those who follow the log now. */
  readonly followers: Set<(line: LogLine) => void>;
}

export async function createApiWorld(): Promise<ApiWorld> {
  const world = await createWorld();
  const records: InvocationRecord[] = [];
  const totals: UsageTotal[] = [];
  const lines: LogLine[] = [];
  const followers = new Set<(line: LogLine) => void>();
  const api = await createApi({
    version: "0.1.0",
    control: world.control,
    access: world.access,
    mirror: world.mirror,
    clock: world.clock,
    tell: world.tell,
    urlsOf: world.urlsOf,
    autoscaler: { scaled: () => ({ percent: null, last: null }) },
    activator: { load: () => ({ waiting: 0, active: 0, ready: 0, lastActiveMs: world.clock.nowMs - 180_000 }) },
    fleet: {
      instances: () => [],
      state: () => ({
        running: 1,
        starting: 0,
        memoryBytes: 1,
        memoryLimitBytes: 2,
        pool: { sandboxes: 0, memoryBytes: 0 },
      }),
      workloadState: () => ({
        ready: 0,
        paused: 0,
        starting: 0,
        draining: 0,
        state: "ready",
        lastFailure: null,
        nextStartMs: null,
      }),
    },
    store: {
      revisions: world.store.revisions,
      runs: world.store.runs,
      audit: world.store.audit,
      audits: world.store.audits,
      invocations: async ({ project, workload, id, limit }) =>
        records
          .filter(
            (one) => one.project === project && (!workload || one.workload === workload) && (!id || one.id === id),
          )
          .slice(0, limit),
      usage: async ({ project, workload, after }) => {
        const wanted = totals.filter(
          (one) => (project === null || one.project === project) && (workload ?? one.workload) === one.workload,
        );
        const at = wanted.findIndex((one) => one === after) + 1;
        return wanted.slice(at, at + storeLimits.usageRows);
      },
      retention: async () => ({ oldestRecordMs: null }),
    },
    jobs: {
      ended: async () => undefined,
      // Each has left something.
      latest: (run) => ({ ...run, tasks: run.tasks.map((task) => ({ ...task, resultBytes: 5 })) }),
      result: async ({ id }, index) => ({ bytes: 5, content: Readable.from([Buffer.from(`${id}${index}`.slice(-5))]) }),
      running: () => 0,
    },
    telemetry: {
      logs: async ({ workload, limit }) => lines.filter((one) => !workload || one.workload === workload).slice(-limit),
      follow: (_query, line) => {
        followers.add(line);
        return { stop: () => void followers.delete(line) };
      },
      metrics: async () => "# HELP ebb_up whether ebb is up\nebb_up 1\n",
    },
  });
  const stopWorld = world.stop.bind(world);
  const stop = async (): Promise<void> => {
    await api.stop();
    await stopWorld();
  };
  return Object.assign(world, { api, records, totals, lines, followers, stop });
}
