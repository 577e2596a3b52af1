// projects create: a tenant, with no quota of its own yet.

import type { Identity } from "#model/access.ts";
import { EbbError } from "#model/errors.ts";
import { accessLimits } from "#model/limits.ts";
import type { Project } from "#model/workload.ts";
import { checkProjectName, command } from "../command.ts";
import type { Context } from "../context.ts";

export function newProject(name: string, nowMs: number): Project {
  return { name, quotas: { memoryMb: null, instances: null, ratePerSecond: null }, createdMs: nowMs };
}

/** EbbError over_quota when there is no room for one more. */
export function checkRoomForProject(context: Context): void {
  if ([...context.mirror.projects()].length >= accessLimits.projects)
    throw new EbbError("over_quota", `${accessLimits.projects} projects exist, the most there may be`);
}

export function createProject(context: Context, identity: Identity, name: string): Promise<Project> {
  const head = { command: "projects create", identity, needs: "admin", project: null, target: name } as const;
  return command(context, head, (audit) =>
    context.changes.run(name, async () => {
      checkProjectName(name);
      if (context.mirror.project(name)) throw new EbbError("conflict", `project "${name}" exists already`);
      checkRoomForProject(context);
      const project = newProject(name, context.clock.wallMs());
      await context.store.apply({ mutations: [{ kind: "put_project", project }], audit: audit("") });
      return project;
    }),
  );
}
