// One attempt at a task, from its wait for room to its record: started, timed, metered, stopped.

import type { Execution, Fleet } from "#fleet/door.ts";
import type { InvocationMeter, Meter } from "#metering/door.ts";
import type { Cancel, Clock } from "#model/clock.ts";
import { EbbError } from "#model/errors.ts";
import type { Failure } from "#model/instance.ts";
import type { InvocationId } from "#model/ids.ts";
import { jobLimits } from "#model/limits.ts";
import type { Outcome } from "#model/invocation.ts";
import type { Run, Task } from "#model/run.ts";
import { withMemory } from "#model/workload.ts";
import type { Exit, SandboxUsage } from "#sandbox/door.ts";
import type { Ending } from "./decide.ts";
import type { ResultReader, Results } from "./results.ts";

export interface AttemptRooms {
  readonly fleet: Pick<Fleet, "execute">;
  readonly meter: Pick<Meter, "instance">;
  readonly results: Results;
  readonly clock: Clock;
}

/** How it went: it ended, it could not be started, or it was called off while it waited. */
export type Attempted =
  | { readonly kind: "ended"; readonly ending: Ending }
  | { readonly kind: "failed_to_start"; readonly failure: Failure }
  | { readonly kind: "called_off" };

export class Attempt {
  readonly id: InvocationId;
  readonly index: number;
  readonly execution: Execution;
  readonly #rooms: AttemptRooms;
  readonly #run: Run;
  /** Since when it has waited. */
  readonly #askedMs: number;
  #asked: Ending["asked"] = null;
  #admitted = false;

  constructor(
    rooms: AttemptRooms,
    run: Run,
    task: Task,
    id: InvocationId,
    held: (why: "capacity" | "over_quota") => void,
  ) {
    this.#rooms = rooms;
    this.#run = run;
    this.id = id;
    this.index = task.index;
    this.#askedMs = task.attempts === 0 ? run.createdMs : (task.notBeforeMs ?? rooms.clock.wallMs());
    const { revision, overrides } = run;
    const { settings } = revision;
    this.execution = rooms.fleet.execute({
      revision,
      memoryMb: memoryMbOf(run),
      command: [...settings.command, ...(overrides.args ?? settings.args)],
      env: { ...overrides.env, ...environmentOf(run, task) },
      run: run.id,
      execution: id,
      held,
    });
  }

  /** It has memory, or had: it is not to be started by anybody else. */
  get admitted(): boolean {
    return this.#admitted;
  }

  /** The first that asks for its end says why. Resolves when nothing of it is left. */
  async end(why: "timeout" | "stopped" | "interrupted"): Promise<void> {
    this.#asked ??= why;
    await this.execution.stop(jobLimits.stopGraceMs);
  }

  /** `begins` commits that it does; only then is it started. */
  async run(begins: () => Promise<void>): Promise<Attempted> {
    try {
      await this.execution.admitted;
    } catch {
      return { kind: "called_off" };
    }
    this.#admitted = true;
    const admittedMs = this.#rooms.clock.wallMs();
    const committed = begins();
    await committed;
    if (this.#asked !== null) {
      await this.execution.stop(0);
      return this.#ended({ reason: "stopped", code: null, message: "It was stopped before it began." }, null);
    }
    return this.#start(admittedMs - this.#askedMs);
  }

  async #start(queuedMs: number): Promise<Attempted> {
    const { clock, results, meter } = this.#rooms;
    const { revision, id } = this.#run;
    const startUs = clock.monotonicUs();
    let result: ResultReader | null = null;
    const failure = await this.execution.start((output) => {
      result = results.read(output.kind === "fifo" ? output.result : undefined, revision, id, this.index);
    });
    if (failure !== null) {
      await closed(result);
      if (this.#asked === null) return { kind: "failed_to_start", failure };
      return this.#ended({ reason: "stopped", code: null, message: "It was stopped as it began." }, null);
    }
    let ended: Exit | null = null;
    // One that takes no time has ended before its begin is marked.
    let already: Exit | null = null;
    void this.execution.over.then((exit) => void (already = exit));
    await Promise.resolve();
    const instance = meter.instance({
      id: this.execution.instance,
      revision: withMemory(revision, memoryMbOf(this.#run)),
      usage: () => usageOf(this.execution, already, ended),
    });
    const marked = instance.begin({
      id: this.id,
      trigger: "manual",
      timeMs: clock.wallMs(),
      queuedUs: Math.max(0, queuedMs) * 1_000,
      startUs: clock.monotonicUs() - startUs,
      cold: true,
    });
    const noRoom = marked instanceof EbbError ? marked : null;
    // What cannot be metered does not run.
    if (noRoom) void this.execution.stop(0);
    const timeout = this.#timeout();
    const exit = await this.execution.over;
    ended = exit;
    timeout();
    const left = await closed(result);
    const attempted = this.#ended(exit, left.bytes, left.tooLarge);
    if (!(marked instanceof EbbError)) this.#mark(marked, attempted.ending, left.bytes ?? 0);
    instance.close();
    return noRoom === null ? attempted : this.broken(noRoom.message);
  }

  /** The platform failed it once it may have begun: tried again after a pause, where it may be begun twice. */
  broken(message: string): Attempted {
    if (this.#run.revision.settings.rerunOnInterrupt)
      return { kind: "failed_to_start", failure: { fault: "platform", message, stack: null, hint: null } };
    return this.#ended({ reason: "lost", code: null, message }, null);
  }

  #timeout(): Cancel {
    const { timeoutSeconds } = this.#run.revision.settings;
    return this.#rooms.clock.after(timeoutSeconds * 1_000, () => void this.end("timeout"));
  }

  #ended(exit: Exit, resultBytes: number | null, tooLarge = false): Extract<Attempted, { kind: "ended" }> {
    const words = `Its result was larger than ${jobLimits.resultBytes / 1024 / 1024} MiB and was not kept.`;
    const told = tooLarge ? { ...exit, message: `${exit.message} ${words}` } : exit;
    return { kind: "ended", ending: { asked: this.#asked, exit: told, resultBytes } };
  }

  #mark(marked: InvocationMeter, ending: Ending, bytesOut: number): void {
    marked.end({ outcome: outcomeOf(ending), status: null, bytesIn: 0, bytesOut });
  }
}

/** At its end what its end has told, of which nothing has been counted yet where it came before the begin. */
function usageOf(execution: Execution, already: Exit | null, ended: Exit | null): SandboxUsage {
  if (ended?.usage !== undefined) return ended.usage;
  return already?.usage === undefined ? execution.usage() : { cpuNs: 0, memoryPeakBytes: null };
}

function memoryMbOf({ overrides, revision }: Run): number {
  return overrides.memoryMb ?? revision.settings.memoryMb;
}

async function closed(result: ResultReader | null): Promise<Awaited<ReturnType<ResultReader["end"]>>> {
  return (await result?.end()) ?? { bytes: null, tooLarge: false };
}

function outcomeOf({ asked, exit }: Ending): Outcome {
  if (exit.reason === "exited") return exit.code === 0 ? "ok" : "error";
  if (exit.reason === "memory") return "memory";
  return asked === "timeout" ? "timeout" : "interrupted";
}

/** Which one of them it is; also in the words of Cloud Run, which count attempts from 0. */
function environmentOf(run: Run, task: Task): Readonly<Record<string, string>> {
  const index = String(task.index);
  const count = String(run.tasks.length);
  return {
    EBB_RUN: run.id,
    EBB_JOB_INDEX: index,
    EBB_JOB_COUNT: count,
    EBB_JOB_ATTEMPT: String(task.attempts + 1),
    EBB_RESULT: "/ebb/result",
    CLOUD_RUN_JOB: run.revision.workload,
    CLOUD_RUN_EXECUTION: run.id,
    CLOUD_RUN_TASK_INDEX: index,
    CLOUD_RUN_TASK_COUNT: count,
    CLOUD_RUN_TASK_ATTEMPT: String(task.attempts),
  };
}
