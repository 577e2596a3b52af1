// The law of billing, as a fold: marks go in, records and totals come out. No I/O and no clock.
//
// An instance is billed while at least one invocation is active in it. Such a time is a span, rounded up to 1 ms.
// Within a span each stretch between two marks is divided among those active in it. All of it is integer
// microseconds: what a stretch leaves over is carried into the next one, and the last to end takes what is
// left and the rounding. So the sum of the records is the sum of the spans, exactly, and nobody is off by
// more than a microsecond for each neighbour that came and went: what is left over never piles up for the last.

import type { InvocationRecord, Outcome } from "#model/invocation.ts";
import { journalLimits } from "#model/limits.ts";
import type { UsageTotal } from "#model/usage.ts";
import type { AnsweredFrame, BeginFrame, EndFrame, Frame, InstanceFrame, RefusedFrame, ResumeFrame } from "./frame.ts";

const { spanQuantumUs } = journalLimits;
/** Of an idle time, as the runtime tidies up behind an invocation: no more than what the rounding of its span has paid for. */
const idleFreeNs = spanQuantumUs * 1_000;
const hourMs = 3_600_000;

interface ActiveInvocation {
  begin: BeginFrame;
  /** The instance's `share` when it began. */
  readonly shareAtBegin: number;
  answered: AnsweredFrame | null;
}

interface OpenInstance {
  of: InstanceFrame;
  /** The daemon that comes takes it over. */
  resumed?: boolean;
  /**
   * In the order of beginning, so that what ends is mostly near the front. No Map: where one comes and goes all the time, each of
   * its tables, outgrown but not yet collected, keeps the next and whatever was active then, and the collector copies all of it.
   */
  readonly active: ActiveInvocation[];
  spanStartUs: number;
  /** The span is divided up to here. */
  dividedUs: number;
  /** What one that was active all along would have by now. */
  share: number;
  /** Microseconds not divided yet: fewer than those active. */
  carryUs: number;
  /** Two were active at once in this span. */
  overlapped: boolean;
  lastMarkUs: number;
  lastCpuNs: number | null;
  /** CPU that is still free in this idle time. */
  idleFreeNs: number;
}

/** The instances of one revision that keeps `min`: their idle time is provisioned. */
interface Provision {
  idle: number;
  busy: number;
  countedUs: number;
}

type Total = { -readonly [K in keyof UsageTotal]: UsageTotal[K] };

interface SavedState {
  readonly version: 1;
  readonly clock: { readonly wallMs: number; readonly atUs: number };
  readonly lastMarkUs: number;
  readonly instances: readonly OpenInstance[];
  readonly provisions: readonly (readonly [string, Provision])[];
}

export class SpanFold {
  readonly #told: (record: InvocationRecord) => void;
  readonly #instances = new Map<number, OpenInstance>();
  readonly #provisions = new Map<string, Provision>();
  #clock = { wallMs: 0, atUs: 0 };
  #lastMarkUs = 0;
  #totals = new Map<string, Total>();
  #lastTotal: Total | null = null;
  /** Marks that belong to nothing known: their beginning was damaged. */
  strayMarks = 0;
  /** Sum of all closed spans so far, rounded: what the records must come to. */
  closedSpansUs = 0;

  /** `record` is called with each record as its invocation ends. */
  constructor(saved: string | null, record: (record: InvocationRecord) => void) {
    this.#told = record;
    if (saved === null) return;
    const state = JSON.parse(saved) as SavedState;
    this.#clock = { ...state.clock };
    this.#lastMarkUs = state.lastMarkUs;
    for (const [key, provision] of state.provisions) this.#provisions.set(key, { ...provision });
    for (const instance of state.instances)
      this.#instances.set(instance.of.instance, {
        ...instance,
        // A state from before idle CPU was counted does not have it.
        idleFreeNs: instance.idleFreeNs ?? 0,
      });
  }

  /** The state between two batches, as text; a fold made of it goes on as if nothing had been. */
  save(): string {
    const state: SavedState = {
      version: 1,
      clock: this.#clock,
      lastMarkUs: this.#lastMarkUs,
      instances: [...this.#instances.values()],
      provisions: [...this.#provisions],
    };
    return JSON.stringify(state);
  }

  /** What the totals have grown by since the last call. */
  takeTotals(): UsageTotal[] {
    const taken = [...this.#totals.values()];
    this.#totals = new Map();
    this.#lastTotal = null;
    return taken;
  }

  apply(frame: Frame): void {
    switch (frame.kind) {
      case "open":
        this.#closeOff();
        this.#clock = { wallMs: frame.wallMs, atUs: frame.atUs };
        this.#lastMarkUs = frame.atUs;
        return;
      case "tick":
        this.#sawMark(frame.atUs);
        this.#countAllProvisions(this.#lastMarkUs);
        this.#clock = { wallMs: frame.wallMs, atUs: frame.atUs };
        return;
      case "instance":
        this.#sawMark(frame.atUs);
        return this.#open(frame);
      case "refused":
        this.#sawMark(frame.atUs);
        return this.#refused(frame);
      case "resume":
        return this.#resume(frame);
      default:
        return this.#inInstance(frame);
    }
  }

  #inInstance(frame: Exclude<Frame, { kind: "open" | "tick" | "instance" | "refused" | "resume" }>): void {
    this.#sawMark(frame.atUs);
    const instance = this.#instances.get(frame.instance);
    if (!instance) {
      this.strayMarks++;
      return;
    }
    // Marks are in the order of one thread; a clock that stepped back must not make a span negative.
    const atUs = Math.max(frame.atUs, instance.lastMarkUs);
    instance.lastMarkUs = atUs;
    switch (frame.kind) {
      case "begin":
        return this.#begin(instance, frame, atUs);
      case "answered": {
        const active = instance.active[placeOf(instance, frame.invocation)];
        if (active) active.answered = frame;
        else this.strayMarks++;
        return;
      }
      case "end":
        return this.#end(instance, frame, atUs);
      case "alive":
        return this.#countCpu(instance, frame.cpuNs);
      case "close":
        this.#interruptAll(instance, atUs);
        this.#forget(instance, atUs);
    }
  }

  #sawMark(atUs: number): void {
    if (atUs > this.#lastMarkUs) this.#lastMarkUs = atUs;
  }

  /** A new daemon writes: of the one before nothing is alive but what it has resumed. Each is billed to its own last mark. */
  #closeOff(): void {
    for (const [number, instance] of this.#instances) {
      if (instance.resumed === true) {
        instance.resumed = false;
        continue;
      }
      this.#interruptAll(instance, instance.lastMarkUs);
      this.#instances.delete(number);
    }
    this.#countAllProvisions(this.#lastMarkUs);
    this.#provisions.clear();
  }

  #resume({ instance: number, invocation, id }: ResumeFrame): void {
    const known = [...this.#instances].find(([, { of }]) => of.id === id);
    if (!known) {
      this.strayMarks++;
      return;
    }
    const [before, instance] = known;
    this.#instances.delete(before);
    this.#instances.set(number, instance);
    instance.of = { ...instance.of, instance: number };
    instance.resumed = true;
    const [active] = instance.active;
    if (active) active.begin = { ...active.begin, invocation };
  }

  #open(frame: InstanceFrame): void {
    this.#instances.set(frame.instance, {
      of: frame,
      active: [],
      spanStartUs: 0,
      dividedUs: 0,
      share: 0,
      carryUs: 0,
      overlapped: false,
      lastMarkUs: frame.atUs,
      lastCpuNs: null,
      idleFreeNs: 0,
    });
    this.#provision(frame, frame.atUs, { idle: 1, busy: 0 });
  }

  #forget(instance: OpenInstance, atUs: number): void {
    this.#provision(instance.of, atUs, { idle: -1, busy: 0 });
    this.#instances.delete(instance.of.instance);
  }

  #begin(instance: OpenInstance, frame: BeginFrame, atUs: number): void {
    if (placeOf(instance, frame.invocation) >= 0) {
      this.strayMarks++;
      return;
    }
    if (instance.active.length === 0) {
      this.#countCpu(instance, frame.cpuNs);
      instance.spanStartUs = atUs;
      instance.dividedUs = atUs;
      instance.share = 0;
      instance.carryUs = 0;
      instance.overlapped = false;
      this.#provision(instance.of, atUs, { idle: -1, busy: 1 });
    } else {
      divide(instance, atUs);
      instance.overlapped = true;
    }
    instance.active.push({ begin: frame, shareAtBegin: instance.share, answered: null });
  }

  #end(instance: OpenInstance, frame: EndFrame, atUs: number): void {
    const place = placeOf(instance, frame.invocation);
    const active = instance.active[place];
    if (!active) {
      this.strayMarks++;
      return;
    }
    this.#countCpu(instance, frame.cpuNs);
    const cpuNs = cpuOf(instance, active, frame.cpuNs);
    // What went out to the caller stays true, whatever ended it.
    const answer = frame.outcome === "interrupted" && frame.status === null ? (active.answered ?? frame) : frame;
    const { status, bytesIn, bytesOut } = answer;
    this.#finish(instance, place, atUs, { outcome: frame.outcome, status, bytesIn, bytesOut, cpuNs });
  }

  #interruptAll(instance: OpenInstance, atUs: number): void {
    for (let active; (active = instance.active[0]);) {
      const { status = null, bytesIn = 0, bytesOut = 0 } = active.answered ?? {};
      const cpuNs = cpuOf(instance, active, instance.lastCpuNs);
      this.#finish(instance, 0, atUs, { outcome: "interrupted", status, bytesIn, bytesOut, cpuNs });
    }
  }

  #finish(
    instance: OpenInstance,
    place: number,
    atUs: number,
    how: { outcome: Outcome; status: number | null; bytesIn: number; bytesOut: number; cpuNs: number | null },
  ): void {
    divide(instance, atUs);
    const active = instance.active[place]!;
    const { begin } = active;
    removeAt(instance.active, place);
    let billedUs = instance.share - active.shareAtBegin;
    if (instance.active.length === 0) {
      const spanUs = instance.dividedUs - instance.spanStartUs;
      const roundedUs = Math.ceil(spanUs / spanQuantumUs) * spanQuantumUs;
      billedUs += instance.carryUs + (roundedUs - spanUs);
      this.closedSpansUs += roundedUs;
      instance.idleFreeNs = idleFreeNs;
      this.#provision(instance.of, atUs, { idle: 1, busy: -1 });
    }
    const { project, workload, revision, memoryMb, id } = instance.of;
    const { trigger, timeMs, cold, queuedUs, startUs } = begin;
    this.#record({
      id: begin.id,
      project,
      workload,
      revision,
      instance: id,
      trigger,
      timeMs,
      cold,
      queuedUs,
      startUs,
      executionUs: Math.max(0, atUs - begin.atUs),
      billedUs,
      memoryMb,
      cpuNs: how.cpuNs,
      bytesIn: how.bytesIn,
      bytesOut: how.bytesOut,
      status: how.status,
      outcome: how.outcome,
    });
  }

  #refused(frame: RefusedFrame): void {
    const { id, project, workload, revision, trigger, timeMs, cold, queuedUs, startUs } = frame;
    const { bytesIn, bytesOut, status, outcome } = frame;
    this.#record({
      id,
      project,
      workload,
      revision,
      instance: null,
      trigger,
      timeMs,
      cold,
      queuedUs,
      startUs,
      executionUs: 0,
      billedUs: 0,
      memoryMb: 0,
      cpuNs: null,
      bytesIn,
      bytesOut,
      status,
      outcome,
    });
  }

  #record(record: InvocationRecord): void {
    this.#told(record);
    const total = this.#total(record.project, record.workload, record.timeMs);
    total.requests++;
    // A client that left is nobody's error.
    if (record.outcome !== "ok" && record.outcome !== "client_gone") total.errors++;
    total.billedUs += record.billedUs;
    total.memoryMbUs += record.billedUs * record.memoryMb;
    total.bytesIn += record.bytesIn;
    total.bytesOut += record.bytesOut;
  }

  /**
   * CPU of a span is known also where invocations overlap: totals count the counter, records only what is theirs alone.
   * What an instance burns while nothing is active in it (whoever says "done" too early goes on) is the workload's too.
   */
  #countCpu(instance: OpenInstance, cpuNs: number | null): void {
    if (cpuNs === null) return;
    const usedNs = instance.lastCpuNs === null ? 0 : Math.max(0, cpuNs - instance.lastCpuNs);
    instance.lastCpuNs = cpuNs;
    const freeNs = instance.active.length > 0 ? 0 : Math.min(usedNs, instance.idleFreeNs);
    instance.idleFreeNs -= freeNs;
    if (usedNs > freeNs)
      this.#total(instance.of.project, instance.of.workload, this.#wallMs(instance.lastMarkUs)).cpuNs +=
        usedNs - freeNs;
  }

  #provision(of: InstanceFrame, atUs: number, change: { idle: number; busy: number }): void {
    if (of.min === 0) return;
    const key = JSON.stringify([of.project, of.workload, of.revision, of.min, of.memoryMb]);
    const provision = this.#provisions.get(key) ?? { idle: 0, busy: 0, countedUs: atUs };
    this.#provisions.set(key, provision);
    this.#countProvision(key, provision, atUs);
    provision.idle += change.idle;
    provision.busy += change.busy;
    if (provision.idle + provision.busy <= 0) this.#provisions.delete(key);
  }

  #countAllProvisions(atUs: number): void {
    for (const [key, provision] of this.#provisions) this.#countProvision(key, provision, atUs);
  }

  #countProvision(key: string, provision: Provision, atUs: number): void {
    const [project, workload, , min, memoryMb] = JSON.parse(key) as [string, string, number, number, number];
    const elapsedUs = Math.max(0, atUs - provision.countedUs);
    const count = Math.min(provision.idle, Math.max(0, min - provision.busy));
    if (elapsedUs > 0 && count > 0) {
      // Counted into the hour it began in: ticks keep the stretches to a minute.
      const total = this.#total(project, workload, this.#wallMs(provision.countedUs));
      total.provisionedUs += elapsedUs * count;
      total.provisionedMbUs += elapsedUs * count * memoryMb;
    }
    provision.countedUs = Math.max(provision.countedUs, atUs);
  }

  #wallMs(atUs: number): number {
    return Math.floor(this.#clock.wallMs + (atUs - this.#clock.atUs) / 1_000);
  }

  #total(project: string, workload: string, wallMs: number): Total {
    const hour = Math.floor(wallMs / hourMs) * hourMs;
    // Marks come in crowds: the one before is mostly of the same, and a key made anew costs more than all the adding.
    const last = this.#lastTotal;
    if (last?.hourMs === hour && last.workload === workload && last.project === project) return last;
    const key = `${project}/${workload}/${hour}`;
    let total = this.#totals.get(key);
    if (!total) {
      total = {
        project,
        workload,
        hourMs: hour,
        requests: 0,
        errors: 0,
        billedUs: 0,
        memoryMbUs: 0,
        cpuNs: 0,
        provisionedUs: 0,
        provisionedMbUs: 0,
        bytesIn: 0,
        bytesOut: 0,
      };
      this.#totals.set(key, total);
    }
    this.#lastTotal = total;
    return total;
  }
}

function placeOf(instance: OpenInstance, invocation: number): number {
  const { active } = instance;
  for (let at = 0; at < active.length; at++) if (active[at]!.begin.invocation === invocation) return at;
  return -1;
}

/** As splice does, which would make an array of what it takes out. */
function removeAt(active: ActiveInvocation[], place: number): void {
  for (let at = place + 1; at < active.length; at++) active[at - 1] = active[at]!;
  active.pop();
}

/** Divides the stretch up to `atUs` among those active; at least one is. */
function divide(instance: OpenInstance, atUs: number): void {
  const stretchUs = Math.max(0, atUs - instance.dividedUs) + instance.carryUs;
  const each = Math.floor(stretchUs / instance.active.length);
  instance.share += each;
  instance.carryUs = stretchUs - each * instance.active.length;
  instance.dividedUs = Math.max(instance.dividedUs, atUs);
}

function cpuOf(instance: OpenInstance, active: ActiveInvocation, cpuNs: number | null): number | null {
  if (instance.overlapped || cpuNs === null || active.begin.cpuNs === null) return null;
  return Math.max(0, cpuNs - active.begin.cpuNs);
}
