// What skopeo says when it fails, in ebb's words: whose fault it is, and what to do. Pure.

import { EbbError } from "#model/errors.ts";

/** What is fetched, as the user named it, and from where. */
export interface Subject {
  readonly name: string;
  /** null: from files. */
  readonly registry: string | null;
}

export function failureOf(stderr: string, { name, registry }: Subject): EbbError {
  const words = wordsOf(stderr);
  if (/no space left on device|disk quota exceeded/i.test(words)) return storageFull();
  if (/did not match/i.test(words)) return falseContent(name, registry);
  if (registry === null) return new EbbError("image_refused", `${name} cannot be read: ${words}`);
  if (
    /unauthorized|authentication required|invalid username\/password|requested access to the resource is denied|no basic auth credentials|status: 40[13]|\b403\b|denied/i.test(
      words,
    )
  )
    return new EbbError(
      "image_not_found",
      `${registry} does not give ${name}: it is not there, or wants another login`,
    );
  if (/manifest unknown|name unknown|repository name not known|not found|\b404\b/i.test(words))
    return new EbbError("image_not_found", `${name} is not there, says ${registry}`);
  if (/toomanyrequests|too many requests|rate limit/i.test(words))
    return new EbbError(
      "registry_failed",
      `${registry} gives no more for now: its rate limit is reached; log in, or repeat later`,
    );
  if (
    /did not match|does not match|digest mismatch|corrupt|unexpected EOF|wrong size|content-length|manifest verification failed|invalid checksum/i.test(
      words,
    )
  )
    return falseContent(name, registry);
  if (/no such host/i.test(words)) return noAddress(name, registry);
  if (/server misbehaving|lookup .* on /i.test(words))
    return new EbbError("registry_failed", `the registry ${registry} cannot be looked up: no name server answers`);
  if (
    /connection refused|network is unreachable|no route to host|i\/o timeout|timeout|connection reset|EOF|broken pipe/i.test(
      words,
    )
  )
    return new EbbError("registry_failed", `the registry ${registry} cannot be reached (${words})`);
  if (/x509|certificate|TLS|HTTPS client/i.test(words))
    return new EbbError("registry_failed", `the registry ${registry} cannot be trusted (${words})`);
  if (/file too large/i.test(words)) return tooMuch(name);
  return new EbbError("registry_failed", `the registry ${registry} does not give ${name}: ${words}`);
}

/** Whoever wrote the name can mend it, and often meant no registry at all. */
function noAddress(name: string, registry: string): EbbError {
  const named = name.toLowerCase().startsWith(`${registry}/`) || /^(?:index\.)?docker\.io\//i.test(name);
  const words = named
    ? `the registry ${registry} has no address here: check its name, and whether this machine can look it up`
    : `${name} names no registry, and ${registry}, which is asked then, has no address here; name its registry, or send the image along (docker save, image: ./${(/[^/:@]+/.exec(name) ?? ["web"])[0]}.tar)`;
  return new EbbError("image_not_found", words);
}

export function falseContent(name: string, registry: string | null): EbbError {
  return registry === null
    ? new EbbError("image_refused", `${name} is damaged: what is in it is not what its digests say`)
    : new EbbError(
        "registry_failed",
        `what ${registry} sent for ${name} is not what its digests say; nothing of it was kept`,
      );
}

export function storageFull(): EbbError {
  return new EbbError("storage_full", "there is no room on the disk for the image; nothing of it was kept");
}

export function tooMuch(name: string): EbbError {
  return new EbbError("image_refused", `${name} is larger than it says, or than ebb takes`);
}

export function tooManyFiles(name: string): EbbError {
  return new EbbError("image_refused", `${name} has more files beside its layers than an image has`);
}

/** The message of its last line: without the signatures and keys that addresses of stores carry, and bounded. */
function wordsOf(stderr: string): string {
  const lines = stderr.trim().split("\n");
  const last = lines.findLast((line) => line.includes("level=fatal")) ?? lines.at(-1) ?? "";
  const quoted = /msg=("(?:[^"\\]|\\.)*")/.exec(last)?.[1];
  let words = last;
  try {
    if (quoted !== undefined) words = String(JSON.parse(quoted));
  } catch {
    // Not JSON's quoting: as it stands.
  }
  return (
    words
      .replace(/\?[^\s"']*/g, "?…")
      .replace(/\/\/[^/\s"'@]*@/g, "//…@")
      .replace(/\/[^\s"':]*\/images\/staging\/[0-9a-f]+\/?/g, "")
      // oxlint-disable-next-line no-control-regex -- they would reach a terminal
      .replace(/[\u0000-\u001f\u007f]/g, " ")
      .slice(0, 400)
  );
}
