// All that exists, read in parts: while one is worked on the next is on its way, and between two of them others have their turn.

import type { Revision, Workload, WorkloadKey } from "#model/workload.ts";
import type { Snapshot } from "./door.ts";
import type { DeployedText, Part } from "./driver.ts";

export async function eachPart(
  load: (after: WorkloadKey | null) => Promise<Part>,
  take: (part: Part) => void,
): Promise<void> {
  for (let coming: Promise<Part> | null = load(null); coming !== null;) {
    const part: Part = await coming;
    coming = part.next === null ? null : load(part.next);
    // Where `take` throws nobody waits for it any more.
    coming?.catch(() => {});
    take(part);
  }
}

export interface Deployed {
  readonly workload: Workload;
  readonly revision: Revision;
}

export function deployedOf({ deployed }: Part): Deployed[] {
  return (JSON.parse(deployed) as DeployedText[]).map(([createdMs, updatedMs, revision]) => {
    const { project, workload, kind, number: current } = revision;
    return { workload: { project, workload, kind, current, createdMs, updatedMs }, revision };
  });
}

export async function loadAll(load: (after: WorkloadKey | null) => Promise<Part>): Promise<Snapshot> {
  const parts: Part[] = [];
  await eachPart(load, (part) => parts.push(part));
  const deployed = parts.flatMap(deployedOf);
  return {
    projects: parts.flatMap((part) => part.projects),
    workloads: deployed.map(({ workload }) => workload),
    revisions: deployed.map(({ revision }) => revision),
    tokens: parts.flatMap((part) => part.tokens),
    secrets: parts.flatMap((part) => part.secrets),
  };
}
