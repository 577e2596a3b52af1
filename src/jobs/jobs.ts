// The room: runs the tasks of accepted runs as there is room for them, project by project in their order, and remembers each step.

import type { Readable } from "node:stream";
import type { Fleet } from "#fleet/door.ts";
import type { Meter } from "#metering/door.ts";
import type { Cancel, Clock } from "#model/clock.ts";
import { EbbError } from "#model/errors.ts";
import type { Tell } from "#model/fact.ts";
import { newErrorId, newInvocationId, type InstanceId } from "#model/ids.ts";
import { jobLimits } from "#model/limits.ts";
import { hasEnded, type Run, type RunId, type Task } from "#model/run.ts";
import type { JobRevision, ProjectQuotas, WorkloadKey } from "#model/workload.ts";
import type { Store } from "#store/door.ts";
import { Attempt, type Attempted } from "./attempt.ts";
import { decideAdoptions } from "./adoption.ts";
import { accept, advance, due, interrupt, isLive, stop, type TaskEvent } from "./decide.ts";
import type { Jobs, RunRequest } from "./door.ts";
import { Results } from "./results.ts";
import { Saver } from "./saver.ts";

export interface JobsOptions {
  readonly store: Pick<Store, "openRuns" | "runs" | "updateRuns">;
  readonly fleet: Pick<Fleet, "execute" | "state" | "left" | "adopt" | "forget">;
  readonly meter: Pick<Meter, "instance" | "resumed">;
  readonly quotas: (project: string) => ProjectQuotas | null;
  readonly isThere: (job: WorkloadKey) => boolean;
  /** Of results. */
  readonly directory: string;
  readonly clock: Clock;
  readonly tell: Tell;
  /** In [0, 1); for the jitter of back-offs. */
  readonly chance?: () => number;
}

/** A run that has not ended. */
interface Open {
  run: Run;
  /** When it was accepted. */
  readonly bytes: number;
  readonly attempts: Map<number, Attempt>;
  readonly ended: PromiseWithResolvers<void>;
}

/** Its runs in the order in which they were accepted; one task of them at a time waits for room. */
interface Queue {
  readonly runs: Map<RunId, Open>;
  bytes: number;
  waiting: Attempt | null;
  timer: Cancel | null;
}

/** The store, while it is away. */
const askAgainMs = 1_000;
const stopSlackMs = 1_000;

export function createJobs(options: JobsOptions): Jobs {
  return new JobsRoom(options);
}

class JobsRoom implements Jobs {
  readonly #options: JobsOptions;
  readonly #results: Results;
  readonly #saver: Saver;
  readonly #open = new Map<RunId, Open>();
  readonly #queues = new Map<string, Queue>();
  readonly #working = new Set<Promise<void>>();
  readonly #doubts = new Set<Cancel>();
  #stopping = false;

  constructor(options: JobsOptions) {
    this.#options = options;
    const failed = (error: unknown): void => this.#defect("jobs: keeping a result", error);
    this.#results = new Results({ folder: options.directory, failed });
    this.#saver = new Saver({ ...options, failed: (error) => this.#defect("jobs: saving runs", error) });
  }

  async start(): Promise<void> {
    const { store, clock } = this.#options;
    await this.#results.sweep(this.#options.isThere);
    const alike = new Map<string, JobRevision>();
    // It was accepted by this ebb, which listens already, and may run by now.
    const runs = (await store.openRuns()).flatMap((run) => (this.#open.has(run.id) ? [] : [sharing(run, alike)]));
    const { adopt, forget } = decideAdoptions(runs, this.#options.fleet.left());
    for (const { instance } of forget) this.#work(this.#forget(instance));
    for (const left of runs) {
      const adopted = adopt.flatMap(({ run, index }) => (run === left ? [index] : []));
      const run = interrupt(left, this.#chance(), clock.wallMs(), adopted);
      const open = this.#add(run);
      if (left.tasks.some((task) => isLive(task) && !adopted.includes(task.index))) void this.#set(open, run);
    }
    // Their memory is theirs before anybody else's is looked for.
    await Promise.all(adopt.map(({ run, index }) => this.#adopt(this.#open.get(run.id)!, index)));
    for (const project of this.#queues.keys()) this.#pump(project);
  }

  /** Resolves when it has been taken over; its end comes when it comes. */
  async #adopt(open: Open, index: number): Promise<void> {
    const task = open.run.tasks[index]!;
    try {
      const rooms = { ...this.#options, results: this.#results };
      const { attempt, attempted } = await Attempt.adopted(rooms, open.run, task);
      open.attempts.set(index, attempt);
      if (task.state === "stopping") void attempt.end("stopped");
      const over = attempted().catch(async (error: unknown) => {
        this.#defect("jobs: an adopted attempt", error);
        await attempt.execution.stop(0);
        return attempt.broken("it failed inside ebb");
      });
      this.#work(over.then((how) => this.#attempted(open, attempt, how)));
    } catch (error) {
      this.#defect("jobs: adopting a run", error);
      const exit = {
        reason: "lost",
        code: null,
        message: "ebb ended while it ran, and could not take it up again.",
      } as const;
      const ending = { asked: null, exit, resultBytes: null };
      void this.#advance(open, index, { kind: "ended", ending, chance: this.#chance() });
      if (task.instance !== null) this.#work(this.#forget(task.instance));
    }
  }

  /** Nobody's any more: what has been metered of it ends with its last mark. */
  async #forget(instance: InstanceId): Promise<void> {
    const marks = this.#options.meter.resumed({ id: instance, usage: () => ({ cpuNs: null, memoryPeakBytes: null }) });
    marks?.invocation.end({ atUs: 0, outcome: "interrupted", status: null, bytesIn: 0, bytesOut: 0 });
    marks?.instance.close();
    await this.#options.fleet.forget(instance);
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    for (const queue of this.#queues.values()) queue.timer?.();
    for (const cancel of this.#doubts) cancel();
    for (const { attempts } of this.#open.values())
      for (const attempt of attempts.values()) void attempt.end("interrupted");
    const late = Promise.withResolvers<void>();
    // A store that does not answer holds nobody up: what it was not told of was interrupted as well.
    const cancel = this.#options.clock.after(jobLimits.stopGraceMs + stopSlackMs, late.resolve);
    await Promise.race([Promise.all(this.#working).then(() => this.#saver.close()), late.promise]);
    cancel();
  }

  make({ revision, overrides, createdBy }: RunRequest): Run {
    const { clock, fleet, quotas } = this.#options;
    const { project, workload, settings } = revision;
    if (this.#stopping) throw new EbbError("stopping", "ebb is stopping");
    if ((this.#queues.get(project)?.runs.size ?? 0) >= jobLimits.openRunsPerProject)
      throw new EbbError(
        "over_quota",
        `project "${project}" has ${jobLimits.openRunsPerProject} runs that have not ended`,
      );
    const memoryMb = overrides.memoryMb ?? settings.memoryMb;
    const quotaMb = quotas(project)?.memoryMb ?? null;
    if (quotaMb !== null && memoryMb > quotaMb)
      throw new EbbError("over_quota", `${memoryMb} MiB is more than the ${quotaMb} MiB of project "${project}"`);
    const limitMb = Math.floor(fleet.state().memoryLimitBytes / 1024 / 1024);
    if (memoryMb > limitMb)
      throw new EbbError(
        "capacity",
        `a run of ${workload} needs ${memoryMb} MiB; all sandboxes together get ${limitMb} MiB`,
      );
    const nowMs = clock.wallMs();
    const run = accept({ id: newInvocationId(nowMs), revision, overrides, createdBy }, nowMs);
    if ((this.#queues.get(project)?.bytes ?? 0) + bytesOf(run) > jobLimits.openRunsBytesPerProject)
      throw new EbbError(
        "over_quota",
        `the runs of project "${project}" that have not ended take ${jobLimits.openRunsBytesPerProject / 1024 / 1024} MiB with their environments and tasks`,
      );
    return run;
  }

  accepted(run: Run): void {
    // Its job may have been removed between its commit and the word of that: it is in no store then, and nobody's to stop.
    if (this.#open.has(run.id) || !this.#options.isThere(run.revision)) return;
    this.#add(run);
    this.#pump(run.revision.project);
  }

  doubtful(run: Run): void {
    const cancel = this.#options.clock.after(askAgainMs, () => {
      this.#doubts.delete(cancel);
      this.#work(this.#find(run));
    });
    this.#doubts.add(cancel);
  }

  async #find(run: Run): Promise<void> {
    const { id, revision } = run;
    try {
      const [found] = await this.#options.store.runs({ project: revision.project, id, limit: 1 });
      // What stops finds it with the next ebb.
      if (found && !this.#stopping) this.accepted(run);
    } catch {
      if (!this.#stopping) this.doubtful(run);
    }
  }

  latest(run: Run): Run {
    return this.#open.get(run.id)?.run ?? run;
  }

  async stopRun(id: RunId): Promise<void> {
    const open = this.#open.get(id);
    if (open) await this.#end(open, "stopped");
  }

  removed(job: WorkloadKey): void {
    const nowMs = this.#options.clock.wallMs();
    const its = [...(this.#queues.get(job.project)?.runs.values() ?? [])].filter(
      ({ run }) => run.revision.workload === job.workload,
    );
    const gone = Promise.all(its.map((open) => this.#end(open, "removed").then(() => open.ended.promise)));
    this.#work(gone.then(() => this.#results.remove(job, nowMs)));
  }

  async ended(id: RunId, withinMs: number): Promise<void> {
    const open = this.#open.get(id);
    if (!open) return;
    const late = Promise.withResolvers<void>();
    const cancel = this.#options.clock.after(withinMs, late.resolve);
    await Promise.race([open.ended.promise, late.promise]);
    cancel();
  }

  running(job: WorkloadKey): number {
    let count = 0;
    for (const { run } of this.#queues.get(job.project)?.runs.values() ?? [])
      if (run.revision.workload === job.workload && (run.state === "running" || run.state === "stopping"))
        count += run.tasks.filter(isLive).length;
    return count;
  }

  result({ id, revision }: Run, index: number): Promise<{ bytes: number; content: Readable } | null> {
    return this.#results.open(revision, id, index);
  }

  #add(run: Run): Open {
    const open: Open = { run, bytes: bytesOf(run), attempts: new Map(), ended: Promise.withResolvers() };
    const { project } = run.revision;
    const queue = this.#queues.get(project) ?? { runs: new Map(), bytes: 0, waiting: null, timer: null };
    this.#queues.set(project, queue);
    queue.bytes += open.bytes;
    queue.runs.set(run.id, open);
    this.#open.set(run.id, open);
    return open;
  }

  /** Resolves when it has been committed. One that has ended is done with. */
  #set(open: Open, run: Run): Promise<void> {
    open.run = run;
    const saved = this.#saver.save(run);
    if (hasEnded(run.state)) {
      const { project } = run.revision;
      const queue = this.#queues.get(project);
      // Until then it is not what the store says.
      const over = (): void => {
        this.#open.delete(run.id);
        open.ended.resolve();
      };
      void saved.then(over);
      if (queue?.runs.delete(run.id) === true) queue.bytes -= open.bytes;
      if (queue?.runs.size === 0 && queue.waiting === null) {
        queue.timer?.();
        this.#queues.delete(project);
      }
    }
    return saved;
  }

  #advance(open: Open, index: number, event: TaskEvent): Promise<void> {
    return this.#set(open, advance(open.run, index, event, this.#options.clock.wallMs()));
  }

  async #end(open: Open, why: "stopped" | "removed"): Promise<void> {
    const saved = this.#set(open, stop(open.run, why, this.#options.clock.wallMs()));
    for (const attempt of open.attempts.values()) void attempt.end("stopped");
    await saved;
  }

  /** The next task of a project waits for room, unless one does so already. */
  #pump(project: string): void {
    const queue = this.#queues.get(project);
    if (!queue || queue.waiting !== null || this.#stopping) return;
    if (queue.runs.size === 0) return void this.#queues.delete(project);
    queue.timer?.();
    queue.timer = null;
    const nowMs = this.#options.clock.wallMs();
    let atMs = Infinity;
    for (const open of queue.runs.values()) {
      const next = due(open.run, nowMs);
      if (next === null) continue;
      if (!("atMs" in next)) return this.#work(this.#attempt(queue, open, next));
      atMs = Math.min(atMs, next.atMs);
    }
    if (atMs === Infinity) return;
    queue.timer = this.#options.clock.after(atMs - nowMs, () => {
      queue.timer = null;
      this.#pump(project);
    });
  }

  async #attempt(queue: Queue, open: Open, task: Task): Promise<void> {
    const { project } = open.run.revision;
    const { index } = task;
    const held = (why: "capacity" | "over_quota"): void => {
      if (open.run.tasks[index]?.reason === why) return;
      // Nothing to remember: after a restart it is found out again.
      open.run = advance(open.run, index, { kind: "held", why }, this.#options.clock.wallMs());
    };
    const id = newInvocationId(this.#options.clock.wallMs());
    const attempt = Attempt.waiting({ ...this.#options, results: this.#results }, open.run, task, id, held);
    queue.waiting = attempt;
    open.attempts.set(index, attempt);
    const admitted = (): void => {
      queue.waiting = null;
      this.#pump(project);
    };
    const begins = (): Promise<void> => {
      const { instance } = attempt.execution;
      const committed = this.#advance(open, index, { kind: "began", execution: id, instance });
      admitted();
      return committed;
    };
    const attempted = await attempt.run(begins).catch(async (error: unknown) => {
      // Whatever it was: nothing of it is left, and its task goes on.
      this.#defect("jobs: an attempt", error);
      if (queue.waiting === attempt) queue.waiting = null;
      await attempt.execution.stop(0);
      return attempt.broken("it failed inside ebb");
    });
    if (attempted.kind === "called_off") admitted();
    await this.#attempted(open, attempt, attempted);
  }

  async #attempted(open: Open, attempt: Attempt, attempted: Attempted): Promise<void> {
    open.attempts.delete(attempt.index);
    if (attempted.kind !== "called_off") await this.#over(open, attempt, attempted);
    this.#pump(open.run.revision.project);
  }

  async #over(open: Open, attempt: Attempt, attempted: Exclude<Attempted, { kind: "called_off" }>): Promise<void> {
    const chance = this.#chance();
    const event: TaskEvent =
      attempted.kind === "ended"
        ? { kind: "ended", ending: attempted.ending, chance }
        : { kind: "failed_to_start", ...attempted.failure, chance };
    const saved = this.#advance(open, attempt.index, event);
    this.#tellOf(open.run, attempt);
    const forgotten = saved.then(() => attempt.execution.forget());
    forgotten.catch((error: unknown) => this.#defect("jobs: what was kept of a run", error));
    // While ebb stops, nobody waits for a store that does not answer.
    if (!this.#stopping) await saved;
  }

  #tellOf({ id: run, revision, tasks }: Run, { id: execution, index, execution: { instance } }: Attempt): void {
    const { state, message } = tasks[index]!;
    const { project, workload } = revision;
    const again = state === "retrying" ? " It will be tried again." : state === "queued" ? " It is queued again." : "";
    this.#options.tell({
      kind: "execution_ended",
      project,
      workload,
      run,
      execution,
      instance,
      message: message === null ? null : message + again,
      failed: state !== "succeeded",
    });
  }

  #work(work: Promise<void>): void {
    const done = work
      .catch((error: unknown) => this.#defect("jobs", error))
      .finally(() => void this.#working.delete(done));
    this.#working.add(done);
  }

  #chance(): number {
    return (this.#options.chance ?? Math.random)();
  }

  #defect(where: string, error: unknown): void {
    this.#options.tell({ kind: "defect", errorId: newErrorId(), where, error });
  }
}

function bytesOf(run: Run): number {
  return JSON.stringify(run).length;
}

/** Runs of one revision, which is most of one, have it once in memory. */
function sharing(run: Run, alike: Map<string, JobRevision>): Run {
  const { project, workload, number, digest } = run.revision;
  const key = `${project}/${workload}@${number} ${digest}`;
  const revision = alike.get(key) ?? run.revision;
  alike.set(key, revision);
  return { ...run, revision };
}
