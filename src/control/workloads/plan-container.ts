// From a declared container to a revision that may serve: its image is fetched and pinned, its settings filled in, and it is started once.

import { join } from "node:path";
import { stat } from "node:fs/promises";
import type { ContainerDeclaration } from "#app/door.ts";
import type { Image, ImageSource, RegistryLogin } from "#images/door.ts";
import { EbbError } from "#model/errors.ts";
import { containerDefaults } from "#model/limits.ts";
import type { ContainerRevision } from "#model/workload.ts";
import type { Context } from "../context.ts";
import { containerDigest } from "./digest.ts";
import { checkEgress, checkName, checkQuota, checkSecrets } from "./plan-checks.ts";
import type { DeployFrame } from "./plan.ts";
import { problemOfCheck, type DeployProblem } from "./refusal.ts";

/** What can be said before anything is fetched. */
export function checkContainer(context: Context, frame: DeployFrame, declaration: ContainerDeclaration): void {
  const { name, secrets = [], pullSecret, egress = "internet", memoryMb, min = containerDefaults.min } = declaration;
  const project = frame.project.name;
  checkName(name, project);
  imagesOf(context, name);
  checkSecrets(context, project, name, pullSecret === undefined ? secrets : [...secrets, pullSecret]);
  checkEgress(name, egress, frame.project);
  checkQuota(frame.project, { memoryMb: frame.flags.memoryMb ?? memoryMb ?? containerDefaults.memoryMb, min });
}

function imagesOf({ images }: Context, name: string): NonNullable<Context["images"]> {
  if (images === null)
    throw new EbbError("deploy_refused", `${name}: a container needs isolation, and ebb runs with --isolation none`);
  return images;
}

export async function planContainer(
  context: Context,
  frame: DeployFrame,
  declaration: ContainerDeclaration,
  problems: DeployProblem[],
): Promise<ContainerRevision | null> {
  const project = frame.project.name;
  const workload = declaration.name;
  const image = await fetched(context, frame, declaration);
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

async function fetched(context: Context, frame: DeployFrame, declaration: ContainerDeclaration): Promise<Image> {
  const { name: workload } = declaration;
  const source = await sourceOf(frame.upload.folder, declaration);
  return imagesOf(context, workload).fetch(source, {
    project: frame.project.name,
    login: loginOf(context, frame.project.name, declaration),
    progress: (message) => frame.progress({ step: "image", workload, message }),
  });
}

async function sourceOf(folder: string, { name, from }: ContainerDeclaration): Promise<ImageSource> {
  if (from.kind === "registry") return from;
  const path = join(folder, from.path);
  // What was sent holds no link that leads out of it (builds.receive).
  const found = await stat(path).catch(() => null);
  if (found === null) throw new EbbError("deploy_refused", `${name}: there is nothing at ${from.path}`);
  if (from.kind === "build") return { kind: "build", context: path, file: null };
  return found.isDirectory() ? { kind: "layout", path } : { kind: "archive", path };
}

/** The secret's value is `username:password`, for the registry of the image's own name and no other. */
function loginOf(
  context: Context,
  project: string,
  { name, from, pullSecret }: ContainerDeclaration,
): RegistryLogin | null {
  if (pullSecret === undefined || from.kind !== "registry") return null;
  const secret = context.mirror.secret(project, pullSecret);
  const value = secret === null ? "" : context.access.open(secret).trim();
  const colon = value.indexOf(":");
  if (colon < 1)
    throw new EbbError(
      "deploy_refused",
      `${name}: the secret ${pullSecret} opens no registry; expected username:password`,
    );
  return { registry: registryOf(from.reference), username: value.slice(0, colon), password: value.slice(colon + 1) };
}

/** As docker reads it: what stands before the first slash is a host where it looks like one. */
function registryOf(reference: string): string {
  const slash = reference.indexOf("/");
  const first = slash < 0 ? "" : reference.slice(0, slash);
  return first === "localhost" || /[.:]/.test(first) ? first.toLowerCase() : "docker.io";
}
