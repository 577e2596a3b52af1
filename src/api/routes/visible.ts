// What a list may show of projects that an identity does not reach: nothing.

import type { Identity } from "#model/access.ts";

export function reaches(identity: Identity, project: string): boolean {
  return identity.project === null || identity.project === project;
}
