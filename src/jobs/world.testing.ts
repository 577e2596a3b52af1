// For tests: the room over the real fleet, a fake driver, a store in memory, and a clock that is moved by hand.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { FleetUser } from "#fleet/door.ts";
import { createFleet } from "#fleet/fleet.ts";
import { VirtualClock } from "#lib/virtual-clock.ts";
import type { BeginMark, EndMark } from "#metering/door.ts";
import type { EbbError } from "#model/errors.ts";
import type { Fact } from "#model/fact.ts";
import type { Run, RunOverrides } from "#model/run.ts";
import type { JobRevision, ProjectQuotas, WorkloadKey } from "#model/workload.ts";
import type { Assignment } from "#sandbox/door.ts";
import { createFakeDriver, type FakeDriver, type Script } from "#sandbox/fake/fake.ts";
import type { Mutation, Store } from "#store/door.ts";
import { audit } from "#store/fixtures/things.ts";
import { createMemoryStore } from "#store/memory/store.ts";
import type { StoreDriver } from "#store/driver.ts";
import type { Jobs } from "./door.ts";
import { noOverrides } from "./job.testing.ts";
import { createJobs } from "./jobs.ts";

const MiB = 1024 * 1024;

export interface WorldOptions {
  /** How each attempt goes. */
  readonly script?: (assignment: Assignment) => Script;
  readonly memoryMb?: number;
  readonly quotas?: Readonly<Record<string, ProjectQuotas>>;
}

export interface Mark {
  readonly workload: string;
  readonly memoryMb: number;
  readonly begin: BeginMark;
  end: EndMark | null;
  readonly cpuAtBegin: number | null;
  cpuAtEnd: number | null;
}

export class World {
  readonly clock = new VirtualClock();
  readonly directory = mkdtempSync(join(tmpdir(), "ebb-jobs-"));
  readonly facts: Fact[] = [];
  readonly marks: Mark[] = [];
  readonly assigned: Assignment[] = [];
  /** Why nothing can be metered; null: it can. */
  noRoom: EbbError | null = null;
  /** So many begins break in a way that nobody has foreseen. */
  breaks = 0;
  /** How long a sandbox takes to be made. */
  prepareMs = 0;
  isThere: (job: WorkloadKey) => boolean = () => true;
  readonly #options: WorldOptions;
  store: Store;
  #storeDriver: StoreDriver;
  driver!: FakeDriver;
  jobs!: Jobs;
  fleet!: ReturnType<typeof createFleet>;

  constructor(options: WorldOptions = {}) {
    this.#options = options;
    ({ store: this.store, driver: this.#storeDriver } = createMemoryStore());
    this.#build();
  }

  /** A new ebb on the same store: the one before is gone, and nothing of it is left. */
  async rise(): Promise<void> {
    ({ store: this.store, driver: this.#storeDriver } = createMemoryStore(this.#storeDriver));
    this.#build();
    await this.start();
  }

  #build(): void {
    const { clock } = this;
    const tell = (fact: Fact): void => void this.facts.push(fact);
    this.driver = createFakeDriver({
      clock,
      script: (_, assignment) => {
        if (assignment === null) return { prepareMs: this.prepareMs };
        this.assigned.push(assignment);
        return this.#options.script?.(assignment) ?? exits(0);
      },
    });
    this.fleet = createFleet({
      driver: this.driver,
      access: { mintCredential: (instance) => `credential of ${instance}`, revokeCredential: () => undefined },
      secrets: { secret: () => null, open: () => "" },
      loadCaches: { of: () => null, keep: async () => false },
      telemetry: {
        attach: () => undefined,
        detach: () => undefined,
        settled: async () => undefined,
        tail: async () => [],
      },
      clock,
      tell,
      internalUrl: () => "http://ebb.internal",
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a run is nobody's to call: nothing of it is asked for
      user: () => ({}) as FleetUser,
      quotas: (project) => this.#options.quotas?.[project] ?? null,
      memoryBytes: (this.#options.memoryMb ?? 8_192) * MiB,
      concurrentStarts: 4,
    });
    this.jobs = createJobs({
      store: this.store,
      fleet: this.fleet,
      meter: {
        resumed: () => null,
        instance: ({ revision: { workload, settings }, usage }) => ({
          begin: (begin) => {
            if (this.noRoom !== null) return this.noRoom;
            if (this.breaks > 0) {
              this.breaks--;
              throw new Error("not today");
            }
            const { memoryMb } = settings;
            const mark: Mark = { workload, memoryMb, begin, end: null, cpuAtBegin: usage().cpuNs, cpuAtEnd: null };
            this.marks.push(mark);
            const end = (ended: EndMark): void => {
              mark.end = ended;
              mark.cpuAtEnd = usage().cpuNs;
            };
            return { answered: () => undefined, end };
          },
          released: () => undefined,
          close: () => undefined,
        }),
      },
      quotas: (project) => this.#options.quotas?.[project] ?? null,
      isThere: (job) => this.isThere(job),
      directory: this.directory,
      clock,
      tell,
      chance: () => 1,
    });
  }

  async start(): Promise<void> {
    await this.store.start();
    await this.fleet.start();
    await this.jobs.start();
  }

  /** As the command does it. */
  async run(revision: JobRevision, overrides: Partial<RunOverrides> = {}): Promise<string> {
    const run = this.jobs.make({ revision, overrides: { ...noOverrides, ...overrides }, createdBy: "test" });
    await this.store.apply({ mutations: put(run), audit: audit("jobs run") });
    this.jobs.accepted(run);
    return run.id;
  }

  async look(id: string, project = "default"): Promise<Run> {
    const [run] = await this.store.runs({ project, id, limit: 1 });
    if (!run) throw new Error(`there is no run ${id}`);
    return this.jobs.latest(run);
  }

  /** Called as a planned stop does. */
  async stop(): Promise<void> {
    const stopped = this.jobs.stop();
    await this.clock.advance(20_000);
    await stopped;
    const fleet = this.fleet.stop(0);
    await this.clock.advance(1_000);
    await fleet;
  }

  async end(): Promise<void> {
    await this.stop();
    const defects = this.facts.filter((fact) => fact.kind === "defect" && !/today|restarting/.test(String(fact.error)));
    assert.deepEqual(defects, []);
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** A run, with its job. */
export function put(run: Run): Mutation[] {
  const { revision } = run;
  const { project, workload, number: current, createdMs } = revision;
  const job = { project, workload, kind: "job", current, createdMs, updatedMs: createdMs } as const;
  return [
    { kind: "put_revision", revision },
    { kind: "put_workload", workload: job },
    { kind: "put_run", run },
  ];
}

export function exits(code: number, afterMs = 100): Script {
  const message = `It exited with code ${code}.`;
  return { startMs: 5, dies: { afterMs, exit: { reason: "exited", code, message } } };
}

/** Runs until it is stopped. */
export const lasts: Script = { startMs: 5, stopMs: 20 };
