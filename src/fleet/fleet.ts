// Makes "wanted" true: starts, drains and ends instances; keeps the machine's memory; says what failed and when it tries again.

import { type InstanceId, type SandboxId } from "#model/ids.ts";
import type { Failure, InstanceView } from "#model/instance.ts";
import { sandboxLimits } from "#model/limits.ts";
import type { ProjectQuotas, ServingRevision, WorkloadKey } from "#model/workload.ts";
import type { Exit, Ready } from "#sandbox/door.ts";
import { Admission } from "./admission.ts";
import { poolKeyOf } from "./assignment.ts";
import { check, type Checked } from "./check.ts";
import { endedLikeACrash, sandboxMemoryBytes, surplus, type CrashLoop, type LiveInstance } from "./decide.ts";
import type { Fleet, FleetState, FleetUser, WorkloadFleetState } from "./door.ts";
import { idleInstances } from "./idle.ts";
import { launch, tellOfUseless, type LaunchContext } from "./launch.ts";
import {
  atStop,
  failureOfExit,
  isLive,
  liveOf,
  newMember,
  projectOf,
  viewOf,
  type Group,
  type Member,
} from "./member.ts";
import { Liveness } from "./liveness.ts";
import { Pausing } from "./pausing.ts";
import { Pool } from "./pool.ts";
import { Programs } from "./programs.ts";
import { noQuotas, Registry, stateOf } from "./registry.ts";
import { stopMember } from "./stop-sandbox.ts";
import { usesOf } from "./use.ts";

export interface FleetOptions extends LaunchContext {
  /** Late-bound: the activator is made after the fleet. */
  readonly user: () => FleetUser;
  /** null: there is no such project, and no quota of it. */
  readonly quotas: (project: string) => ProjectQuotas | null;
  /** Of the whole machine. */
  readonly memoryBytes: number;
  /** Starts at a time; see startsAtOnce. */
  readonly concurrentStarts: number;
  /** What sandboxes that are started ahead may use of it; 0: none is. */
  readonly poolBytes?: number;
  /** How many CPUs of the machine nobody has used since it was asked last; left out: always enough. */
  readonly idleCpus?: () => number;
  /** How long nothing has run in an instance that is paused; null, left out: none is. */
  readonly pauseAfterMs?: number | null;
  /** In [0, 1); for the jitter of back-offs. */
  readonly chance?: () => number;
}

export function createFleet(options: FleetOptions): Fleet & { quotasChanged(): void } {
  return new SandboxFleet(options);
}

class SandboxFleet implements Fleet {
  readonly #options: FleetOptions;
  readonly #admission: Admission;
  readonly #limitBytes: number;
  readonly #registry: Registry;
  readonly #members = new Map<InstanceId, Member>();
  readonly #programs: Programs;
  readonly #pool: Pool;
  readonly #pausing: Pausing;
  readonly #liveness: Liveness;
  #stopping = false;

  constructor(options: FleetOptions) {
    this.#options = options;
    this.#registry = new Registry(options.clock, options.chance ?? Math.random);
    const { driver, clock, tell, poolBytes: budgetBytes = 0, idleCpus = () => Infinity } = options;
    this.#limitBytes = sandboxMemoryBytes(options.memoryBytes) - budgetBytes;
    const quiet = (): boolean => this.#admission.starting === 0;
    this.#pool = new Pool({ driver, clock, tell, budgetBytes, quiet, idleCpus });
    const afterMs = options.pauseAfterMs ?? null;
    const stuck = (member: Member): void => this.kill(member.id, "it could not go on after a pause");
    this.#pausing = new Pausing({ driver, clock, tell, afterMs, stuck });
    this.#liveness = new Liveness({
      clock,
      connect: (member) => driver.connect(member.sandbox!),
      unwell: (member, failure) => this.#unwell(member, failure),
    });
    this.#admission = new Admission({
      clock: options.clock,
      limitBytes: this.#limitBytes,
      concurrentStarts: options.concurrentStarts,
      quotas: (project) => options.quotas(project) ?? noQuotas,
      idle: () => idleInstances(this.#registry.groups(), options.user()),
      evict: (instance) => this.#evict(instance),
      deficit: (group) => (this.#registry.backingOff(group.revision) ? 0 : group.wanted - liveOf(group)),
      start: (group, turnOver) => this.#start(group, turnOver),
      refused: (group, why) => options.user().full(group.revision, why),
      turnOver: () => this.#pool.settleSoon(),
    });
    this.#programs = new Programs(options, this.#admission);
  }

  async start(): Promise<void> {
    await this.#options.driver.start();
    this.#pool.start();
  }

  async stop(drainMs: number): Promise<void> {
    this.#stopping = true;
    this.#admission.close();
    for (const group of this.#registry.groups()) {
      group.wanted = 0;
      this.#cancelRetry(group);
    }
    const pool = this.#pool.stop();
    const executions = this.#programs.stop(drainMs);
    const members = [...this.#members.values()];
    for (const member of members) this.#letGo(member, "ebb is stopping");
    const cancel = this.#options.clock.after(drainMs, () => {
      for (const member of this.#members.values()) this.#end(member, 0, "ebb is stopping");
    });
    await Promise.all(members.map((member) => member.left.promise));
    cancel();
    await Promise.all([pool, executions]);
    const oneOffs = this.#programs.oneOffsOver();
    await this.#options.driver.stop();
    await oneOffs;
  }

  expect(before: ServingRevision | null, after: ServingRevision | null): void {
    if (after !== null) this.#pool.expect(poolKeyOf(after), 1);
    if (before !== null) this.#pool.expect(poolKeyOf(before), -1);
  }

  want(revision: ServingRevision, count: number, reasons: readonly string[]): void {
    if (this.#stopping) return;
    const group = this.#registry.group(revision) ?? (count > 0 ? this.#registry.makeGroup(revision) : null);
    if (!group) return;
    const before = group.wanted;
    group.wanted = count;
    const live = liveOf(group);
    if (count < live) this.#shrink(group, live - count, reasons[0] ?? "not wanted any more");
    if (count <= live) {
      this.#admission.dequeue(group);
      this.#cancelRetry(group);
      this.#forget(group);
      return;
    }
    const crash = this.#registry.backingOff(group.revision);
    if (!crash) return this.#admission.enqueue(group);
    this.#retryLater(group, crash);
    const failure = this.#registry.workload(revision)?.lastFailure;
    if (count > before && failure) this.#options.user().startFailed(revision, failure, this.#untilMs(crash));
  }

  retire(workload: WorkloadKey, keep: ServingRevision | null, reason: string): void {
    const groups = [...(this.#registry.workload(workload)?.groups ?? [])];
    for (const group of groups) {
      if (keep && group.revision.number === keep.number) continue;
      group.wanted = 0;
      this.#admission.dequeue(group);
      this.#cancelRetry(group);
      for (const member of group.members) this.#letGo(member, reason);
      this.#forget(group);
    }
    this.#registry.pardon(workload);
  }

  idle(instance: InstanceId): void {
    const member = this.#members.get(instance);
    if (member?.stage === "draining") this.#end(member, sandboxLimits.stopGraceMs, "drained");
  }

  eased(): void {
    this.#admission.eased();
  }

  samples(revision: ServingRevision, count: number): ReturnType<Fleet["samples"]> {
    return usesOf(this.#registry.group(revision), this.#options.driver, count);
  }

  roomFor(revision: ServingRevision): boolean {
    return this.#admission.roomFor(revision);
  }

  kill(instance: InstanceId, reason: string): void {
    const member = this.#members.get(instance);
    if (!member) return;
    this.#end(member, 0, reason);
    if (member.group) this.#lower(member.group);
  }

  drain(instance: InstanceId, reason: string): void {
    const member = this.#members.get(instance);
    if (!member) return;
    this.#letGo(member, reason);
    if (member.group) this.#lower(member.group);
  }

  /** An operator raised a quota: those it refused take their turn again. */
  quotasChanged(): void {
    this.#admission.freed();
  }

  check(revision: ServingRevision): Promise<Checked> {
    return check(revision, {
      ...this.#options,
      admit: (bytes) => this.#admission.oneOff(bytes, true),
      begin: (ahead) => {
        const member = this.#newMember(null, revision);
        return { member, preparing: this.#prepare(member, ahead) };
      },
      over: (member) => this.#end(member, 0, "checked"),
    });
  }

  readonly execute: Fleet["execute"] = (spec) => this.#programs.execute(spec);
  readonly adopt: Fleet["adopt"] = (spec) => this.#programs.adopt(spec);
  readonly left: Fleet["left"] = () => this.#options.driver.left();
  readonly forget: Fleet["forget"] = (left) => this.#options.driver.forget(left);
  readonly run: Fleet["run"] = (spec) => this.#programs.run(spec);
  readonly prove: Fleet["prove"] = (revision) => this.#programs.prove(revision);
  readonly build: Fleet["build"] = (step) => this.#programs.build(step);

  instances(workload?: WorkloadKey): readonly InstanceView[] {
    const isolation = this.#options.driver.capabilities().isolation === "none" ? "process" : "container";
    const activeIn = (id: InstanceId): number => this.#options.user().activeIn(id);
    const groups = workload ? (this.#registry.workload(workload)?.groups ?? []) : this.#registry.groups();
    return [...groups].flatMap((group) => [...group.members].map((member) => viewOf(member, isolation, activeIn)));
  }

  contentInUse(): ReadonlySet<string> {
    return this.#programs.contentInUse(this.#members.values());
  }

  workloadState(workload: WorkloadKey): WorkloadFleetState {
    return stateOf(this.#registry.workload(workload), this.#options.clock);
  }

  state(): FleetState {
    let [running, starting] = [0, 0];
    for (const member of this.#members.values()) {
      if (member.stage === "preparing" || member.stage === "assigning") starting++;
      else running++;
    }
    const memoryBytes = this.#admission.ledger.machine.bytes;
    return { running, starting, memoryBytes, memoryLimitBytes: this.#limitBytes, pool: this.#pool.state() };
  }

  #start(group: Group, turnOver: () => void): void {
    const { revision } = group;
    const member = this.#newMember(group, revision);
    const { project, workload, number } = revision;
    this.#options.tell({ kind: "instance_starting", instance: member.id, project, workload, revision: number });
    void this.#launched(member, group, turnOver);
  }

  async #launched(member: Member, group: Group, turnOver: () => void): Promise<void> {
    const result = await launch(this.#options, member, this.#prepare(member, !group.afresh), false);
    group.afresh = false;
    if (result?.ok && member.stage === "assigning") this.#becameReady(member, group, result);
    else if (result?.ok === false && result.untouched && member.ahead && member.reason === null)
      this.#startAfresh(member, group, result.failure);
    else if (result && member.reason === null)
      this.#startFailed(member, group, result.ok ? failureOfExit(member.exit) : result.failure);
    else this.#end(member, 0, "not wanted any more");
    turnOver();
  }

  #becameReady(member: Member, group: Group, ready: Ready): void {
    const { driver, clock, tell, user } = this.#options;
    const { id, revision } = member;
    const sandbox = member.sandbox!;
    member.stage = "ready";
    member.told = true;
    member.readyUs = clock.monotonicUs();
    this.#registry.succeeded(revision);
    this.#cancelRetry(group);
    const of = { instance: id, project: revision.project, workload: revision.workload, revision: revision.number };
    tell({ kind: "instance_ready", ...of, ahead: member.ahead, phases: ready.phases });
    const [pausing, liveness] = [this.#pausing, this.#liveness];
    pausing.idle(member);
    liveness.watch(member);
    user().ready({
      id,
      revision,
      done: ready.done,
      shares: ready.shares,
      phases: ready.phases,
      startUs: member.readyUs - member.startUs,
      connect: (reader) => driver.connect(sandbox, reader),
      usage: () => driver.usage(sandbox),
      get paused() {
        return member.paused;
      },
      busy: () => {
        pausing.busy(member);
        liveness.busy(member);
      },
      idle: () => pausing.idle(member),
    });
    if (group.wanted > liveOf(group)) this.#admission.enqueue(group);
  }

  #tellFailed({ id, revision: { project, workload, number } }: Member, failure: Failure): void {
    this.#options.tell({ kind: "instance_failed", instance: id, project, workload, revision: number, failure });
  }

  #unwell(member: Member, failure: Failure): void {
    this.#tellFailed(member, failure);
    this.kill(member.id, failure.message);
  }

  /** What was started ahead was dead, or deaf: nobody's code is to blame, and nobody is told but the operator. */
  #startAfresh(member: Member, group: Group, failure: Failure): void {
    tellOfUseless(this.#options, failure);
    this.#end(member, 0, "its sandbox did not take the code");
    group.afresh = true;
    if (group.wanted > liveOf(group)) this.#admission.enqueue(group);
  }

  #startFailed(member: Member, group: Group, failure: Failure): void {
    this.#tellFailed(member, failure);
    const crash = this.#registry.failed(group.revision, failure, member.startUs);
    this.#end(member, 0, "did not start");
    if (group.wanted > liveOf(group)) this.#retryLater(group, crash);
    this.#options.user().startFailed(group.revision, failure, this.#untilMs(crash));
  }

  #retryLater(group: Group, crash: CrashLoop): void {
    this.#cancelRetry(group);
    group.retry = this.#options.clock.after(this.#untilMs(crash), () => {
      group.retry = null;
      if (group.wanted > liveOf(group)) this.#admission.enqueue(group);
    });
  }

  /** Rounded up: a retry a microsecond early would find itself still backing off. */
  #untilMs(crash: CrashLoop): number {
    return Math.max(0, Math.ceil((crash.untilUs - this.#options.clock.monotonicUs()) / 1000) + 1);
  }

  #cancelRetry(group: Group): void {
    group.retry?.();
    group.retry = null;
  }

  #forget(group: Group): void {
    if (!this.#registry.forget(group)) return;
    this.#admission.dequeue(group);
    this.#cancelRetry(group);
  }

  #newMember(group: Group | null, revision: ServingRevision): Member {
    const member = newMember(group, revision, this.#options.clock);
    this.#members.set(member.id, member);
    group?.members.add(member);
    return member;
  }

  /** `ahead`: one that was started ahead will do. */
  #prepare(member: Member, ahead: boolean): Promise<SandboxId> {
    const { driver, user } = this.#options;
    const listener = {
      done: (invocation: string): void => {
        if (member.told && member.stage !== "gone") user().done(member.id, invocation);
      },
      exited: (exit: Exit): void => this.#gone(member, this.#stopping ? atStop(exit) : exit),
    };
    const key = poolKeyOf(member.revision);
    const first = member.group === null || liveOf(member.group) === 1;
    const ready = ahead ? this.#pool.take(key, listener, first) : null;
    member.ahead = ready !== null;
    // A driver that throws at once fails the start like one that rejects.
    member.preparing = ready === null ? (async () => driver.prepare(key, listener))() : Promise.resolve(ready);
    member.preparing.catch(() => undefined);
    return member.preparing;
  }

  /** Sends nothing more to it; ends it when nothing runs in it. */
  #letGo(member: Member, reason: string): void {
    if (!isLive(member)) return;
    if (member.stage !== "ready") return this.#end(member, 0, reason);
    member.stage = "draining";
    member.reason = reason;
    this.#leave(member);
    if (this.#options.user().release(member.id)) this.#end(member, sandboxLimits.stopGraceMs, reason);
  }

  #shrink(group: Group, count: number, reason: string): void {
    const user = this.#options.user();
    const live: LiveInstance[] = [];
    for (const { id, stage, paused, startUs } of group.members) {
      if (stage === "preparing" || stage === "assigning") live.push({ id, stage, paused, active: 0, startUs });
      else if (stage === "ready") live.push({ id, stage, paused, active: user.activeIn(id), startUs });
    }
    for (const id of surplus(live, count)) {
      const member = this.#members.get(id);
      if (member) this.#letGo(member, reason);
    }
  }

  #evict(instance: InstanceId): void {
    const member = this.#members.get(instance);
    if (member?.stage !== "ready") return;
    this.#letGo(member, "idle, and its memory is needed");
    if (member.group) this.#lower(member.group);
  }

  /** What went away is not started again by itself: whether it is needed still, the autoscaler says. */
  #lower(group: Group): void {
    group.wanted = Math.min(group.wanted, liveOf(group));
  }

  #end(member: Member, graceMs: number, reason: string): void {
    if (member.stage === "gone" || (member.stage === "stopping" && (graceMs > 0 || member.killed))) return;
    if (member.stage !== "stopping") this.#admission.ledger.ending(projectOf(member), member.memoryBytes);
    member.stage = "stopping";
    member.reason ??= reason;
    this.#leave(member);
    member.killed ||= graceMs === 0;
    void stopMember(this.#options, member, graceMs).then(() =>
      this.#gone(member, { reason: "stopped", code: null, message: member.reason ?? "stopped" }),
    );
  }

  #leave(member: Member): void {
    this.#pausing.leave(member);
    this.#liveness.leave(member);
  }

  #gone(member: Member, exit: Exit): void {
    if (member.stage === "gone") return;
    const { telemetry, access, user, tell, clock } = this.#options;
    const { group, stage, id, revision } = member;
    const { project, workload } = revision;
    const live = isLive(member);
    member.stage = "gone";
    member.exit = exit;
    this.#leave(member);
    const active = member.told ? user().activeIn(id) : 0;
    this.#members.delete(id);
    group?.members.delete(member);
    this.#admission.ledger.give(projectOf(member), member.memoryBytes, stage === "stopping");
    telemetry.detach(id);
    access.revokeCredential(id);
    const unasked = member.reason === null && exit.reason !== "stopped";
    if (group && member.told) {
      const failure = failureOfExit(exit);
      if (unasked) this.#tellFailed(member, failure);
      const readyForMs = (clock.monotonicUs() - member.readyUs) / 1000;
      if (unasked && endedLikeACrash({ reason: exit.reason, readyForMs, active }))
        this.#registry.failed(revision, failure, member.startUs);
      if (live) this.#lower(group);
    }
    if (!unasked || !member.told)
      tell({ kind: "instance_stopped", instance: id, project, workload, reason: member.reason ?? exit.message });
    if (member.told) user().gone(id, exit);
    if (group) this.#forget(group);
    member.left.resolve();
    this.#admission.freed();
  }
}
