// One attempt at a task, from its wait for room to its record: started, timed, metered, stopped.

import type { Adopted, Execution, Fleet } from "#fleet/door.ts";
import type { BeginMark, EndMark, InstanceMeter, InvocationMeter, Meter } from "#metering/door.ts";
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
  readonly fleet: Pick<Fleet, "execute" | "adopt">;
  readonly meter: Pick<Meter, "instance" | "resumed">;
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

  private constructor(rooms: AttemptRooms, run: Run, task: Task, id: InvocationId, execution: Execution) {
    this.#rooms = rooms;
    this.#run = run;
    this.id = id;
    this.index = task.index;
    this.#askedMs = task.attempts === 0 ? run.createdMs : (task.notBeforeMs ?? rooms.clock.wallMs());
    this.execution = execution;
  }

  /** Waits for room from here on. */
  static waiting(
    rooms: AttemptRooms,
    run: Run,
    task: Task,
    id: InvocationId,
    held: (why: "capacity" | "over_quota") => void,
  ): Attempt {
    const { revision, overrides } = run;
    const { settings } = revision;
    const execution = rooms.fleet.execute({
      revision,
      memoryMb: memoryMbOf(run),
      command: [...settings.command, ...(overrides.args ?? settings.args)],
      env: { ...overrides.env, ...environmentOf(run, task) },
      run: run.id,
      execution: id,
      held,
    });
    return new Attempt(rooms, run, task, id, execution);
  }

  /** An earlier ebb has begun it. Rejects where it cannot be taken over. */
  static async adopted(
    rooms: AttemptRooms,
    run: Run,
    task: Task,
  ): Promise<{ readonly attempt: Attempt; readonly attempted: () => Promise<Attempted> }> {
    const { instance, execution: id } = task;
    if (instance === null || id === null) throw new EbbError("internal", "a task that never began cannot be adopted");
    const of = { revision: run.revision, memoryMb: memoryMbOf(run), run: run.id, execution: id, instance };
    const adopted = await rooms.fleet.adopt(of);
    const attempt = new Attempt(rooms, run, task, id, adopted.execution);
    attempt.#admitted = true;
    return { attempt, attempted: () => attempt.#goOn(adopted) };
  }

  async #goOn({ begunMs, alive }: Adopted): Promise<Attempted> {
    const { clock, meter } = this.#rooms;
    let ended: Exit | null = null;
    void this.execution.over.then((exit) => void (ended = exit));
    const usage = (): SandboxUsage => ended?.usage ?? this.execution.usage();
    const marks = meter.resumed({ id: this.execution.instance, usage });
    // The wall clock went on while nobody was there.
    const passedMs = alive ? Math.max(0, clock.wallMs() - begunMs) : 0;
    return this.#follow(marks?.instance ?? null, marks?.invocation ?? null, null, passedMs);
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
    let before: SandboxUsage = { cpuNs: null, memoryPeakBytes: null };
    const failure = await this.execution.start((output) => {
      // Its program has not begun: what it uses until its begin is marked is its own.
      before = this.execution.usage();
      result = output.kind === "fifo" ? results.read(output.result, revision, id, this.index) : null;
    });
    if (failure !== null) {
      await closed(result);
      if (this.#asked === null) return { kind: "failed_to_start", failure };
      return this.#ended({ reason: "stopped", code: null, message: "It was stopped as it began." }, null);
    }
    let begun = false;
    let ended: Exit | null = null;
    void this.execution.over.then((exit) => void (ended = exit));
    const instance = meter.instance({
      id: this.execution.instance,
      revision: withMemory(revision, memoryMbOf(this.#run)),
      usage: () => (begun ? (ended?.usage ?? this.execution.usage()) : before),
    });
    const begin: BeginMark = {
      id: this.id,
      trigger: "manual",
      timeMs: clock.wallMs(),
      queuedUs: Math.max(0, queuedMs) * 1_000,
      startUs: clock.monotonicUs() - startUs,
      cold: true,
    };
    // What is to live on when ebb dies must be known to whoever bills it.
    const marked = instance.begin(begin, {
      marked: (problem) => {
        if (problem === null) void this.execution.keep();
      },
    });
    begun = true;
    if (!(marked instanceof EbbError)) return this.#follow(instance, marked, result, null);
    // What cannot be metered does not run.
    await this.execution.stop(0);
    await closed(result);
    instance.close();
    return this.broken(marked.message);
  }

  /** To its end, which is marked. `passedMs`: what an adopted one has had of its time; null: it began here. */
  async #follow(
    instance: InstanceMeter | null,
    marked: InvocationMeter | null,
    result: ResultReader | null,
    passedMs: number | null,
  ): Promise<Attempted> {
    const timeout = this.#timeout(passedMs ?? 0);
    const exit = await this.execution.over;
    timeout();
    if (exit.kept?.expired) this.#asked ??= "timeout";
    const left = await this.#resultOf(exit, result);
    const attempted = this.#ended(exit, left.bytes, left.tooLarge);
    // Begun here it is billed from mark to mark: it may have ended before its begin was marked. One of another boot has ended when
    // nobody knows: it is billed to its last mark.
    const atUs = exit.kept && passedMs !== null ? { atUs: exit.kept.endedUs ?? 0 } : {};
    if (marked) this.#mark(marked, attempted.ending, left.bytes ?? 0, atUs);
    instance?.close();
    await this.execution.settled().catch(() => undefined);
    return attempted;
  }

  #resultOf(exit: Exit, result: ResultReader | null): ReturnType<ResultReader["end"]> {
    if (!exit.kept) return closed(result);
    return this.#rooms.results.take(exit.kept, this.#run.revision, this.#run.id, this.index);
  }

  /** The platform failed it once it may have begun: tried again after a pause, where it may be begun twice. */
  broken(message: string): Attempted {
    if (this.#run.revision.settings.rerunOnInterrupt)
      return { kind: "failed_to_start", failure: { fault: "platform", message, stack: null, hint: null } };
    return this.#ended({ reason: "lost", code: null, message }, null);
  }

  #timeout(passedMs: number): Cancel {
    const { timeoutSeconds } = this.#run.revision.settings;
    const leftMs = Math.max(0, timeoutSeconds * 1_000 - passedMs);
    return this.#rooms.clock.after(leftMs, () => void this.end("timeout"));
  }

  #ended(exit: Exit, resultBytes: number | null, tooLarge = false): Extract<Attempted, { kind: "ended" }> {
    const words = `Its result was larger than ${jobLimits.resultBytes / 1024 / 1024} MiB and was not kept.`;
    const told = tooLarge ? { ...exit, message: `${exit.message} ${words}` } : exit;
    return { kind: "ended", ending: { asked: this.#asked, exit: told, resultBytes } };
  }

  #mark(marked: InvocationMeter, ending: Ending, bytesOut: number, atUs: Pick<EndMark, "atUs">): void {
    marked.end({ ...atUs, outcome: outcomeOf(ending), status: null, bytesIn: 0, bytesOut });
  }
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
