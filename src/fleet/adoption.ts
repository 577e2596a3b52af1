// An execution that an earlier ebb has started: its memory counts, its output is read on, and it is ended as any other.

import { EbbError } from "#model/errors.ts";
import type { Exit } from "#sandbox/door.ts";
import type { Adopted, AdoptionSpec, Execution } from "./door.ts";
import type { ExecutionContext } from "./execution.ts";
import { Left } from "./left.ts";
import { stopSandbox } from "./stop-sandbox.ts";

const MiB = 1024 * 1024;

/** Rejects where it cannot be taken over; it is to be forgotten then. */
export async function adopt(context: ExecutionContext, spec: AdoptionSpec): Promise<Adopted> {
  const { driver, admission, access, telemetry } = context;
  const { revision, instance } = spec;
  const { project, workload, settings } = revision;
  const bytes = spec.memoryMb * MiB;
  const known = driver.left().find((one) => one.instance === instance);
  const begunMs = known?.begunMs ?? null;
  if (known === undefined || begunMs === null) throw new EbbError("internal", `${instance} is not there to be adopted`);
  const over = Promise.withResolvers<Exit>();
  const left = new Left(context, instance);
  let gone = false;
  const end = (exit: Exit): void => {
    if (gone) return;
    gone = true;
    left.ended();
    access.revokeCredential(instance);
    admission.ledger.give(project, bytes, false);
    over.resolve(exit);
    context.gone();
    admission.freed();
  };
  // It has it already: whoever comes later waits for what is left.
  admission.ledger.take(project, bytes);
  try {
    const credential = access.mintCredential(instance, project);
    const of = { project, workload, egress: settings.egress, credential };
    const sandbox = await driver.adopt(instance, of, { done: () => undefined, exited: end });
    telemetry.attach({
      instance,
      project,
      workload,
      source: driver.output(sandbox),
      nonce: null,
      concurrency: 1,
      execution: { run: spec.run, invocation: spec.execution },
      resumes: true,
    });
    const execution: Execution = {
      instance,
      admitted: Promise.resolve(),
      start: () => Promise.reject(new EbbError("internal", `${instance} was started by another ebb`)),
      over: over.promise,
      usage: () => driver.usage(sandbox),
      keep: async () => undefined,
      settled: () => left.settled(),
      forget: () => left.forget(),
      stop: async (graceMs) => {
        await stopSandbox(context, sandbox, graceMs, "fleet: stopping a run");
        if (!gone) end({ reason: "stopped", code: null, message: "ebb stopped it." });
      },
    };
    return { execution, begunMs, alive: known.alive };
  } catch (error) {
    end({ reason: "lost", code: null, message: "It could not be adopted." });
    throw error;
  }
}
