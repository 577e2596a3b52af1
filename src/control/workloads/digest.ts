// What makes two deploys the same: the code as it runs, and the settings as they were asked for.

import { createHash } from "node:crypto";
import type { SettledContainer, SettledFunction, SettledImageJob, SettledJob } from "../app-tools.ts";

/**
 * sha256 over code and settings. Taken before the code is loaded, so that an unchanged deploy loads nothing: what only loading
 * tells follows from the code, and is left out.
 */
export function functionDigest(codeDigest: string, settled: SettledFunction): string {
  const { settings, sources } = settled;
  const asked = Object.fromEntries(
    Object.entries(settings).map(([key, value]) => [
      key,
      (key === "handler" || key === "signature" || key === "entry") && !declared(sources, key) ? null : value,
    ]),
  );
  return hashed({ codeDigest, settings: asked });
}

/** What an image says of itself is in its digest; what was made of it is in the settings all the same. */
export function containerDigest(imageDigest: string, { settings }: SettledContainer): string {
  return hashed({ imageDigest, settings });
}

/** A job's: nothing of it is loaded. */
export function jobDigest(codeDigest: string, { settings }: SettledJob): string {
  return hashed({ kind: "job", codeDigest, settings });
}

export function imageJobDigest(imageDigest: string, { settings }: SettledImageJob): string {
  return hashed({ kind: "job", imageDigest, settings });
}

function hashed(of: unknown): string {
  return createHash("sha256").update(canonical(of)).digest("hex");
}

export function declared(sources: SettledFunction["sources"], key: keyof SettledFunction["sources"]): boolean {
  return sources[key] === "app file" || sources[key] === "flag";
}

/** JSON with sorted keys: the order in which an app file is written means nothing. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    inner !== null && typeof inner === "object" && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}
