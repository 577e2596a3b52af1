// jobs run: a run of a job is accepted; from then on it is run to its end, whatever happens to ebb.

import type { Identity } from "#model/access.ts";
import { EbbError } from "#model/errors.ts";
import { functionBounds, jobBounds, jobLimits } from "#model/limits.ts";
import { refuseEnvName } from "#model/names.ts";
import type { Run, RunOverrides } from "#model/run.ts";
import { command, workloadOf } from "../command.ts";
import type { Context } from "../context.ts";
import { missingSecrets } from "../secrets/missing.ts";
import { refuseMemory } from "../workloads/plan-checks.ts";

export function runJob(
  context: Context,
  identity: Identity,
  project: string,
  name: string,
  overrides: RunOverrides,
): Promise<Run> {
  const head = { command: "jobs run", identity, needs: "deploy", project, target: name } as const;
  return command(context, head, async (audit) => {
    const { revision } = workloadOf(context, project, name);
    if (revision.kind !== "job")
      throw new EbbError("conflict", `${name} is a ${revision.kind}, which is called; run is for jobs`);
    checkOverrides(overrides);
    const { isolation, memoryMb } = revision.settings;
    const tooLittle = refuseMemory({ isolation, memoryMb: overrides.memoryMb ?? memoryMb });
    if (tooLittle !== null) throw new EbbError("bad_request", `${name}: ${tooLittle}`);
    const [secret] = missingSecrets(context.mirror, project, revision.settings.secrets);
    if (secret !== undefined)
      throw new EbbError(
        "conflict",
        `${name} needs the secret ${secret}, which is gone; set it: ebb secrets set ${secret}`,
      );
    const clash = revision.settings.secrets.find((one) => Object.hasOwn(overrides.env, one));
    if (clash !== undefined)
      throw new EbbError("bad_request", `env: ${clash} is a secret of ${name}; one name has one value`);
    const words = [...revision.settings.command, ...(overrides.args ?? revision.settings.args)];
    if (words.length === 0)
      throw new EbbError("bad_request", `args: the image of ${name} has no entrypoint; say what is to be run`);
    const run = context.jobs.make({ revision, overrides, createdBy: identity.name });
    // Accepted is what is on the disk.
    const change = {
      mutations: [{ kind: "put_run", run }],
      audit: audit(`run ${run.id} of r${revision.number}`),
    } as const;
    await context.store.apply(change).catch((error: unknown) => {
      // A store that died may have it there all the same.
      context.jobs.doubtful(run);
      throw error;
    });
    context.jobs.accepted(run);
    return run;
  });
}

function checkOverrides({ env, args, memoryMb, parallelism }: RunOverrides): void {
  let bytes = 0;
  for (const [name, value] of Object.entries(env)) {
    const refusal = refuseEnvName(name);
    if (refusal !== null) throw new EbbError("bad_request", `env: ${JSON.stringify(name.slice(0, 60))}: ${refusal}`);
    bytes += checkText(`env: ${name}`, value) + Buffer.byteLength(name);
  }
  if (Object.keys(env).length > functionBounds.envCount)
    throw new EbbError("bad_request", `env: at most ${functionBounds.envCount} variables`);
  if ((args?.length ?? 0) > functionBounds.commandArgs)
    throw new EbbError("bad_request", `args: at most ${functionBounds.commandArgs} words`);
  for (const word of args ?? []) bytes += checkText("args", word);
  if (bytes > jobLimits.overrideBytes)
    throw new EbbError("bad_request", `env and args: at most ${jobLimits.overrideBytes} bytes in all, found ${bytes}`);
  checkNumber("memoryMb", memoryMb, functionBounds.memoryMb);
  checkNumber("parallelism", parallelism, jobBounds.parallelism);
}

function checkText(what: string, text: string): number {
  if (text.includes("\0")) throw new EbbError("bad_request", `${what}: a NUL character is in it`);
  return Buffer.byteLength(text);
}

function checkNumber(what: string, value: number | null, { min, max }: { min: number; max: number }): void {
  if (value !== null && (!Number.isInteger(value) || value < min || value > max))
    throw new EbbError("bad_request", `${what}: expected a whole number from ${min} to ${max}, found ${value}`);
}
