// secrets set: a new value, sealed; the workloads that name it get fresh instances.

import type { Identity } from "#model/access.ts";
import { EbbError } from "#model/errors.ts";
import { accessLimits } from "#model/limits.ts";
import { checkSecretName, command, projectOf } from "../command.ts";
import type { Context } from "../context.ts";

export interface SecretSet {
  readonly version: number;
  /** Workloads whose instances are being replaced. */
  readonly replaced: readonly string[];
}

export function setSecret(
  context: Context,
  identity: Identity,
  project: string,
  name: string,
  value: string,
): Promise<SecretSet> {
  const head = { command: "secrets set", identity, needs: "deploy", project, target: name } as const;
  return command(context, head, (audit) =>
    context.changes.run(project, async () => {
      projectOf(context, project);
      checkSecretName(name);
      checkValue(name, value);
      const before = context.mirror.secret(project, name);
      if (!before) checkRoom(context, project);
      const version = (before?.version ?? 0) + 1;
      const secret = context.access.seal(project, name, value, version, context.clock.wallMs());
      await context.store.apply({ mutations: [{ kind: "put_secret", secret }], audit: audit(`version ${version}`) });
      const replaced: string[] = [];
      for (const { workload, revision } of context.mirror.workloads(project)) {
        if (!revision.settings.secrets.includes(name)) continue;
        context.replaced(workload, revision, `secret ${name} has a new value`);
        replaced.push(workload.workload);
      }
      return { version, replaced };
    }),
  );
}

function checkValue(name: string, value: string): void {
  if (value === "") throw new EbbError("bad_request", `the value of ${name} is empty`);
  // It becomes an environment variable, which ends at a NUL.
  if (value.includes("\0")) throw new EbbError("bad_request", `the value of ${name} holds a NUL byte`);
  const bytes = Buffer.byteLength(value);
  if (bytes > accessLimits.secretBytes)
    throw new EbbError(
      "payload_too_large",
      `the value of ${name} has ${bytes} bytes; at most ${accessLimits.secretBytes} are kept`,
    );
}

function checkRoom(context: Context, project: string): void {
  if ([...context.mirror.secrets(project)].length >= accessLimits.secretsPerProject)
    throw new EbbError(
      "over_quota",
      `project "${project}" has ${accessLimits.secretsPerProject} secrets, the most there may be`,
    );
}
