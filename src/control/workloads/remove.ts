// workloads remove: it serves no more, and its revisions are forgotten. Records and logs stay for their time.

import type { Identity } from "#model/access.ts";
import { command, workloadOf } from "../command.ts";
import type { Context } from "../context.ts";

export function removeWorkload(context: Context, identity: Identity, project: string, name: string): Promise<void> {
  const head = { command: "workloads remove", identity, needs: "deploy", project, target: name } as const;
  return command(context, head, (audit) =>
    context.changes.run(project, async () => {
      const { workload, revision } = workloadOf(context, project, name);
      await context.store.apply({
        mutations: [{ kind: "remove_workload", key: { project, workload: name } }],
        audit: audit(`r${revision.number}`),
      });
      context.changed(workload, null, `removed by ${identity.name}`);
      context.tell({ kind: "removed", project, workload: name, by: identity.name });
    }),
  );
}
