// projects set: the quotas, and the private networks that are permitted. What is left out stays; null lifts one.

import type { Identity } from "#model/access.ts";
import { permitForm, readPermit } from "#model/egress.ts";
import { EbbError } from "#model/errors.ts";
import { quotaBounds } from "#model/limits.ts";
import type { Project, ProjectQuotas } from "#model/workload.ts";
import { command, projectOf } from "../command.ts";
import type { Context } from "../context.ts";
import type { ProjectSettings } from "../door.ts";

export function setProject(
  context: Context,
  identity: Identity,
  name: string,
  { egressPermit, ...quotas }: ProjectSettings,
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
      const permits = egressPermit === undefined ? (before.egressPermit ?? []) : readPermits(egressPermit ?? []);
      const project = { ...before, quotas: merged, egressPermit: permits };
      const words = Object.entries(merged).map(([key, value]) => `${key} ${value ?? "unlimited by the project"}`);
      words.push(`egressPermit ${permits.join(" ") || "public addresses only"}`);
      await context.store.apply({ mutations: [{ kind: "put_project", project }], audit: audit(words.join(", ")) });
      return project;
    }),
  );
}

/** In the one way of writing them, each once. */
function readPermits(texts: readonly string[]): readonly string[] {
  const most = quotaBounds.egressPermits;
  if (texts.length > most)
    throw new EbbError("bad_request", `egressPermit: expected at most ${most} networks, found ${texts.length}`);
  const permits = texts.map((text) => {
    const read = readPermit(text.trim());
    if (read.ok) return read.value.text;
    const found = JSON.stringify(text.slice(0, 60));
    throw new EbbError("bad_request", `egressPermit: expected ${permitForm}, found ${found}: ${read.why}`);
  });
  return [...new Set(permits)];
}

function check(key: keyof ProjectQuotas, value: number | null): void {
  if (value === null) return;
  const { min, max } = quotaBounds[key];
  if (!Number.isInteger(value) || value < min || value > max)
    throw new EbbError("bad_request", `${key}: expected a whole number from ${min} to ${max}, found ${value}`);
}
