// What runs to its end and is nobody's instance: one-off programs of ebb's own, and executions of runs.

import { EbbError } from "#model/errors.ts";
import type { Failure } from "#model/instance.ts";
import { contentDigestOf, type ImageJobRevision } from "#model/workload.ts";
import type { BuildStep, BuildStepEnd, OneOff, OneOffResult } from "#sandbox/door.ts";
import type { Admission } from "./admission.ts";
import { adopt } from "./adoption.ts";
import type { Adopted, AdoptionSpec, Execution, ExecutionSpec } from "./door.ts";
import { execute, poolOf } from "./execution.ts";
import { failureOf, type LaunchContext } from "./launch.ts";
import type { Member } from "./member.ts";
import { stopSandbox } from "./stop-sandbox.ts";

const MiB = 1024 * 1024;

export class Programs {
  readonly #context: LaunchContext;
  readonly #admission: Admission;
  readonly #oneOffs = new Set<Promise<unknown>>();
  readonly #executions = new Map<Execution, string>();

  constructor(context: LaunchContext, admission: Admission) {
    this.#context = context;
    this.#admission = admission;
  }

  execute(spec: ExecutionSpec): Execution {
    const gone = (): void => void this.#executions.delete(execution);
    const execution = execute({ ...this.#context, admission: this.#admission, gone }, spec);
    this.#executions.set(execution, contentDigestOf(spec.revision));
    execution.admitted.catch(gone);
    return execution;
  }

  /** By executions, and by these. */
  contentInUse(others: Iterable<Pick<Member, "revision">>): ReadonlySet<string> {
    const used = new Set(this.#executions.values());
    for (const { revision } of others) used.add(contentDigestOf(revision));
    return used;
  }

  async adopt(spec: AdoptionSpec): Promise<Adopted> {
    const gone = (): void => {
      if (execution) this.#executions.delete(execution);
    };
    let execution: Execution | null = null;
    const adopted = await adopt({ ...this.#context, admission: this.#admission, gone }, spec);
    execution = adopted.execution;
    this.#executions.set(execution, contentDigestOf(spec.revision));
    return adopted;
  }

  run(spec: OneOff): Promise<OneOffResult> {
    return this.#alone(spec.pool.memoryMb, () => this.#context.driver.run(spec));
  }

  prove(revision: ImageJobRevision): Promise<Failure | null> {
    const { driver } = this.#context;
    const { memoryMb } = revision.settings;
    return this.#alone(memoryMb, async () => {
      try {
        const nobody = { done: () => undefined, exited: () => undefined };
        const sandbox = await driver.prepare(poolOf({ revision, memoryMb }), nobody);
        await stopSandbox(this.#context, sandbox, 0, "fleet: proving an image");
        return null;
      } catch (error) {
        return failureOf(this.#context, error).failure;
      }
    });
  }

  async build(step: BuildStep): Promise<BuildStepEnd> {
    const { driver } = this.#context;
    if (!driver.build) throw new EbbError("image_refused", "RUN needs isolation, and ebb runs without");
    const { project, memoryMb, signal } = step;
    const bytes = memoryMb * MiB;
    let noRoom: EbbError | null = null;
    // No workload has that name: of what the project keeps idle anything may go for it.
    const waits = this.#admission.execution(bytes, { project, workload: `${project}/` }, (why) => {
      if (why !== "over_quota") return;
      noRoom = new EbbError("over_quota", `a RUN takes ${memoryMb} MiB, which the quota of ${project} has no room for`);
      queueMicrotask(() => giveUp());
    });
    const giveUp = (): void => void waits.withdraw();
    signal.addEventListener("abort", giveUp);
    try {
      const giveTurn = await waits.admitted.catch((error: unknown) => {
        throw noRoom ?? error;
      });
      giveTurn();
    } finally {
      signal.removeEventListener("abort", giveUp);
    }
    return this.#within(project, bytes, () => driver.build!(step));
  }

  async #alone<T>(memoryMb: number, work: () => Promise<T>): Promise<T> {
    const bytes = memoryMb * MiB;
    await this.#admission.oneOff(bytes, false);
    return this.#within(null, bytes, work);
  }

  /** Its memory is given back at its end, as what it was taken as: of a project, or of nobody. */
  #within<T>(project: string | null, bytes: number, work: () => Promise<T>): Promise<T> {
    const program = work().finally(() => {
      this.#oneOffs.delete(program);
      this.#admission.ledger.give(project, bytes, false);
      this.#admission.freed();
    });
    this.#oneOffs.add(program);
    return program;
  }

  /** Executions, within their time; what one-off programs are still at is ended by the driver's own stop. */
  async stop(drainMs: number): Promise<void> {
    await Promise.all([...this.#executions.keys()].map((execution) => execution.stop(drainMs)));
  }

  /** Those that run now have ended. */
  async oneOffsOver(): Promise<void> {
    await Promise.allSettled(this.#oneOffs);
  }
}
