// A data directory with many deployed functions, written through the store as deploys would.

import { systemClock } from "#model/clock.ts";
import { functionDefaults } from "#model/limits.ts";
import type { Mutation } from "#store/door.ts";
import { createStore } from "#store/client.ts";
import { temporaryDirectory } from "../test/daemon/fixture.ts";

/** Answers the directory; the caller removes it. The code itself is not there: nothing is invoked. */
export async function seedFunctions(count: number): Promise<string> {
  const directory = temporaryDirectory();
  const fail = (reason: string): never => {
    throw new Error(reason);
  };
  const { store } = createStore({ directory, clock: systemClock, tell: () => {}, fatal: fail });
  await store.start();
  const nowMs = Date.now();
  const batch = 500;
  for (let from = 0; from < count; from += batch) {
    const mutations: Mutation[] = [];
    for (let index = from; index < Math.min(count, from + batch); index++) {
      const key = { project: "default", workload: `function-${index}` };
      mutations.push(
        {
          kind: "put_revision",
          revision: {
            ...{ ...key, kind: "function", number: 1, createdMs: nowMs, createdBy: "bench", gitCommit: null, settingSources: {} },
            codeDigest: "0".repeat(64),
            digest: index.toString(16).padStart(64, "0"),
            settings: {
              ...functionDefaults,
              ...{ runtime: "node26", entry: "index.mjs", handler: "default", signature: "web", command: null },
              ...{ cpu: 0.14, cpuStrict: false, public: true, env: {}, secrets: [], egress: "internet", isolation: "container" },
            },
          },
        },
        { kind: "put_workload", workload: { ...key, kind: "function", current: 1, createdMs: nowMs, updatedMs: nowMs } },
      );
    }
    const audit = { timeMs: nowMs, identity: "bench", command: "workloads deploy", project: "default", target: null, outcome: "ok", detail: "" } as const;
    if (from === 0)
      mutations.unshift({
        kind: "put_project",
        project: { name: "default", quotas: { memoryMb: null, instances: null, ratePerSecond: null }, createdMs: nowMs },
      });
    await store.apply({ mutations, audit });
  }
  await store.stop();
  return directory;
}
