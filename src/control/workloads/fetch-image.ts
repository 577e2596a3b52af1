// The image that a container or a job is to be run from: fetched for its project, with the login that a secret of it holds.

import { stat } from "node:fs/promises";
import { join } from "node:path";
import type { ContainerDeclaration } from "#app/door.ts";
import type { Image, ImageSource, RegistryLogin } from "#images/door.ts";
import { EbbError } from "#model/errors.ts";
import type { Context } from "../context.ts";
import type { DeployFrame } from "./plan.ts";

type Declaration = Pick<ContainerDeclaration, "name" | "from" | "pullSecret">;

/** `what`: "web: a container". */
export function imagesOf({ images }: Context, what: string): NonNullable<Context["images"]> {
  if (images === null)
    throw new EbbError("deploy_refused", `${what} needs isolation, and ebb runs with --isolation none`);
  return images;
}

export async function fetchImage(context: Context, frame: DeployFrame, declaration: Declaration): Promise<Image> {
  const { name: workload } = declaration;
  const source = await sourceOf(frame, declaration);
  return imagesOf(context, workload).fetch(source, {
    project: frame.project.name,
    login: loginOf(context, frame.project.name, declaration),
    progress: (message, printed = false) => frame.progress({ step: printed ? "printed" : "image", workload, message }),
    ...(frame.signal && { signal: frame.signal }),
  });
}

async function sourceOf({ upload, useCache }: DeployFrame, { name, from }: Declaration): Promise<ImageSource> {
  if (from.kind === "registry") return from;
  const path = join(upload.folder, from.path);
  // What was sent holds no link that leads out of it (builds.receive).
  const found = await stat(path).catch(() => null);
  if (found === null) throw new EbbError("deploy_refused", `${name}: there is nothing at ${from.path}`);
  if (from.kind === "build") {
    const { path: _, ...asked } = from;
    return { ...asked, context: path, file: null, useCache };
  }
  return found.isDirectory() ? { kind: "layout", path } : { kind: "archive", path };
}

/** The secret's value is `username:password`, for the registry of the image's own name and no other. */
function loginOf(context: Context, project: string, { name, from, pullSecret }: Declaration): RegistryLogin | null {
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
