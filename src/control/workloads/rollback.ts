// workloads rollback: an earlier revision serves again. A switch of one number; nothing is built or loaded.

import type { Identity } from "#model/access.ts";
import { EbbError } from "#model/errors.ts";
import type { Revision } from "#model/workload.ts";
import { command, workloadOf } from "../command.ts";
import type { Context } from "../context.ts";
import { missingSecrets } from "../secrets/missing.ts";

/** `number` null: the newest before the current one. */
export function rollback(
  context: Context,
  identity: Identity,
  project: string,
  name: string,
  number: number | null,
): Promise<Revision> {
  const head = { command: "workloads rollback", identity, needs: "deploy", project, target: name } as const;
  return command(context, head, (audit) =>
    context.changes.run(project, async () => {
      const { workload } = workloadOf(context, project, name);
      const revisions = await context.store.revisions(workload);
      const target = choose(revisions, workload.current, number, name);
      const missing = missingSecrets(context.mirror, project, target.settings.secrets);
      if (missing.length > 0)
        throw new EbbError(
          "conflict",
          `r${target.number} of ${name} needs the secret ${missing[0]}, which is gone; set it: ebb secrets set ${missing[0]}`,
        );
      await context.store.apply({
        mutations: [
          // The mirror holds only revisions that serve: this one comes back into it.
          { kind: "put_revision", revision: target },
          {
            kind: "put_workload",
            workload: { ...workload, current: target.number, updatedMs: context.clock.wallMs() },
          },
        ],
        audit: audit(`r${workload.current} -> r${target.number}`),
      });
      context.changed(workload, target, `rolled back to r${target.number}`);
      context.tell({ kind: "deployed", project, workload: name, revision: target.number, by: identity.name });
      return target;
    }),
  );
}

function choose(revisions: readonly Revision[], current: number, number: number | null, name: string): Revision {
  if (number === current) throw new EbbError("conflict", `r${number} of ${name} is the one that serves`);
  const target =
    number === null
      ? revisions.find((revision) => revision.number < current)
      : revisions.find((revision) => revision.number === number);
  if (target) return target;
  const kept = revisions.map((revision) => `r${revision.number}`).join(", ");
  throw number === null
    ? new EbbError("conflict", `${name} has no revision before r${current}; kept: ${kept}`)
    : new EbbError("not_found", `${name} has no r${number}; kept: ${kept}`);
}
