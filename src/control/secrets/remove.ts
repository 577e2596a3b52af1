// secrets remove: refused while a workload that serves names it, because its next instance could not start.

import type { Identity } from "#model/access.ts";
import { EbbError } from "#model/errors.ts";
import { checkSecretName, command, projectOf } from "../command.ts";
import type { Context } from "../context.ts";

export function removeSecret(context: Context, identity: Identity, project: string, name: string): Promise<void> {
  const head = { command: "secrets remove", identity, needs: "deploy", project, target: name } as const;
  return command(context, head, (audit) =>
    context.changes.run(project, async () => {
      projectOf(context, project);
      checkSecretName(name);
      if (!context.mirror.secret(project, name))
        throw new EbbError("not_found", `there is no secret "${name}" in project "${project}"`);
      for (const { workload, revision } of context.mirror.workloads(project))
        if (revision.settings.secrets.includes(name))
          throw new EbbError(
            "conflict",
            `${workload.workload} needs the secret ${name}; deploy it without, or remove it, then remove the secret`,
          );
      await context.store.apply({ mutations: [{ kind: "remove_secret", project, name }], audit: audit("") });
    }),
  );
}
