// One attempt at a task of a run: admitted as an instance is, then a program in a sandbox of its own, from its start to its end.

import { v8HeapOptions } from "#lib/v8-heap.ts";
import { EbbError } from "#model/errors.ts";
import { newInstanceId, randomHex, type InstanceId, type SandboxId } from "#model/ids.ts";
import type { Failure } from "#model/instance.ts";
import { jobLimits, sandboxLimits } from "#model/limits.ts";
import { contentDigestOf, isOfImage } from "#model/workload.ts";
import type { Assignment, Exit, Lasting, PoolKey } from "#sandbox/door.ts";
import { holderOf, type Admission } from "./admission.ts";
import { egressClassOf, environmentOf, isolationOf } from "./assignment.ts";
import type { Execution, ExecutionSpec } from "./door.ts";
import { failureOf, type LaunchContext } from "./launch.ts";
import { Left } from "./left.ts";
import { stopSandbox } from "./stop-sandbox.ts";

const MiB = 1024 * 1024;

export interface ExecutionContext extends LaunchContext {
  readonly admission: Pick<Admission, "execution" | "ledger" | "freed">;
  /** Called once, when nothing of it is left. */
  readonly gone: () => void;
}

export function execute(context: ExecutionContext, spec: ExecutionSpec): Execution {
  const { driver, admission, access, telemetry, clock } = context;
  const { revision, memoryMb } = spec;
  const bytes = memoryMb * MiB;
  const instance = newInstanceId();
  const over = Promise.withResolvers<Exit>();
  const waiting = admission.execution(bytes, holderOf(revision), spec.held);
  let turnOver: (() => void) | null = null;
  let sandbox: SandboxId | null = null;
  let preparing: Promise<SandboxId> | null = null;
  let stopped = false;
  let gone = false;
  const left = new Left(context, instance);

  const end = (exit: Exit): void => {
    if (gone) return;
    gone = true;
    giveTurn();
    left.ended();
    access.revokeCredential(instance);
    admission.ledger.give(revision.project, bytes, false);
    over.resolve(exit);
    context.gone();
    admission.freed();
  };

  const giveTurn = (): void => {
    turnOver?.();
    turnOver = null;
  };

  async function start(opened: Parameters<Execution["start"]>[0]): Promise<Failure | null> {
    if (stopped) return stoppedFirst;
    const late = Promise.withResolvers<null>();
    const cancel = clock.after(sandboxLimits.startMs, () => late.resolve(null));
    try {
      preparing = driver.prepare(poolOf(spec), { done: () => undefined, exited: end }, lastingOf(spec, instance));
      sandbox = await Promise.race([preparing, late.promise]);
      if (sandbox === null) return notMade;
      // oxlint-disable-next-line typescript/no-unnecessary-condition -- it may have been stopped meanwhile
      if (stopped || gone) return stoppedFirst;
      const source = driver.output(sandbox);
      opened(source);
      const credential = access.mintCredential(instance, revision.project);
      const env = environmentOfExecution(context, spec, credential);
      const assigned = driver.assign(sandbox, assignmentOf(spec, { instance, env, credential }));
      telemetry.attach({
        instance,
        project: revision.project,
        workload: revision.workload,
        source,
        nonce: null,
        concurrency: 1,
        execution: { run: spec.run, invocation: spec.execution },
      });
      const answer = await assigned;
      return answer.ok ? null : answer.failure;
    } catch (error) {
      return failureOf(context, error).failure;
    } finally {
      cancel();
      giveTurn();
    }
  }

  async function stop(graceMs: number): Promise<void> {
    stopped = true;
    if (waiting.withdraw()) return;
    if (
      !(await admitted.then(
        () => true,
        () => false,
      ))
    )
      return;
    const made = sandbox ?? (await preparing?.catch(() => null)) ?? null;
    if (made === null) return end(stoppedExit);
    await stopSandbox(context, made, graceMs, "fleet: stopping a run");
    end(stoppedExit);
  }

  const admitted = waiting.admitted.then((back) => void (turnOver = back));
  admitted.catch(() => undefined);
  return {
    instance,
    admitted,
    start: async (opened) => {
      const failure = await start(opened);
      const stopping = failure === null ? null : stop(0);
      // What may come of it still is ended then, and has its memory until then: nobody waits for it.
      if (failure !== notMade) await stopping;
      return failure;
    },
    over: over.promise,
    usage: () => (sandbox === null ? { cpuNs: null, memoryPeakBytes: null } : driver.usage(sandbox)),
    keep: async () => {
      if (sandbox !== null) await driver.keep(sandbox);
    },
    settled: () => left.settled(),
    forget: () => left.forget(),
    stop,
  };
}

const stoppedExit: Exit = { reason: "stopped", code: null, message: "ebb stopped it." };
const notMade: Failure = {
  fault: "platform",
  message: `no sandbox could be made in ${sandboxLimits.startMs / 1_000} s.`,
  stack: null,
  hint: null,
};
const stoppedFirst: Failure = { fault: "platform", message: "it was stopped before it began", stack: null, hint: null };

function lastingOf({ revision }: ExecutionSpec, instance: InstanceId): Lasting {
  const timeoutMs = revision.settings.timeoutSeconds * 1_000;
  const { project, workload, number, digest } = revision;
  const of = `${project}/${workload}@${number} ${digest}`;
  return { instance, of, timeoutMs, graceMs: jobLimits.stopGraceMs, resultBytes: jobLimits.resultBytes };
}

export function poolOf({ revision, memoryMb }: Pick<ExecutionSpec, "revision" | "memoryMb">): PoolKey {
  const egress = egressClassOf(revision.settings.egress);
  const bounds = { memoryMb, egress, ...isolationOf(revision), toEnd: true } as const;
  if (isOfImage(revision)) {
    // What nobody has said goes with the run's own memory.
    const said = revision.settingSources.writableMb === "app file";
    return { image: revision.imageDigest, tmpBytes: (said ? revision.settings.writableMb : memoryMb) * MiB, ...bounds };
  }
  const { runtime } = revision.settings;
  return { runtime, tmpBytes: Math.min(sandboxLimits.tmpBytes, memoryMb * MiB), ...bounds };
}

function environmentOfExecution(
  { secrets, internalUrl }: LaunchContext,
  { revision, env, memoryMb }: ExecutionSpec,
  credential: string,
): Readonly<Record<string, string>> {
  const url = internalUrl(credential);
  if (revision.settings.secrets.some((name) => Object.hasOwn(env, name)))
    throw new EbbError("start_failed", "a secret of the job is in the run's env too; one name has one value");
  // An image is run as it is.
  const own = isOfImage(revision) ? {} : { NODE_OPTIONS: v8HeapOptions(memoryMb).join(" ") };
  return { ...own, ...environmentOf(revision, secrets, url), ...env };
}

function assignmentOf(
  { revision, command }: ExecutionSpec,
  { instance, env, credential }: Pick<Assignment, "instance" | "env" | "credential">,
): Assignment {
  const { project, workload, settings } = revision;
  const program = { entry: null, handler: null, signature: "program", command, port: 0, probe: null } as const;
  const nothing = { check: false, loadCache: null, makeLoadCache: false, takeWithinMs: null, concurrency: 1 } as const;
  return {
    instance,
    project,
    workload,
    codeDigest: isOfImage(revision) ? null : contentDigestOf(revision),
    env,
    credential,
    ...program,
    ...nothing,
    egress: settings.egress,
    cpu: settings.cpu,
    cpuStrict: settings.cpuStrict,
    timeoutMs: settings.timeoutSeconds * 1000,
    nonce: randomHex(16),
  };
}
