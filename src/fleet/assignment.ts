// What a sandbox is told when it becomes an instance of a revision: settings, environment, opened secrets.

import { EbbError } from "#model/errors.ts";
import type { Secret } from "#model/access.ts";
import type { InstanceId } from "#model/ids.ts";
import { sandboxLimits } from "#model/limits.ts";
import type { Revision } from "#model/workload.ts";
import type { Assignment, PoolKey } from "#sandbox/door.ts";

const MiB = 1024 * 1024;

/** Where a program listens that listens itself; inside a network namespace of its own, so the same for all. */
export const programPort = 8080;

export function poolKeyOf(revision: Revision): PoolKey {
  const { runtime, memoryMb, egress } = revision.settings;
  return { runtime, memoryMb, tmpBytes: Math.min(sandboxLimits.tmpBytes, memoryMb * MiB), egress };
}

export interface SecretSource {
  secret(project: string, name: string): Secret | null;
  open(secret: Secret): string;
}

/** Throws EbbError start_failed where a secret is not set: its author's to mend. */
export function environmentOf(
  revision: Revision,
  secrets: SecretSource,
  internalUrl: string,
): Readonly<Record<string, string>> {
  const { settings, project, workload } = revision;
  const env: Record<string, string> = { ...settings.env };
  for (const name of settings.secrets) {
    const secret = secrets.secret(project, name);
    if (!secret)
      throw new EbbError(
        "start_failed",
        `the secret ${name} is not set in project ${project}; set it with: ebb secrets set ${name}`,
      );
    env[name] = secrets.open(secret);
  }
  env["EBB_PROJECT"] = project;
  env["EBB_WORKLOAD"] = workload;
  env["EBB_REVISION"] = `r${revision.number}`;
  env["EBB_INTERNAL_URL"] = internalUrl;
  env["PORT"] = String(programPort);
  return env;
}

export function assignmentOf(
  revision: Revision,
  options: {
    readonly instance: InstanceId;
    readonly env: Readonly<Record<string, string>>;
    readonly credential: string;
    readonly nonce: string;
    readonly check: boolean;
    readonly loadCache: string | null;
    readonly takeWithinMs: number | null;
  },
): Assignment {
  const { settings } = revision;
  const declared = settings.runtime === "custom" || isDeclared(revision);
  return {
    instance: options.instance,
    project: revision.project,
    workload: revision.workload,
    codeDigest: revision.codeDigest,
    entry: settings.entry,
    handler: settings.handler,
    // A deploy's check recognises what nobody declared; from then on the revision says it.
    signature: options.check && !declared ? null : settings.signature,
    command: settings.command,
    port: programPort,
    concurrency: settings.concurrency,
    env: options.env,
    cpu: settings.cpu,
    cpuStrict: settings.cpuStrict,
    timeoutMs: settings.timeoutSeconds * 1000,
    credential: options.credential,
    nonce: options.nonce,
    check: options.check,
    loadCache: options.loadCache,
    makeLoadCache: options.check && options.loadCache === null && settings.runtime !== "custom",
    takeWithinMs: options.takeWithinMs,
  };
}

function isDeclared(revision: Revision): boolean {
  const source = revision.settingSources.signature;
  return source === "app file" || source === "flag";
}
