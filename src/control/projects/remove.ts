// projects remove: with everything in it, when that is asked for. The default project stays.

import type { Identity } from "#model/access.ts";
import { EbbError } from "#model/errors.ts";
import { newErrorId } from "#model/ids.ts";
import { defaultProject } from "#model/names.ts";
import type { Mutation } from "#store/door.ts";
import { command, projectOf } from "../command.ts";
import type { Context } from "../context.ts";

/** `everything`: its workloads, secrets and tokens too; without it a project that is not empty is refused. */
export function removeProject(context: Context, identity: Identity, name: string, everything: boolean): Promise<void> {
  const head = { command: "projects remove", identity, needs: "admin", project: null, target: name } as const;
  return command(context, head, (audit) =>
    // The deploy lane too: a deploy that is under way must not bring a workload into a project that is gone.
    context.deploys.run(name, () =>
      context.changes.run(name, async () => {
        projectOf(context, name);
        if (name === defaultProject) throw new EbbError("conflict", "the default project cannot be removed");
        const workloads = [...context.mirror.workloads(name)].map(({ workload }) => workload);
        const secrets = [...context.mirror.secrets(name)];
        const tokens = [...context.mirror.tokens(name)].filter((token) => token.project === name);
        const content = `${workloads.length} workloads, ${secrets.length} secrets, ${tokens.length} tokens`;
        if (!everything && workloads.length + secrets.length + tokens.length > 0)
          throw new EbbError("precondition_required", `project "${name}" has ${content}; confirm with everything=true`);
        const mutations: Mutation[] = [
          ...workloads.map(
            ({ project, workload }) => ({ kind: "remove_workload", key: { project, workload } }) as const,
          ),
          ...secrets.map((secret) => ({ kind: "remove_secret", project: name, name: secret.name }) as const),
          ...tokens.map((token) => ({ kind: "remove_token", id: token.id }) as const),
          { kind: "remove_project", project: name },
        ];
        await context.store.apply({ mutations, audit: audit(content) });
        for (const workload of workloads) {
          context.changed(workload, null, `project ${name} removed by ${identity.name}`);
          context.tell({ kind: "removed", project: name, workload: workload.workload, by: identity.name });
        }
        // It is removed, whatever becomes of this: what stays goes with the code that nobody names.
        await context.builds.loadCaches.forget(name).catch((error: unknown) => {
          context.tell({ kind: "defect", errorId: newErrorId(), where: "compiled code of a removed project", error });
        });
        await context.images?.forget(name).catch((error: unknown) => {
          context.tell({ kind: "defect", errorId: newErrorId(), where: "images of a removed project", error });
        });
      }),
    ),
  );
}
