// Pure: a run in the words and units that users see.

import type { Run, Task } from "#model/run.ts";
import { timeOf, timeOrNull } from "./views.ts";

export function runRow(run: Run) {
  const { revision, overrides } = run;
  return {
    id: run.id,
    project: revision.project,
    workload: revision.workload,
    revision: revision.number,
    state: run.state,
    reason: run.reason,
    message: run.message,
    created: timeOf(run.createdMs),
    createdBy: run.createdBy,
    started: timeOrNull(run.startedMs),
    ended: timeOrNull(run.endedMs),
    /** Of the first task that did not end well, or of the only one. */
    exitCode: exitCodeOf(run),
    env: Object.keys(overrides.env),
    args: [...(overrides.args ?? revision.settings.args)],
    memoryMb: overrides.memoryMb ?? revision.settings.memoryMb,
    tasks: run.tasks.map(taskRow),
  };
}

function exitCodeOf({ state, tasks }: Run): number | null {
  return (tasks.find((task) => task.state === state) ?? tasks[0])?.exitCode ?? null;
}

function taskRow(task: Task) {
  return {
    index: task.index,
    state: task.state,
    reason: task.reason,
    message: task.message,
    attempts: task.attempts,
    invocation: task.execution,
    instance: task.instance,
    started: timeOrNull(task.startedMs),
    ended: timeOrNull(task.endedMs),
    notBefore: timeOrNull(task.notBeforeMs),
    exitCode: task.exitCode,
    resultBytes: task.resultBytes,
  };
}
