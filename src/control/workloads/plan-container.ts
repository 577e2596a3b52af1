// From a declared container to a revision that may serve: its image is fetched and pinned, its settings filled in, and it is started once.

import type { ContainerDeclaration } from "#app/door.ts";
import { EbbError } from "#model/errors.ts";
import { containerDefaults } from "#model/limits.ts";
import type { ContainerRevision } from "#model/workload.ts";
import type { Context } from "../context.ts";
import { containerDigest } from "./digest.ts";
import { fetchImage, imagesOf } from "./fetch-image.ts";
import { checkEgress, checkIsolation, checkName, checkQuota, checkSecrets } from "./plan-checks.ts";
import type { DeployFrame } from "./plan.ts";
import { problemOfCheck, type DeployProblem } from "./refusal.ts";

/** What can be said before anything is fetched. */
export async function checkContainer(
  context: Context,
  frame: DeployFrame,
  declaration: ContainerDeclaration,
): Promise<void> {
  const { name, secrets = [], pullSecret, egress = "internet", min = containerDefaults.min } = declaration;
  const scaling = declaration.scaling === undefined ? {} : { scaling: declaration.scaling };
  const { isolation = context.isolation } = declaration;
  const memoryMb = frame.flags.memoryMb ?? declaration.memoryMb ?? containerDefaults.memoryMb;
  const project = frame.project.name;
  checkName(name, project);
  imagesOf(context, `${name}: a container`);
  checkSecrets(context, project, name, pullSecret === undefined ? secrets : [...secrets, pullSecret]);
  checkEgress(name, egress, frame.project);
  checkQuota(frame.project, { memoryMb, min });
  await checkIsolation(context, name, { isolation, egress, memoryMb, ...scaling });
}

export async function planContainer(
  context: Context,
  frame: DeployFrame,
  declaration: ContainerDeclaration,
  problems: DeployProblem[],
): Promise<ContainerRevision | null> {
  const project = frame.project.name;
  const workload = declaration.name;
  const image = await fetchImage(context, frame, declaration);
  const settled = context.app.settleContainer({
    declaration,
    flags: frame.flags,
    config: image.config,
    isolation: context.isolation,
  });
  const current = context.mirror.workload(project, workload);
  const revision: ContainerRevision = {
    project,
    workload,
    kind: "container",
    number: (current?.workload.current ?? 0) + 1,
    imageDigest: image.digest,
    digest: containerDigest(image.digest, settled),
    settings: settled.settings,
    settingSources: settled.sources,
    createdMs: context.clock.wallMs(),
    createdBy: frame.createdBy,
    gitCommit: frame.gitCommit,
  };
  if (current?.revision.digest !== revision.digest) {
    frame.progress({ step: "checking", workload });
    const found = await context.fleet.check(revision);
    if (!found.ok) {
      // Not its author's to mend: the platform's failure is never told as the container's.
      if (found.failure.fault === "platform") throw new EbbError("internal", found.failure.message);
      problems.push(problemOfCheck(workload, ".", found.failure, found.output));
      return null;
    }
  }
  frame.progress({ step: "checked", workload, runtime: null, entry: null, handler: null, signature: null });
  return revision;
}
