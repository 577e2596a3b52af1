// The simulated machine: autoscaler and fleet as they are, a faulty driver and a crowd around them, time by hand, chance by seed.

import assert from "node:assert/strict";
import type { KeepAlive } from "#autoscaler/door.ts";
import type { Fact } from "#model/fact.ts";
import { VirtualClock, settle } from "#lib/virtual-clock.ts";
import {
  keyOf,
  revisionKeyOf,
  type FunctionRevision,
  type FunctionSettings,
  type ProjectQuotas,
  type ServingRevision,
} from "#model/workload.ts";
import { createAutoscaler } from "../../src/autoscaler/autoscaler.ts";
import { createFleet } from "../../src/fleet/fleet.ts";
import { sandboxMemoryBytes } from "../../src/fleet/decide.ts";
import { seeded } from "./chance.ts";
import { Crowd } from "./crowd.ts";
import { FaultyDriver, type Faults } from "./faulty-driver.ts";

const MiB = 1024 * 1024;

export const noFaults: Faults = {
  prepareThrows: 0,
  assignThrows: 0,
  assignFails: 0,
  diesAssigning: 0,
  stopThrows: 0,
  pauseThrows: 0,
  resumeThrows: 0,
  deaf: 0,
  startMs: [50, 70],
  slowStart: 0,
  stopMs: [2, 10],
};

export const manyFaults: Faults = {
  prepareThrows: 10,
  assignThrows: 10,
  assignFails: 30,
  diesAssigning: 30,
  stopThrows: 20,
  pauseThrows: 20,
  resumeThrows: 10,
  deaf: 20,
  startMs: [20, 400],
  slowStart: 2,
  stopMs: [1, 800],
};

export interface WorldOptions {
  readonly seed: number;
  readonly faults: Faults;
  readonly memoryMb: number;
  /** For sandboxes that are started ahead; left out: there is no pool. */
  readonly poolMb?: number;
  /** Left out, null: none is paused. */
  readonly pauseAfterMs?: number | null;
  readonly canPause?: boolean;
  readonly concurrentStarts?: number;
  readonly quotas?: Readonly<Record<string, ProjectQuotas>>;
  /** Left out: fixed. */
  readonly keepAlive?: KeepAlive;
}

export function revisionOf(
  workload: string,
  settings: Partial<FunctionSettings> = {},
  number = 1,
  project = "default",
): FunctionRevision {
  return {
    project,
    workload,
    kind: "function",
    number,
    codeDigest: "0".repeat(64),
    digest: `${workload}${number}`,
    settings: {
      runtime: "node26",
      entry: "index.js",
      handler: "handle",
      signature: "web",
      command: null,
      memoryMb: 256,
      cpu: 0.14,
      cpuStrict: false,
      timeoutSeconds: 300,
      concurrency: 1,
      min: 0,
      max: 20,
      idleSeconds: 60,
      public: true,
      env: {},
      secrets: [],
      egress: "none",
      isolation: "container",
      ...settings,
    },
    settingSources: {},
    createdMs: 0,
    createdBy: "simulation",
    gitCommit: null,
  };
}

export class World {
  readonly clock = new VirtualClock();
  readonly chance: () => number;
  readonly driver: FaultyDriver;
  readonly crowd: Crowd;
  readonly facts: Fact[] = [];
  readonly fleet: ReturnType<typeof createFleet>;
  readonly autoscaler: ReturnType<typeof createAutoscaler>;
  readonly credentials = new Set<string>();
  readonly attached = new Set<string>();
  readonly current = new Map<string, ServingRevision>();
  readonly #options: WorldOptions;

  constructor(options: WorldOptions) {
    this.#options = options;
    this.chance = seeded(options.seed);
    const { clock, chance } = this;
    this.driver = new FaultyDriver(clock, chance, options.faults, options.canPause ?? true);
    this.crowd = new Crowd({
      clock,
      report: (load) => this.autoscaler.report(load),
      idle: (id) => this.fleet.idle(id),
      kill: (id, reason) => this.fleet.kill(id, reason),
    });
    const tell = (fact: Fact): void => {
      if (fact.kind === "defect" && !/today|nonsense|busy|ahead/.test(String(fact.error))) throw fact.error;
      this.facts.push(fact);
    };
    this.fleet = createFleet({
      driver: this.driver,
      access: {
        mintCredential: (instance) => {
          this.credentials.add(instance);
          return `credential of ${instance}`;
        },
        revokeCredential: (instance) => void this.credentials.delete(instance),
      },
      secrets: { secret: () => null, open: () => "" },
      loadCaches: { of: () => null, keep: async () => false },
      telemetry: {
        attach: (attached) => void this.attached.add(attached.instance),
        detach: (instance) => void this.attached.delete(instance),
        settled: async () => undefined,
        tail: async () => [],
      },
      clock,
      tell,
      chance,
      internalUrl: () => "http://ebb.internal",
      user: () => this.crowd,
      quotas: (project) => options.quotas?.[project] ?? null,
      memoryBytes: options.memoryMb * MiB,
      concurrentStarts: options.concurrentStarts ?? 4,
      poolBytes: (options.poolMb ?? 0) * MiB,
      pauseAfterMs: options.pauseAfterMs ?? null,
    });
    void this.fleet.start();
    const { fleet } = this;
    const machine = { concurrentStarts: (options.concurrentStarts ?? 4) - 1, typicalStartMs: 150 };
    this.autoscaler = createAutoscaler({
      fleet,
      clock,
      tell,
      machine,
      cpus: 8,
      keepAlive: options.keepAlive ?? "fixed",
    });
    this.autoscaler.start();
  }

  /** What control does at a deploy, a rollback or a removal. */
  deploy(revision: ServingRevision): void {
    const key = keyOf(revision);
    this.current.set(key, revision);
    this.crowd.changed(revision, revision);
    this.autoscaler.changed(revision.project, revision.workload, revision);
    this.fleet.retire(revision, revision, "another revision serves");
  }

  remove(revision: ServingRevision): void {
    this.current.delete(keyOf(revision));
    this.crowd.changed(revision, null);
    this.autoscaler.changed(revision.project, revision.workload, null);
    this.fleet.retire(revision, null, "removed");
  }

  /** Runs until so much time has passed, checking the limits after everything that happens. */
  async run(ms: number): Promise<void> {
    const untilUs = this.clock.monotonicUs() + Math.round(ms * 1000);
    await settle();
    while (this.clock.step(untilUs)) {
      await settle();
      this.checkLimits();
    }
  }

  /** Who waits has something on its way, or a reason that is told. */
  checkProgress(): void {
    const turnsTaken = this.driver.starting >= (this.#options.concurrentStarts ?? 4);
    // Also of what was retired while it starts: it is stopped when its start is over.
    const roomComes =
      this.driver.stopping > 0 ||
      this.fleet.instances().some(({ state, active }) => state === "draining" && active === 0);
    if (turnsTaken || roomComes) return;
    for (const revision of this.crowd.stranded()) {
      const { starting, state, lastFailure } = this.fleet.workloadState(revision);
      // The first back-offs, before it is called a crash loop.
      const backingOff = lastFailure !== null && this.clock.wallMs() - lastFailure.timeMs <= 2_002;
      assert.ok(starting > 0 || state !== "ready" || backingOff, `${revisionKeyOf(revision)} waits for nothing`);
    }
  }

  checkLimits(): void {
    this.checkProgress();
    const { driver } = this;
    const { memoryMb, poolMb = 0, concurrentStarts = 4 } = this.#options;
    const limitMb = sandboxMemoryBytes(memoryMb * MiB) / MiB - poolMb;
    assert.ok(driver.memoryMb <= limitMb, `${driver.memoryMb} MiB of ${limitMb} are taken`);
    const startsMost = concurrentStarts + (poolMb > 0 ? 1 : 0);
    assert.ok(driver.starting <= startsMost, `${driver.starting} start at the same time`);
    const { pool } = this.fleet.state();
    assert.ok(pool.memoryBytes <= poolMb * MiB, `the pool has ${pool.memoryBytes} of ${poolMb} MiB`);
    const live = new Map<string, number>();
    const projects = new Map<string, { memoryMb: number; instances: number }>();
    for (const view of this.fleet.instances()) {
      const sums = projects.get(view.project) ?? { memoryMb: 0, instances: 0 };
      sums.memoryMb += view.memoryMb;
      sums.instances += 1;
      projects.set(view.project, sums);
      if (view.state !== "starting" && view.state !== "ready") continue;
      const key = `${view.project}/${view.workload}@r${view.revision}`;
      live.set(key, (live.get(key) ?? 0) + 1);
    }
    for (const [key, count] of live) {
      const revision = this.current.get(key.slice(0, key.indexOf("@")));
      if (revision && revisionKeyOf(revision) === key)
        assert.ok(count <= revision.settings.max, `${count} instances of ${key}, max ${revision.settings.max}`);
    }
    for (const [project, sums] of projects) {
      const quotas = this.#options.quotas?.[project];
      assert.ok(sums.memoryMb <= (quotas?.memoryMb ?? Infinity), `${project} has ${sums.memoryMb} MiB`);
      assert.ok(sums.instances <= (quotas?.instances ?? Infinity), `${project} has ${sums.instances} instances`);
    }
  }

  /** Everything has ended, nothing is left, and nothing is scheduled. */
  checkZero(): void {
    for (const request of this.crowd.requests) assert.ok(request.end, `request ${request.number} has no end`);
    const { pool } = this.fleet.state();
    assert.equal(this.driver.sandboxes.size, pool.sandboxes, "sandboxes are left");
    assert.deepEqual(this.fleet.instances(), [], "the fleet still has instances");
    assert.equal(this.fleet.state().memoryBytes, 0, "memory is still taken");
    assert.equal(this.crowd.held, 0, "the crowd still holds instances");
    assert.equal(this.credentials.size, 0, "credentials outlive their instances");
    assert.equal(this.attached.size, 0, "output is still read");
    // A pool that a crowd has made larger looks again at times, until it is small.
    assert.ok(this.clock.pending() <= (pool.sandboxes > 0 ? 1 : 0), "timers are left on an idle platform");
  }
}
