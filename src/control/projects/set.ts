// projects set: the quotas. What is left out stays; null lifts one.

import type { Identity } from "#model/access.ts";
import { EbbError } from "#model/errors.ts";
import { quotaBounds } from "#model/limits.ts";
import type { Project, ProjectQuotas } from "#model/workload.ts";
import { command, projectOf } from "../command.ts";
import type { Context } from "../context.ts";

export function setProject(
  context: Context,
  identity: Identity,
  name: string,
  quotas: Partial<ProjectQuotas>,
): Promise<Project> {
  const head = { command: "projects set", identity, needs: "admin", project: null, target: name } as const;
  return command(context, head, (audit) =>
    context.changes.run(name, async () => {
      const before = projectOf(context, name);
      const merged: ProjectQuotas = {
        memoryMb: quotas.memoryMb === undefined ? before.quotas.memoryMb : quotas.memoryMb,
        instances: quotas.instances === undefined ? before.quotas.instances : quotas.instances,
        ratePerSecond: quotas.ratePerSecond === undefined ? before.quotas.ratePerSecond : quotas.ratePerSecond,
      };
      for (const key of ["memoryMb", "instances", "ratePerSecond"] as const) check(key, merged[key]);
      const project = { ...before, quotas: merged };
      const words = Object.entries(merged).map(([key, value]) => `${key} ${value ?? "unlimited by the project"}`);
      await context.store.apply({ mutations: [{ kind: "put_project", project }], audit: audit(words.join(", ")) });
      return project;
    }),
  );
}

function check(key: keyof ProjectQuotas, value: number | null): void {
  if (value === null) return;
  const { min, max } = quotaBounds[key];
  if (!Number.isInteger(value) || value < min || value > max)
    throw new EbbError("bad_request", `${key}: expected a whole number from ${min} to ${max}, found ${value}`);
}
