// What a sandbox is told when it becomes an instance of a revision: settings, environment, opened secrets.

import { EbbError } from "#model/errors.ts";
import type { Secret } from "#model/access.ts";
import type { InstanceId } from "#model/ids.ts";
import { sandboxLimits } from "#model/limits.ts";
import type { Egress, EgressClass, FunctionRevision, Revision, ServingRevision } from "#model/workload.ts";
import type { Assignment, PoolKey } from "#sandbox/door.ts";

const MiB = 1024 * 1024;

/** Where a program listens that listens itself; inside a network namespace of its own, so the same for all. */
export const programPort = 8080;

/** A list is opened when it is assigned. */
export function egressClassOf(egress: Egress): EgressClass {
  return typeof egress === "string" ? egress : "none";
}

export function poolKeyOf(revision: ServingRevision): PoolKey {
  const { memoryMb } = revision.settings;
  const bounds = { memoryMb, egress: egressClassOf(revision.settings.egress), ...isolationOf(revision) };
  if (revision.kind === "container")
    return { image: revision.imageDigest, tmpBytes: revision.settings.writableMb * MiB, ...bounds };
  const { runtime } = revision.settings;
  return { runtime, tmpBytes: Math.min(sandboxLimits.tmpBytes, memoryMb * MiB), ...bounds };
}

/** As pool keys say it. */
export function isolationOf({ settings }: Revision): Pick<PoolKey, "isolation"> {
  return settings.isolation === "gvisor" ? { isolation: "gvisor" } : {};
}

/** A runtime of ebb's is in it, and marks what belongs to which invocation; others are programs that know nothing of ebb. */
export function hasShim(revision: ServingRevision): boolean {
  return revision.kind === "function" && revision.settings.runtime !== "custom";
}

function portOf(revision: ServingRevision): number {
  return revision.kind === "container" ? revision.settings.port : programPort;
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
  if (revision.kind !== "job") env["PORT"] = String(portOf(revision));
  return env;
}

export function assignmentOf(
  revision: ServingRevision,
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
  const common = {
    instance: options.instance,
    project: revision.project,
    workload: revision.workload,
    port: portOf(revision),
    concurrency: settings.concurrency,
    env: options.env,
    cpu: settings.cpu,
    cpuStrict: settings.cpuStrict,
    timeoutMs: settings.timeoutSeconds * 1000,
    egress: settings.egress,
    credential: options.credential,
    nonce: options.nonce,
    check: options.check,
    loadCache: options.loadCache,
    takeWithinMs: options.takeWithinMs,
  };
  if (revision.kind === "container") {
    const { command, probe } = revision.settings;
    const program = { entry: null, handler: null, signature: "program", command, probe } as const;
    return { ...common, ...program, codeDigest: null, makeLoadCache: false };
  }
  const { entry, handler, signature, command } = revision.settings;
  const declared = !hasShim(revision) || isDeclared(revision);
  return {
    ...common,
    codeDigest: revision.codeDigest,
    entry,
    handler,
    // A deploy's check recognises what nobody declared; from then on the revision says it.
    signature: options.check && !declared ? null : signature,
    command,
    probe: { tcp: true },
    makeLoadCache: options.check && options.loadCache === null && hasShim(revision),
  };
}

function isDeclared(revision: FunctionRevision): boolean {
  const source = revision.settingSources.signature;
  return source === "app file" || source === "flag";
}
