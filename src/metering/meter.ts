// Metering's side on the main thread: admits, and marks what runs.

import { readFileSync } from "node:fs";
import { Members } from "#lib/members.ts";
import type { Cancel, Clock } from "#model/clock.ts";
import { EbbError } from "#model/errors.ts";
import type { Tell } from "#model/fact.ts";
import { newErrorId, type InstanceId } from "#model/ids.ts";
import { journalLimits, lifecycle } from "#model/limits.ts";
import type { Revision } from "#model/workload.ts";
import type { SandboxUsage } from "#sandbox/door.ts";
import type { Mirror } from "#store/door.ts";
import { decideRate, type Bucket } from "./decide.ts";
import type {
  AnsweredMark,
  BeginMark,
  EndMark,
  InstanceMeter,
  InvocationMeter,
  JournalLink,
  Marked,
  Meter,
} from "./door.ts";
import { answeredReserveBytes, closeReserveBytes, endReserveBytes, type Frame } from "./frame.ts";
import { Journal } from "./journal.ts";
import { journalDirectory } from "./segment.ts";

export interface MeterOptions {
  /** The data directory; the journal is its folder `journal`. */
  readonly directory: string;
  readonly link: JournalLink;
  readonly mirror: Pick<Mirror, "project">;
  readonly clock: Clock;
  readonly tell: Tell;
  /** Runs once after what is going on now: all marks of a turn are one write. */
  readonly defer?: (run: () => void) => void;
  readonly segmentBytes?: number;
  /** Instances of an earlier daemon in which one invocation runs on. */
  readonly resumes?: () => readonly InstanceId[];
}

type InstanceOptions = { id: string; revision: Revision | null; usage: () => SandboxUsage };

/** Instances that were resumed have numbers above those that are given, other ones with each start. */
const resumedFrom = 2 ** 31;
const resumedPerStart = 4_096;

export function createMeter(options: MeterOptions): Meter {
  const { clock, mirror, tell } = options;
  const journal = new Journal({
    directory: journalDirectory(options.directory),
    link: options.link,
    clock,
    defer: options.defer ?? ((run) => void setImmediate(run)),
    late: (problem) =>
      tell({ kind: "defect", errorId: newErrorId(), where: "metering: a mark is late", error: problem }),
    ...(options.segmentBytes === undefined ? {} : { segmentBytes: options.segmentBytes }),
  });
  const buckets = new Map<string, Bucket>();
  const marks = new Marks(journal, clock, tell);
  const resumed = new Map<string, { readonly instance: number; readonly invocation: number }>();

  return {
    async start() {
      journal.start();
      // Those that find no room are closed off: billed to their last mark.
      for (const [n, id] of (options.resumes?.() ?? []).entries()) {
        const instance = resumedFrom + ((journal.segment * resumedPerStart + n) % resumedFrom);
        const numbers = { instance, invocation: marks.nextInvocation() };
        const room = endReserveBytes + closeReserveBytes;
        if (!journal.add({ kind: "resume", atUs: clock.monotonicUs(), ...numbers, id }, room, null))
          resumed.set(id, numbers);
      }
      const open = {
        kind: "open",
        bootId: bootId(),
        wallMs: clock.wallMs(),
        atUs: clock.monotonicUs(),
        epoch: journal.segment,
      } as const;
      let unwritten: EbbError | null = null;
      const noRoom = journal.add(open, 0, { marked: (problem) => void (unwritten = problem) });
      journal.flush();
      const problem = noRoom ?? unwritten;
      if (problem) throw problem;
    },
    async stop() {
      marks.stop();
      journal.stop();
    },
    admit(project, nowUs) {
      const rate = mirror.project(project)?.quotas.ratePerSecond ?? null;
      if (rate === null) {
        if (buckets.size > 0) buckets.delete(project);
        return null;
      }
      const decision = decideRate(buckets.get(project) ?? null, rate, nowUs);
      buckets.set(project, decision.bucket);
      if (decision.admitted) return null;
      return new EbbError("rate_limited", `project ${project}: ${decision.reason}`, {
        retryAfterSeconds: Math.max(1, Math.ceil(decision.retryAfterUs / 1_000_000)),
      });
    },
    instance: (of) => new InstanceMarks(marks, of, null),
    resumed({ id, usage }) {
      const numbers = resumed.get(id);
      if (!numbers) return null;
      resumed.delete(id);
      const instance = new InstanceMarks(marks, { id, revision: null, usage }, numbers.instance);
      return { instance, invocation: instance.goesOn(numbers.invocation) };
    },
    refused({ project, workload, revision, mark, end }, marked) {
      const { id, trigger, timeMs, queuedUs, startUs, cold } = mark;
      const { outcome, status, bytesIn, bytesOut } = end;
      const begun = { id, trigger, timeMs, queuedUs, startUs, cold };
      const frame = { kind: "refused", atUs: clock.monotonicUs(), project, workload, revision, ...begun } as const;
      marks.optional({ ...frame, outcome, status, bytesIn, bytesOut }, marked);
    },
    flush: () => journal.flush(),
  };
}

/** What all instances share: the journal, and the timers, which run only while there is something to mark. */
class Marks {
  readonly journal: Journal;
  readonly clock: Clock;
  readonly tell: Tell;
  readonly active = new Set<InstanceMarks>();
  /** Kept by `min`. */
  readonly provisioned = new Set<InstanceMarks>();
  #instances = 0;
  #invocations = 0;
  #alive: Cancel | null = null;
  #tick: Cancel | null = null;
  /** Marks left out since the disk is full, told once until one is written again. */
  #leftOut = 0;

  constructor(journal: Journal, clock: Clock, tell: Tell) {
    this.journal = journal;
    this.clock = clock;
    this.tell = tell;
  }

  nextInstance(): number {
    return ++this.#instances;
  }

  /** Of 32 bits: it comes round long after its namesake has ended. */
  nextInvocation(): number {
    return (this.#invocations = (this.#invocations + 1) >>> 0);
  }

  /** A mark without which the bill is still right: where there is no room, it is left out. */
  optional(frame: Frame, marked?: Marked): void {
    const noted: Marked = {
      marked: (problem) => {
        this.#note(problem);
        marked?.marked(problem);
      },
    };
    const problem = this.journal.add(frame, 0, noted);
    if (problem) noted.marked(problem);
  }

  #note(problem: EbbError | null): void {
    if (!problem) this.#leftOut = 0;
    else if (this.#leftOut++ === 0) this.defect("metering: a mark was left out", problem);
  }

  defect(where: string, error: unknown): void {
    this.tell({ kind: "defect", errorId: newErrorId(), where, error });
  }

  /** Never cancelled when the last one ends: it finds nothing to do and is not set again. */
  becameActive(instance: InstanceMarks): void {
    this.active.add(instance);
    this.#alive ??= this.clock.after(lifecycle.markEveryMs, () => this.#markAlive());
  }

  #markAlive(): void {
    this.#alive = null;
    if (this.active.size === 0) return;
    for (const instance of this.active) this.optional(instance.alive());
    this.#alive = this.clock.after(lifecycle.markEveryMs, () => this.#markAlive());
  }

  becameProvisioned(instance: InstanceMarks): void {
    this.provisioned.add(instance);
    this.#tick ??= this.clock.after(journalLimits.tickEveryMs, () => this.#markTick());
  }

  #markTick(): void {
    this.#tick = null;
    if (this.provisioned.size === 0) return;
    for (const instance of this.provisioned) instance.countIdle();
    this.optional({ kind: "tick", atUs: this.clock.monotonicUs(), wallMs: this.clock.wallMs() });
    this.#tick = this.clock.after(journalLimits.tickEveryMs, () => this.#markTick());
  }

  stop(): void {
    this.#alive?.();
    this.#tick?.();
    if (this.provisioned.size > 0) this.#markTick();
    this.#tick?.();
  }
}

/** An invocation from its begin to its end, and the room that is kept for its marks. */
class InvocationMarks implements InvocationMeter, Marked {
  readonly invocation: number;
  /** What `answered` used is no longer in it. */
  reservedBytes = answeredReserveBytes + endReserveBytes;
  before: InvocationMarks | null = null;
  after: InvocationMarks | null = null;
  readonly #of: InstanceMarks;
  readonly #begun: Marked | undefined;
  #answered = false;
  #over = false;

  constructor(invocation: number, of: InstanceMarks, begun: Marked | undefined, resumed = false) {
    // No room is kept for the answer of what was resumed: a run gives none.
    if (resumed) this.reservedBytes = endReserveBytes;
    this.#answered = resumed;
    this.invocation = invocation;
    this.#of = of;
    this.#begun = begun;
  }

  /** Its begin is written, or is not. */
  marked(problem: EbbError | null): void {
    if (problem) this.#of.notBegun(this);
    this.#begun?.marked(problem);
  }

  answered(mark: AnsweredMark, marked?: Marked): void {
    if (this.#answered || this.#over) return;
    this.#answered = true;
    this.reservedBytes -= answeredReserveBytes;
    this.#of.answered(this, mark, marked);
  }

  end(mark: EndMark, marked?: Marked): void {
    if (this.#over) return this.#of.endedTwice(this);
    this.#over = true;
    this.#of.ended(this, mark, marked);
  }
}

class InstanceMarks implements InstanceMeter {
  readonly #marks: Marks;
  readonly #options: InstanceOptions;
  readonly #instance: number;
  readonly #begun = new Members<InvocationMarks>();
  /** When it last became idle, and its counter then. */
  #ended: { readonly atUs: number; readonly cpuNs: number | null } | null = null;
  /** Its mark is in the journal, or will be with this turn's, and room for its close is kept. */
  #declared = false;
  #closed = false;

  /** `resumed`: its number, where it was declared before. */
  constructor(marks: Marks, options: InstanceOptions, resumed: number | null) {
    this.#marks = marks;
    this.#options = options;
    this.#instance = resumed ?? marks.nextInstance();
    this.#declared = resumed !== null;
    if (options.revision === null) return;
    // An instance that nobody calls matters only where it is kept on purpose; others are declared by their first call.
    if (minOf(options.revision) === 0) return;
    marks.becameProvisioned(this);
    this.#declare();
  }

  goesOn(number: number): InvocationMeter {
    const invocation = new InvocationMarks(number, this, undefined, true);
    this.#begun.add(invocation);
    this.#marks.becameActive(this);
    return invocation;
  }

  begin(mark: BeginMark, marked?: Marked): InvocationMeter | EbbError {
    const { id, trigger, timeMs, queuedUs, startUs, cold } = mark;
    if (this.#closed) return new EbbError("internal", `invocation ${id} cannot begin: the instance is closed`);
    const undeclared = this.#declared ? null : this.#declare();
    if (undeclared) return undeclared;
    const first = this.#begun.size === 0;
    const atUs = this.#marks.clock.monotonicUs();
    const cpuNs = first ? this.#cpuNsAtBegin(atUs) : null;
    const instance = this.#instance;
    const invocation = this.#marks.nextInvocation();
    const begun = new InvocationMarks(invocation, this, marked);
    this.#begun.add(begun);
    if (first) this.#marks.becameActive(this);
    const problem = this.#marks.journal.add(
      { kind: "begin", instance, invocation, atUs, id, trigger, timeMs, queuedUs, startUs, cold, cpuNs },
      begun.reservedBytes,
      begun,
    );
    if (problem) {
      this.notBegun(begun);
      return problem;
    }
    return begun;
  }

  released(): void {
    this.countIdle();
  }

  /** What it has burnt while nothing is active in it. */
  countIdle(): void {
    if (this.#declared && this.#begun.size === 0) this.#marks.optional(this.alive());
  }

  close(): void {
    if (this.#closed) return;
    // What began in this turn has begun, or has not.
    this.#marks.journal.flush();
    this.#closed = true;
    this.#marks.active.delete(this);
    this.#marks.provisioned.delete(this);
    for (const left of this.#begun) left.end({ outcome: "interrupted", status: null, bytesIn: 0, bytesOut: 0 });
    if (!this.#declared) return;
    const frame = { kind: "close", instance: this.#instance, atUs: this.#marks.clock.monotonicUs() } as const;
    this.#marks.journal.addReserved(frame, closeReserveBytes, null);
  }

  notBegun(invocation: InvocationMarks): void {
    this.#begun.delete(invocation);
    if (this.#begun.size === 0) this.#marks.active.delete(this);
  }

  answered({ invocation }: InvocationMarks, { status, bytesIn, bytesOut }: AnsweredMark, marked?: Marked): void {
    const atUs = this.#marks.clock.monotonicUs();
    const instance = this.#instance;
    const frame = { kind: "answered", instance, invocation, atUs, status, bytesIn, bytesOut } as const;
    this.#marks.journal.addReserved(frame, answeredReserveBytes, marked ?? null);
  }

  ended(ended: InvocationMarks, mark: EndMark, marked?: Marked): void {
    const { outcome, status, bytesIn, bytesOut } = mark;
    this.#begun.delete(ended);
    const last = this.#begun.size === 0;
    // The last one closes the span: its counter is the span's, also where records cannot tell whose it was.
    const cpuNs = last ? this.#cpuNs() : null;
    const atUs = mark.atUs ?? this.#marks.clock.monotonicUs();
    const { invocation, reservedBytes } = ended;
    const instance = this.#instance;
    const frame = { kind: "end", instance, invocation, atUs, outcome, status, bytesIn, bytesOut, cpuNs } as const;
    if (last) {
      this.#marks.active.delete(this);
      this.#ended = { atUs, cpuNs };
    }
    this.#marks.journal.addReserved(frame, reservedBytes, marked ?? null);
  }

  endedTwice({ invocation }: InvocationMarks): void {
    this.#marks.defect("metering: an invocation ended twice", new Error(`invocation ${invocation} of this start`));
  }

  alive(): { kind: "alive"; instance: number; atUs: number; cpuNs: number | null } {
    // What is counted here must not be counted again with the next begin.
    this.#ended = null;
    return { kind: "alive", instance: this.#instance, atUs: this.#marks.clock.monotonicUs(), cpuNs: this.#cpuNs() };
  }

  #declare(): EbbError | null {
    const { id, revision } = this.#options;
    if (revision === null) return new EbbError("internal", `instance ${id} was declared by another ebb`);
    const { project, workload, settings } = revision;
    const { memoryMb } = settings;
    const min = minOf(revision);
    const atUs = this.#marks.clock.monotonicUs();
    const of = { id, project, workload, revision: revision.number, memoryMb, min };
    this.#declared = true;
    const problem = this.#marks.journal.add(
      { kind: "instance", instance: this.#instance, atUs, ...of },
      closeReserveBytes,
      { marked: (unwritten) => void (this.#declared = unwritten === null) },
    );
    if (problem) this.#declared = false;
    return problem;
  }

  /**
   * One that follows within a millisecond begins with the counter of the one before: to read it again takes longer than most of
   * what an instance does in between, and what it does is not lost, but the follower's.
   */
  #cpuNsAtBegin(atUs: number): number | null {
    const ended = this.#ended;
    return ended !== null && atUs - ended.atUs < journalLimits.spanQuantumUs ? ended.cpuNs : this.#cpuNs();
  }

  #cpuNs(): number | null {
    try {
      return this.#options.usage().cpuNs;
    } catch (error) {
      this.#marks.defect("metering: the instance's counter cannot be read", error);
      return null;
    }
  }
}

/** A run of a job is there for as long as it runs. */
function minOf(revision: Revision): number {
  return revision.kind === "job" ? 0 : revision.settings.min;
}

function bootId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
  } catch {
    return "";
  }
}
