// Decides what becomes of runs that were under way when an earlier ebb died, and of what it left: pure.

import type { InstanceId } from "#model/ids.ts";
import type { Run } from "#model/run.ts";
import type { LeftInstance } from "#sandbox/door.ts";
import { isLive } from "./decide.ts";

export interface Adoption {
  readonly run: Run;
  readonly index: number;
  readonly instance: InstanceId;
}

export interface Adoptions {
  /** They go on, or have ended by themselves. */
  readonly adopt: readonly Adoption[];
  /** What is left and goes on for nobody, and why. */
  readonly forget: ReadonlyArray<{ readonly instance: InstanceId; readonly reason: string }>;
}

/** `runs`: all that have not ended. A task that runs by the store and is not adopted was interrupted. */
export function decideAdoptions(runs: readonly Run[], left: readonly LeftInstance[]): Adoptions {
  const begun = new Map(left.filter(({ begunMs }) => begunMs !== null).map((one) => [one.instance, one]));
  const adopt: Adoption[] = [];
  for (const run of runs)
    for (const task of run.tasks) {
      if (!isLive(task) || task.instance === null || task.execution === null) continue;
      // Once: nobody else may have it as well.
      if (begun.delete(task.instance)) adopt.push({ run, index: task.index, instance: task.instance });
    }
  const adopted = new Set(adopt.map(({ instance }) => instance));
  const forget = left
    .filter(({ instance }) => !adopted.has(instance))
    .map(({ instance, begunMs }) => ({
      instance,
      reason: begunMs === null ? "it was never told to begin" : "no run that has not ended knows it",
    }));
  return { adopt, forget };
}
