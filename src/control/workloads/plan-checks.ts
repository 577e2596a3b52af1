// What is cheap to check of a workload before anything is built or fetched for it.

import { entriesOf, permitsOf, refuseEntry } from "#model/egress.ts";
import { EbbError } from "#model/errors.ts";
import { refuseWorkloadName } from "#model/names.ts";
import type { Egress, Project, ServingSettings, WorkloadSettings } from "#model/workload.ts";
import type { Context } from "../context.ts";
import { missingSecrets } from "../secrets/missing.ts";

export function checkName(name: string, project: string): void {
  const badName = refuseWorkloadName(name, project);
  if (badName) throw new EbbError("invalid_name", `"${name}": ${badName}`);
}

export function checkSecrets(
  { mirror }: Pick<Context, "mirror">,
  project: string,
  name: string,
  secrets: readonly string[],
): void {
  const [secret] = missingSecrets(mirror, project, secrets);
  if (secret !== undefined)
    throw new EbbError(
      "deploy_refused",
      `${name} needs the secret ${secret}; set it: ebb secrets set ${secret}${project === "default" ? "" : ` --project ${project}`}`,
    );
}

export function checkQuota(
  { name, quotas }: Project,
  { memoryMb, min }: Pick<WorkloadSettings & ServingSettings, "memoryMb" | "min">,
): void {
  const quota = quotas.memoryMb;
  if (quota !== null && memoryMb * Math.max(1, min) > quota)
    throw new EbbError(
      "over_quota",
      `${memoryMb} MiB${min > 1 ? ` x min ${min}` : ""} is more than the ${quota} MiB of project "${name}"`,
    );
}

/** What is private is reached where the operator permits it to the project: whoever wrote the list cannot know. */
export function checkEgress(workload: string, egress: Egress, { name, egressPermit }: Project): void {
  const entries = entriesOf(egress);
  if (typeof entries === "string") return;
  const permits = permitsOf(egressPermit ?? []);
  const refusals = entries.flatMap((entry) => {
    const why = refuseEntry(entry, name, permits);
    return why === null ? [] : [`"${entry.text}": ${why}`];
  });
  if (refusals.length > 0) throw new EbbError("deploy_refused", `${workload}: egress ${refusals.join("; ")}`);
}
