// Who waits and who runs where: brings each call together with a free slot, and hears from the fleet what comes and goes.

import type { Autoscaler } from "#autoscaler/door.ts";
import type { Fleet, Instance } from "#fleet/door.ts";
import type { EndMark, Meter } from "#metering/door.ts";
import type { Clock } from "#model/clock.ts";
import { EbbError } from "#model/errors.ts";
import type { Tell } from "#model/fact.ts";
import type { InstanceId, InvocationId } from "#model/ids.ts";
import type { Failure } from "#model/instance.ts";
import type { Outcome } from "#model/invocation.ts";
import { waitingLimits } from "#model/limits.ts";
import type { ServingRevision, WorkloadKey } from "#model/workload.ts";
import type { Exit } from "#sandbox/door.ts";
import {
  outcomeOfRefusal,
  queueDeadlineError,
  queueFullError,
  startError,
  startFailureReachesWaiting,
} from "./decide.ts";
import type { Activator, Call, CallerHints, Invocation, ReplySink, WorkloadLoad } from "./door.ts";
import { ActiveInvocation, type InvocationKeeper, type StartUp } from "./invocation.ts";
import type { Lane } from "./lane.ts";
import { Lanes } from "./lanes.ts";
import { LiveInstance } from "./live-instance.ts";
import { WaitingRoom, type WaitingBounds } from "./queue.ts";
import { refuseCall, traceIdOf } from "./request-head.ts";

export interface ActivatorOptions {
  readonly clock: Clock;
  readonly fleet: Pick<Fleet, "idle" | "kill" | "drain" | "workloadState">;
  readonly autoscaler: Pick<Autoscaler, "report">;
  readonly meter: Pick<Meter, "admit" | "instance" | "refused" | "flush">;
  /** The revision that serves now (the mirror's); null: there is no such workload. */
  readonly current: (project: string, workload: string) => ServingRevision | null;
  readonly tell: Tell;
  /** Which ids are active, for the log lines of instances with more than one at a time (telemetry). */
  readonly markActive?: (instance: InstanceId, invocation: InvocationId) => void;
  readonly waiting?: WaitingBounds & { readonly deadlineMs: number };
  /** Runs it at the end of this turn of the loop; an answer goes out there. */
  readonly defer?: (run: () => void) => void;
}

export function createActivator(options: ActivatorOptions): Activator {
  return new SlotActivator(options);
}

class SlotActivator implements Activator, InvocationKeeper {
  readonly clock: Clock;
  readonly #options: ActivatorOptions;
  readonly #deadlineMs: number;
  readonly #room: WaitingRoom<ActiveInvocation>;
  readonly #lanes: Lanes;
  readonly #instances = new Map<InstanceId, LiveInstance>();
  #running = 0;
  #stopping = false;
  #drained: (() => void) | null = null;

  constructor(options: ActivatorOptions) {
    this.#options = options;
    this.clock = options.clock;
    this.#deadlineMs = options.waiting?.deadlineMs ?? waitingLimits.deadlineMs;
    this.#room = new WaitingRoom(options.waiting);
    const { autoscaler, fleet, current, defer = endOfTurn } = options;
    const report = (lane: Lane): void => autoscaler.report(lane.load(fleet.workloadState(lane.revision).starting));
    this.#lanes = new Lanes({ current, report, defer });
  }

  // --- calls

  invoke(call: Call, sink: ReplySink): Invocation {
    const lane = this.#lanes.forCall(call);
    if (lane === null) return this.#unknown(call, sink);
    const invocation = new ActiveInvocation(call, sink, lane, this);
    const problem = this.#refusal(call, lane);
    if (problem) {
      this.#refuse(invocation, problem);
      return invocation;
    }
    const live = lane.takeSlot();
    if (live === undefined) this.#wait(lane, invocation);
    else this.#run(lane, invocation, live, noStart);
    return invocation;
  }

  #refusal(call: Call, lane: Lane): EbbError | null {
    if (this.#stopping) return new EbbError("stopping", "ebb is stopping.", { retryAfterSeconds: 5 });
    if (call.trigger !== "http" && call.trigger !== "internal") {
      const problem = refuseCall(call);
      if (problem !== null) return new EbbError("bad_request", `The call cannot be sent: ${problem}.`);
    }
    const problem = this.#options.meter.admit(call.project, call.arrivedUs);
    if (problem) return problem;
    if (lane.lastFailure === null || lane.backOffUntilUs <= call.arrivedUs || lane.ready > 0) return null;
    return startError(call.workload, lane.lastFailure, (lane.backOffUntilUs - call.arrivedUs) / 1_000);
  }

  #wait(lane: Lane, invocation: ActiveInvocation): void {
    const { workload, body } = invocation.call;
    if (body?.crowded === true) return this.#refuse(invocation, queueFullError(workload, this.#room.length, "bodies"));
    const placed = this.#room.add(lane.line, invocation);
    if (!placed.placed) {
      const waiting = placed.full === "workload" ? lane.line.length : this.#room.length;
      return this.#refuse(invocation, queueFullError(workload, waiting, placed.full));
    }
    if (placed.displaced !== null) {
      const { displaced } = placed;
      this.#refuse(displaced, queueFullError(displaced.call.workload, this.#room.length, "all"));
      this.#lanes.changed(displaced.lane);
    }
    this.#armDeadline(lane);
    // The first to wait may need a start, which no moment is to be lost for; the others change a number.
    if (lane.line.length === 1) this.#lanes.report(lane);
    else this.#lanes.changed(lane);
  }

  #run(lane: Lane, invocation: ActiveInvocation, live: LiveInstance, start: StartUp): void {
    this.#running++;
    this.#options.markActive?.(live.instance.id, invocation.id);
    invocation.run(live, start);
    this.#lanes.changed(lane);
  }

  /** Those who have waited longest take what slots are free. */
  #dispatch(lane: Lane, start: StartUp = noStart): void {
    while (lane.line.length > 0) {
      const live = lane.takeSlot();
      if (live === undefined) return;
      const invocation = this.#room.take(lane.line)!;
      const us = Math.min(start.us, this.clock.monotonicUs() - invocation.arrivedUs);
      this.#run(lane, invocation, live, start.cold ? { us, cold: true } : noStart);
    }
    lane.deadline?.();
    lane.deadline = null;
  }

  #refuse(invocation: ActiveInvocation, error: EbbError): void {
    invocation.refuse(error);
    this.#markRefused(invocation, outcomeOfRefusal(error), error.status);
  }

  #markRefused(invocation: ActiveInvocation, outcome: Outcome, status: number | null): void {
    const { id, call, timeMs, lane } = invocation;
    const { project, workload, trigger } = call;
    const queuedUs = Math.max(0, this.clock.monotonicUs() - call.arrivedUs);
    const revision = lane.removed ? null : lane.revision.number;
    const mark = { id, trigger, timeMs, queuedUs, startUs: 0, cold: false };
    const end = { outcome, status, bytesIn: 0, bytesOut: 0 };
    this.#options.meter.refused({ project, workload, revision, mark, end }, invocation);
    this.#options.tell({
      kind: "invocation_ended",
      record: { id, project, workload, revision, instance: null, trigger, timeMs, outcome, status, queuedUs },
    });
  }

  #unknown(call: Call, sink: ReplySink): Invocation {
    call.body?.discard();
    sink.failed(
      new EbbError("not_found", `There is no workload "${call.workload}" in project "${call.project}".`),
      false,
    );
    return { id: call.id, abort() {}, drained() {} };
  }

  #armDeadline(lane: Lane): void {
    const first = lane.line.first();
    if (lane.deadline !== null || first === undefined) return;
    const dueUs = first.arrivedUs + this.#deadlineMs * 1_000;
    const inMs = Math.max(0, Math.ceil((dueUs - this.clock.monotonicUs()) / 1_000));
    lane.deadline = this.clock.after(inMs, () => {
      lane.deadline = null;
      const arrivedUs = this.clock.monotonicUs() - this.#deadlineMs * 1_000;
      const { starting } = this.#options.fleet.workloadState(lane.revision);
      for (let late = lane.line.first(); late !== undefined && late.arrivedUs <= arrivedUs; late = lane.line.first()) {
        this.#room.remove(lane.line, late);
        this.#refuse(late, queueDeadlineError(late.call.workload, this.#deadlineMs, lane, starting));
      }
      this.#armDeadline(lane);
      this.#lanes.changed(lane);
    });
  }

  #refuseWaiting(lane: Lane, error: EbbError): void {
    for (let invocation = this.#room.take(lane.line); invocation; invocation = this.#room.take(lane.line))
      this.#refuse(invocation, error);
    lane.deadline?.();
    lane.deadline = null;
  }

  // --- what invocations tell

  abandoned(invocation: ActiveInvocation): void {
    const { lane } = invocation;
    if (!this.#room.remove(lane.line, invocation)) return;
    this.#markRefused(invocation, "client_gone", null);
    this.#lanes.changed(lane);
  }

  notBegun(invocation: ActiveInvocation, live: LiveInstance, problem: EbbError): void {
    this.#refuse(invocation, problem);
    this.#freed(invocation, live);
  }

  ended(invocation: ActiveInvocation, live: LiveInstance, mark: EndMark): void {
    const { lane } = invocation;
    const nowUs = this.clock.monotonicUs();
    const executionUs = nowUs - invocation.handedOverUs;
    lane.lastActiveUs = nowUs;
    lane.executed(executionUs / 1_000);
    this.#tellEnded(invocation, live, mark, executionUs);
    this.#freed(invocation, live);
  }

  /** Its slot is somebody else's. */
  #freed({ lane }: ActiveInvocation, live: LiveInstance): void {
    this.#running--;
    if (lane.serves(live)) {
      lane.slots.offer(live);
      this.#dispatch(lane);
    } else if (live.active === 0) {
      this.#emptied(live);
    }
    this.#lanes.changed(lane);
    if (this.#running === 0) this.#drained?.();
  }

  #tellEnded(invocation: ActiveInvocation, live: LiveInstance, mark: EndMark, executionUs: number): void {
    const { id, call, timeMs, cold, queuedUs, startUs } = invocation;
    const { project, workload, trigger } = call;
    const { outcome, status, bytesIn, bytesOut } = mark;
    const { settings, number } = live.instance.revision;
    const { memoryMb } = settings;
    const record = {
      id,
      project,
      workload,
      revision: number,
      instance: live.instance.id,
      trigger,
      timeMs,
      cold,
      queuedUs,
      startUs,
      executionUs,
      memoryMb,
      bytesIn,
      bytesOut,
      status,
      outcome,
    };
    this.#options.tell({ kind: "invocation_ended", record });
  }

  condemn(live: LiveInstance, reason: string): void {
    if (live.condemned !== null) return;
    live.condemned = reason;
    live.client.closeIdle();
    const lane = this.#lanes.get(live.instance.revision);
    lane?.slots.remove(live);
    // Others run in it: it is replaced now, and killed when they have ended.
    if (live.active > 1 && !live.released) this.#options.fleet.drain(live.instance.id, reason);
    if (lane) this.#lanes.changed(lane);
  }

  /** Nothing runs in an instance that takes nothing more. */
  #emptied(live: LiveInstance): void {
    if (!this.#instances.has(live.instance.id)) return;
    live.client.closeIdle();
    live.meter.released();
    if (live.condemned !== null) this.#options.fleet.kill(live.instance.id, live.condemned);
    else this.#options.fleet.idle(live.instance.id);
  }

  // --- what the fleet tells

  ready(instance: Instance): void {
    const { id, revision } = instance;
    const lane = this.#lanes.forInstance(revision);
    const meter = this.#options.meter.instance({ id, revision, usage: () => instance.usage() });
    const live = new LiveInstance(instance, meter, this.clock);
    this.#instances.set(id, live);
    lane.started(live);
    if (!lane.serves(live)) return;
    lane.slots.offer(live);
    this.#dispatch(lane, { us: instance.startUs, cold: true });
    // Whoever waited for this start waits for nothing else: not for what the rest of this turn decides.
    this.#options.meter.flush();
    this.#lanes.report(lane);
  }

  done(instance: InstanceId, invocation: InvocationId): void {
    this.#instances.get(instance)?.find(invocation)?.toldDone();
  }

  release(instance: InstanceId): boolean {
    const live = this.#instances.get(instance);
    if (live === undefined) return true;
    live.released = true;
    live.client.closeIdle();
    const lane = this.#lanes.get(live.instance.revision);
    lane?.slots.remove(live);
    if (lane) this.#lanes.changed(lane);
    if (live.active > 0) return false;
    live.meter.released();
    return true;
  }

  gone(instance: InstanceId, exit: Exit): void {
    const live = this.#instances.get(instance);
    if (live === undefined) return;
    // What this turn has begun in it is handed over first: then one way of ending is enough.
    this.#options.meter.flush();
    live.released = true;
    this.#instances.delete(instance);
    const lane = this.#lanes.get(live.instance.revision);
    lane?.slots.remove(live);
    for (const invocation of live.running) invocation.instanceGone(exit);
    live.close();
    if (!lane) return;
    lane.instances.delete(live);
    if (lane.removed) this.#lanes.forget(lane);
    else this.#lanes.report(lane);
  }

  startFailed(revision: ServingRevision, failure: Failure, retryInMs: number): void {
    const lane = this.#lanes.get(revision);
    if (lane === undefined || lane.revision.number !== revision.number) return;
    lane.lastFailure = failure;
    if (failure.fault === "function") lane.backOffUntilUs = this.clock.monotonicUs() + retryInMs * 1_000;
    const { starting } = this.#options.fleet.workloadState(revision);
    if (startFailureReachesWaiting(failure, { ready: lane.ready, starting }))
      this.#refuseWaiting(lane, startError(revision.workload, failure, 0));
    this.#lanes.changed(lane);
  }

  full(revision: ServingRevision, why: "capacity" | "over_quota"): void {
    const lane = this.#lanes.get(revision);
    if (lane?.revision.number === revision.number) lane.obstacle = why;
  }

  // --- what control and the others ask

  changed(key: WorkloadKey, revision: ServingRevision | null): void {
    const lane = this.#lanes.get(key);
    if (lane === undefined) return;
    if (revision === null) {
      lane.removed = true;
      lane.slots.clear();
      const words = `The workload "${key.workload}" was removed.`;
      this.#refuseWaiting(lane, new EbbError("not_found", words));
      return this.#lanes.forget(lane);
    }
    lane.removed = false;
    lane.serve(revision);
    this.#dispatch(lane);
    this.#lanes.report(lane);
  }

  load(key: WorkloadKey): WorkloadLoad {
    const lane = this.#lanes.get(key);
    if (lane === undefined) return { waiting: 0, active: 0, ready: 0, lastActiveMs: null };
    const { lastActiveUs } = lane;
    const agoMs = lastActiveUs === null ? 0 : (this.clock.monotonicUs() - lastActiveUs) / 1_000;
    const lastActiveMs = lastActiveUs === null ? null : Math.round(this.clock.wallMs() - agoMs);
    return { waiting: lane.line.length, active: lane.active, ready: lane.ready, lastActiveMs };
  }

  *runningIn(instance: string): Generator<InvocationId> {
    for (const { id } of this.#instances.get(instance)?.running ?? []) yield id;
  }

  activeIn(instance: string): number {
    return this.#instances.get(instance)?.active ?? 0;
  }

  depthIn(instance: string, hints: CallerHints): number {
    const live = this.#instances.get(instance);
    if (live === undefined) return 0;
    const told = hints.invocation === null ? undefined : live.find(hints.invocation);
    if (told !== undefined) return told.call.depth;
    const traceId = hints.traceparent === null ? null : traceIdOf(hints.traceparent);
    let deepest = -1;
    for (const invocation of live.running) {
      if (invocation.traceId === traceId) return invocation.call.depth;
      deepest = Math.max(deepest, invocation.call.depth);
    }
    return deepest < 0 ? live.lastDepth : deepest;
  }

  async drain(graceMs: number): Promise<void> {
    this.#stopping = true;
    if (this.#running > 0 || this.#room.length > 0) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#drained = () => (this.#room.length === 0 ? resolve() : undefined);
      const cancel = this.clock.after(graceMs, resolve);
      await promise;
      cancel();
      this.#drained = null;
    }
    for (const lane of this.#lanes.values())
      this.#refuseWaiting(lane, new EbbError("stopping", "ebb is stopping.", { retryAfterSeconds: 5 }));
  }
}

const noStart: StartUp = { us: 0, cold: false };

function endOfTurn(run: () => void): void {
  setImmediate(run);
}
