// Names of images, read as docker reads them.

import { EbbError } from "#model/errors.ts";
import { imageLimits } from "#model/limits.ts";

export interface Reference {
  /** "docker.io", "localhost:5000". */
  readonly registry: string;
  readonly repository: string;
  readonly tag: string | null;
  /** "sha256:…"; where it is given the tag says nothing. */
  readonly digest: string | null;
}

const digestPattern = /^sha256:[0-9a-f]{64}$/;
const hostPattern =
  /^(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*|\[[0-9a-f:]+\])(?::[0-9]{1,5})?$/;
const pathPattern = /^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*$/;
const tagPattern = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;

export function isDigest(text: unknown): text is string {
  return typeof text === "string" && digestPattern.test(text);
}

/** EbbError image_refused where it is none. */
export function parseReference(text: string): Reference {
  const refuse = (why: string): EbbError =>
    new EbbError("image_refused", `${JSON.stringify(text.slice(0, 200))} is no name of an image: ${why}`);
  if (text.length > imageLimits.referenceChars)
    throw refuse(`it is longer than ${imageLimits.referenceChars} characters`);
  const [named, digest, more] = text.split("@");
  if (more !== undefined || (digest !== undefined && !isDigest(digest)))
    throw refuse('behind "@" stands sha256: and 64 hexadecimal digits');
  const slash = named!.indexOf("/");
  const first = slash < 0 ? "" : named!.slice(0, slash);
  const hasHost = first === "localhost" || /[.:]/.test(first);
  const rest = hasHost ? named!.slice(slash + 1) : named!;
  const colon = rest.lastIndexOf(":");
  const path = colon < 0 ? rest : rest.slice(0, colon);
  const tag = colon < 0 ? null : rest.slice(colon + 1);
  if (tag !== null && !tagPattern.test(tag)) throw refuse(`${JSON.stringify(tag.slice(0, 200))} is no tag`);
  const host = hasHost ? first.toLowerCase() : "docker.io";
  const registry = host === "index.docker.io" ? "docker.io" : host;
  if (!hostPattern.test(registry)) throw refuse(`${JSON.stringify(first.slice(0, 200))} is no registry`);
  if (!pathPattern.test(path))
    throw refuse(
      "lower-case letters and digits with . _ - between, a tag behind : (registry.example.com/team/app:1.2)",
    );
  const repository = registry === "docker.io" && !path.includes("/") ? `library/${path}` : path;
  return { registry, repository, tag: digest === undefined ? (tag ?? "latest") : tag, digest: digest ?? null };
}

/** As skopeo wants it: by digest where one is known. */
export function nameOf(reference: Reference, digest = reference.digest): string {
  const named = `${reference.registry}/${reference.repository}`;
  return digest === null ? `${named}:${reference.tag ?? "latest"}` : `${named}@${digest}`;
}

/** docker asks such a registry without TLS too: nobody is in between. */
export function isOnThisMachine(registry: string): boolean {
  return /^(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]+)?$/.test(registry);
}
