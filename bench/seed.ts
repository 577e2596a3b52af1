// A data directory with many deployed functions, written through the store as deploys would.

import { systemClock } from "#model/clock.ts";
import { functionDefaults } from "#model/limits.ts";
import type { FunctionSettings } from "#model/workload.ts";
import type { Change, Mutation } from "#store/door.ts";
import { createStore } from "#store/client.ts";
import { temporaryDirectory } from "../test/daemon/fixture.ts";

const project = "default";
const batch = 2_000;

const settings: FunctionSettings = {
  runtime: "node26",
  entry: "index.mjs",
  handler: "default",
  signature: "web",
  command: null,
  memoryMb: functionDefaults.memoryMb,
  cpu: 0.14,
  cpuStrict: false,
  timeoutSeconds: functionDefaults.timeoutSeconds,
  concurrency: functionDefaults.concurrency,
  min: functionDefaults.min,
  max: functionDefaults.max,
  idleSeconds: functionDefaults.idleSeconds,
  public: true,
  env: {},
  secrets: [],
  egress: "internet",
  isolation: "container",
};

/** Answers the directory; the caller removes it. The code itself is not there: nothing is invoked. */
export async function seedFunctions(count: number): Promise<string> {
  const directory = temporaryDirectory();
  const fatal = (reason: string): never => {
    throw new Error(reason);
  };
  const { store } = createStore({ directory, clock: systemClock, tell: () => {}, fatal });
  await store.start();
  const nowMs = Date.now();
  const quotas = { memoryMb: null, instances: null, ratePerSecond: null };
  await store.apply(changeOf([{ kind: "put_project", project: { name: project, quotas, createdMs: nowMs } }], nowMs));
  for (let from = 0; from < count; from += batch) {
    const indexes = Array.from({ length: Math.min(batch, count - from) }, (_, offset) => from + offset);
    await store.apply(
      changeOf(
        indexes.flatMap((index) => deployed(index, nowMs)),
        nowMs,
      ),
    );
  }
  await store.stop();
  return directory;
}

function deployed(index: number, nowMs: number): Mutation[] {
  const workload = `function-${index}`;
  return [
    {
      kind: "put_revision",
      revision: {
        project,
        workload,
        kind: "function",
        number: 1,
        codeDigest: "0".repeat(64),
        digest: index.toString(16).padStart(64, "0"),
        settings,
        settingSources: {},
        createdMs: nowMs,
        createdBy: "bench",
        gitCommit: null,
      },
    },
    {
      kind: "put_workload",
      workload: { project, workload, kind: "function", current: 1, createdMs: nowMs, updatedMs: nowMs },
    },
  ];
}

function changeOf(mutations: readonly Mutation[], timeMs: number): Change {
  const command = "workloads deploy";
  return { mutations, audit: { timeMs, identity: "bench", command, project, target: null, outcome: "ok", detail: "" } };
}
