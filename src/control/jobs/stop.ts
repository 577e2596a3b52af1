// jobs stop: a run is ended. What runs of it has its time to do so; one that has ended stays as it is.

import type { Identity } from "#model/access.ts";
import { EbbError } from "#model/errors.ts";
import { isInvocationId } from "#model/ids.ts";
import { hasEnded, type Run } from "#model/run.ts";
import { command, projectOf } from "../command.ts";
import type { Context } from "../context.ts";

export function stopRun(context: Context, identity: Identity, project: string, id: string): Promise<Run> {
  const head = { command: "jobs stop", identity, needs: "deploy", project, target: id } as const;
  return command(context, head, async (audit) => {
    projectOf(context, project);
    const [found] = isInvocationId(id) ? await context.store.runs({ project, id, limit: 1 }) : [];
    if (!found) throw new EbbError("not_found", `there is no run "${id.slice(0, 40)}" in project "${project}"`);
    const run = context.jobs.latest(found);
    await context.store.audit(
      audit(`of ${run.revision.workload}${hasEnded(run.state) ? `, which had ${run.state}` : ""}`),
    );
    await context.jobs.stopRun(id);
    return context.jobs.latest(run);
  });
}
