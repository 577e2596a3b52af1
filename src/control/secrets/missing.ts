// Which secrets a revision names that nobody has set.

import type { Mirror } from "#store/door.ts";

export function missingSecrets(mirror: Pick<Mirror, "secret">, project: string, names: readonly string[]): string[] {
  return names.filter((name) => mirror.secret(project, name) === null);
}
