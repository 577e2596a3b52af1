// The room: every command behind one door.

import { deployLimits } from "#model/limits.ts";
import { createCollector } from "./collect.ts";
import type { Context, ControlOptions } from "./context.ts";
import type { Control } from "./door.ts";
import { runJob } from "./jobs/run.ts";
import { stopRun } from "./jobs/stop.ts";
import { createLanes } from "./lanes.ts";
import { createProject } from "./projects/create.ts";
import { removeProject } from "./projects/remove.ts";
import { setProject } from "./projects/set.ts";
import { removeSecret } from "./secrets/remove.ts";
import { setSecret } from "./secrets/set.ts";
import { bootstrapToken } from "./tokens/bootstrap.ts";
import { createToken } from "./tokens/create.ts";
import { removeToken } from "./tokens/remove.ts";
import { deploy } from "./workloads/deploy.ts";
import { removeWorkload } from "./workloads/remove.ts";
import { restart } from "./workloads/restart.ts";
import { rollback } from "./workloads/rollback.ts";

export interface ControlRoom extends Control {
  /**
   * At `up`, after the store has loaded: `known` when it still is an admin token of every project, else a new one. Makes the
   * default project.
   */
  bootstrap(known: string | null): Promise<string>;
  stop(): void;
}

export function createControl(options: ControlOptions): ControlRoom {
  const context: Context = {
    ...options,
    uploads: { open: 0, ofProject: new Map() },
    deploys: createLanes("deploys of this project", deployLimits.deploysWaiting),
    changes: createLanes("changes of this project", deployLimits.changesWaiting),
  };
  const collector = createCollector(context);
  const freeing = async <T>(done: Promise<T>): Promise<T> => {
    const result = await done;
    collector.soon();
    return result;
  };
  return {
    deploy: (identity, request, progress) => freeing(deploy(context, identity, request, progress)),
    rollback: (identity, project, workload, revision) => rollback(context, identity, project, workload, revision),
    restart: (identity, project, workload) => restart(context, identity, project, workload),
    removeWorkload: (identity, project, workload) => freeing(removeWorkload(context, identity, project, workload)),
    runJob: (identity, project, workload, overrides) => runJob(context, identity, project, workload, overrides),
    stopRun: (identity, project, run) => stopRun(context, identity, project, run),
    setSecret: (identity, project, name, value) => setSecret(context, identity, project, name, value),
    removeSecret: (identity, project, name) => removeSecret(context, identity, project, name),
    createToken: (identity, tokenOptions) => createToken(context, identity, tokenOptions),
    removeToken: (identity, project, id) => removeToken(context, identity, project, id),
    createProject: (identity, name) => createProject(context, identity, name),
    setProject: (identity, name, settings) => setProject(context, identity, name, settings),
    removeProject: (identity, name, everything) => freeing(removeProject(context, identity, name, everything)),
    bootstrap: (known) => bootstrapToken(context, known),
    stop: () => collector.stop(),
  };
}
