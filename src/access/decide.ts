// Pure: what a scope contains, and why an identity may not do what it asks.

import type { Identity, Scope } from "#model/access.ts";
import { EbbError } from "#model/errors.ts";

const contains: Readonly<Record<Scope, readonly Scope[]>> = {
  admin: ["admin", "deploy", "read", "invoke"],
  deploy: ["deploy", "read", "invoke"],
  read: ["read"],
  invoke: ["invoke"],
};

export const scopes: readonly Scope[] = ["admin", "deploy", "read", "invoke"];

/** Does `scope` allow what needs `needed`? */
export function covers(scope: Scope, needed: Scope): boolean {
  return contains[scope].includes(needed);
}

/** Is what belongs to `project` (null: what spans projects) within reach of an identity bound to `bound` (null: to none)? */
export function reaches(bound: string | null, project: string | null): boolean {
  return bound === null || bound === project;
}

/**
 * Why it may not; null: it may. The project is judged before the scope, so that a token of another project learns nothing
 * about what its scope would open.
 */
export function refuse(identity: Identity | null, needs: Scope, project: string | null): EbbError | null {
  if (identity === null)
    return new EbbError("unauthenticated", "this needs a token; none was sent, or it is not valid");
  if (!reaches(identity.project, project)) {
    const wanted = project === null ? "what spans projects" : `project "${project}"`;
    return new EbbError(
      "forbidden",
      `the token "${identity.name}" is for project "${identity.project}", this needs one for ${wanted}`,
    );
  }
  if (!covers(identity.scope, needs))
    return new EbbError(
      "forbidden",
      `the token "${identity.name}" has the scope ${identity.scope}, this needs ${needs}`,
    );
  return null;
}

/** May `identity` hand out a token of this scope and project? Never more than it has itself. */
export function mayGrant(identity: Identity, scope: Scope, project: string | null): boolean {
  return reaches(identity.project, project) && covers(identity.scope, scope);
}

/** `now` at or after `expiresMs` is expired. */
export function expired(expiresMs: number | null, nowMs: number): boolean {
  return expiresMs !== null && nowMs >= expiresMs;
}
