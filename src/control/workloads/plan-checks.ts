// What is cheap to check of a workload before anything is built or fetched for it.

import { entriesOf, permitsOf, refuseEntry } from "#model/egress.ts";
import { EbbError } from "#model/errors.ts";
import { gvisorLimits } from "#model/limits.ts";
import { refuseWorkloadName } from "#model/names.ts";
import {
  scalesByUse,
  type Egress,
  type Project,
  type ServingSettings,
  type WorkloadSettings,
} from "#model/workload.ts";
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

/** Where nothing is isolated, what a sandbox alone could hold or measure is refused: it is never accepted and not held. */
export async function checkIsolation(
  { isolation, gvisorProblem }: Pick<Context, "isolation" | "gvisorProblem">,
  workload: string,
  wanted: Pick<WorkloadSettings, "isolation" | "egress" | "memoryMb"> & Pick<ServingSettings, "scaling">,
): Promise<void> {
  if (isolation !== "process") {
    if (wanted.isolation === "gvisor") await checkGvisor(gvisorProblem, workload, wanted.memoryMb);
    return;
  }
  const refuse = (what: string): never => {
    throw new EbbError("deploy_refused", `${what}: ebb runs with --isolation none`);
  };
  if (wanted.isolation !== "process") refuse(`isolation: ${wanted.isolation} cannot be given`);
  if (wanted.egress !== "internet") refuse(`${workload}: egress cannot be held to what it says; leave it out`);
  if (scalesByUse(wanted.scaling)) refuse(`${workload}: what an instance uses is not measured; leave scaling out`);
}

/** null: its class leaves enough of so much memory to its program. */
export function refuseMemory({ isolation, memoryMb }: Pick<WorkloadSettings, "isolation" | "memoryMb">): string | null {
  const { leastMemoryMb } = gvisorLimits;
  if (isolation !== "gvisor" || memoryMb >= leastMemoryMb) return null;
  return `isolation: gvisor takes some 20 MiB of memoryMb for itself; write memoryMb: ${leastMemoryMb} or more`;
}

async function checkGvisor(gvisorProblem: Context["gvisorProblem"], workload: string, memoryMb: number): Promise<void> {
  const tooLittle = refuseMemory({ isolation: "gvisor", memoryMb });
  if (tooLittle !== null) throw new EbbError("deploy_refused", `${workload}: ${tooLittle}`);
  const problem = await gvisorProblem();
  if (problem !== null) throw new EbbError("deploy_refused", `${workload}: ${problem}`);
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
