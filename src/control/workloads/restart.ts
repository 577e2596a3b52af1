// workloads restart: every instance is drained and replaced by a fresh one of the same revision.

import type { Identity } from "#model/access.ts";
import { EbbError } from "#model/errors.ts";
import { command, workloadOf } from "../command.ts";
import type { Context } from "../context.ts";

export function restart(context: Context, identity: Identity, project: string, name: string): Promise<void> {
  const head = { command: "workloads restart", identity, needs: "deploy", project, target: name } as const;
  return command(context, head, async (audit) => {
    const { workload, revision } = workloadOf(context, project, name);
    if (revision.kind === "job")
      throw new EbbError("conflict", `${name} is a job: each of its runs starts afresh; run it: ebb jobs run ${name}`);
    await context.store.audit(audit(`r${revision.number}`));
    context.replaced(workload, revision, `restarted by ${identity.name}`);
  });
}
