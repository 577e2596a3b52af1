// Makes "wanted" true: the only caller of sandbox drivers, and the keeper of the machine's memory.

import type { Activator } from "#activator/door.ts";
import type { Duplex } from "node:stream";
import type { InstanceId, InvocationId } from "#model/ids.ts";
import type { Failure, InstanceView, StartPhases } from "#model/instance.ts";
import type { RunId } from "#model/run.ts";
import type { ImageJobRevision, JobRevision, ServingRevision, WorkloadKey } from "#model/workload.ts";
import type {
  BuildStep,
  BuildStepEnd,
  Exit,
  LeftInstance,
  OneOff,
  OneOffResult,
  OutputSource,
  Ready,
  SandboxUsage,
  SocketReader,
} from "#sandbox/door.ts";

/** A ready instance, as the activator uses it. */
export interface Instance {
  readonly id: InstanceId;
  readonly revision: ServingRevision;
  /** How an invocation in it ends; see Ready. */
  readonly done: "response" | "told";
  readonly shares: boolean;
  readonly phases: StartPhases;
  readonly startUs: number;
  /** See SandboxDriver.connect. */
  connect(reader?: SocketReader): Duplex;
  usage(): SandboxUsage;
  /** It is held still, since nothing has run in it for a while. */
  readonly paused: boolean;
  /** The user: something is about to be handed to it, in which nothing ran. It goes on, if it was paused. */
  busy(): void;
  /** The user: the last that ran in it is over, and nothing lingers. */
  idle(): void;
}

/** Who uses the instances (the activator). Called on the main thread; must not throw. */
export interface InstanceUser {
  ready(instance: Instance): void;
  /** The runtime said that an invocation is over. */
  done(instance: InstanceId, invocation: InvocationId): void;
  /** Stop sending to it. True: nothing runs in it, it may be stopped now. False: call `fleet.idle(id)` when the last has ended. */
  release(instance: InstanceId): boolean;
  /** Nothing of it is left; what was in it is lost. */
  gone(instance: InstanceId, exit: Exit): void;
  /** A start did not succeed; `crashLoop`: the next is tried only after `retryInMs`. */
  startFailed(revision: ServingRevision, failure: Failure, retryInMs: number): void;
  /** No memory (or quota) for what is wanted; clears by itself when some is freed. */
  full(revision: ServingRevision, why: "capacity" | "over_quota"): void;
}

/** The activator, as far as the fleet needs it. */
export type FleetUser = InstanceUser & Pick<Activator, "activeIn" | "load">;

/** One attempt at a task of a run. */
export interface ExecutionSpec {
  readonly revision: JobRevision;
  readonly memoryMb: number;
  readonly command: readonly string[];
  /** Over the revision's own. */
  readonly env: Readonly<Record<string, string>>;
  readonly run: RunId;
  /** What its log lines belong to. */
  readonly execution: InvocationId;
  /** There is no room for it yet. May be called often. */
  readonly held: (why: "capacity" | "over_quota") => void;
}

/** Of one that an earlier ebb has started. */
export type AdoptionSpec = Pick<ExecutionSpec, "revision" | "memoryMb" | "run" | "execution"> & {
  readonly instance: InstanceId;
};

export interface Adopted {
  readonly execution: Execution;
  /** Epoch ms of its begin. */
  readonly begunMs: number;
  /** False: it ended before it was adopted. */
  readonly alive: boolean;
}

export interface Execution {
  readonly instance: InstanceId;
  /** Memory and a turn are taken for it; now it is to be started, or stopped. Rejects with EbbError stopping. */
  readonly admitted: Promise<void>;
  /** `opened`: its output can be read from here on. null: it runs; otherwise nothing of it is left. Once. */
  start(opened: (output: OutputSource) => void): Promise<Failure | null>;
  /** Nothing of it is left. */
  readonly over: Promise<Exit>;
  usage(): SandboxUsage;
  /** All that must be known of it is written down: it lives on when ebb dies, where the driver can do that. */
  keep(): Promise<void>;
  /** After its end: all that it has written is in the log. */
  settled(): Promise<void>;
  /** After that: what is kept of it for another ebb is needed no more. */
  forget(): Promise<void>;
  /** SIGTERM, then SIGKILL after `graceMs`; one that waits still waits no longer. Resolves when nothing is left. */
  stop(graceMs: number): Promise<void>;
}

/** What one instance has used, and holds; null: nobody knows. */
export interface InstanceUse {
  readonly instance: InstanceId;
  readonly cpuNs: number | null;
  readonly memoryBytes: number | null;
}

export interface FleetState {
  readonly running: number;
  readonly starting: number;
  readonly memoryBytes: number;
  readonly memoryLimitBytes: number;
  /** Started ahead, without code; their memory is apart from the rest. */
  readonly pool: { readonly sandboxes: number; readonly memoryBytes: number };
}

export interface WorkloadFleetState {
  readonly ready: number;
  /** Of those that are ready. */
  readonly paused: number;
  readonly starting: number;
  readonly draining: number;
  readonly state: "ready" | "crash_loop" | "capacity" | "over_quota";
  readonly lastFailure: (Failure & { readonly timeMs: number }) | null;
  /** After starts that failed: none is tried before then. null: nothing holds one up. */
  readonly nextStartMs: number | null;
}

export interface Fleet {
  start(): Promise<void>;
  /** Drains everything; what is open after `drainMs` is killed. */
  stop(drainMs: number): Promise<void>;
  /** So many instances of this revision: starts, or drains idle ones first. The autoscaler alone calls it. */
  want(revision: ServingRevision, count: number, reasons: readonly string[]): void;
  /** Drains every instance of the workload that is not of `keep` (null: all), and replaces nothing by itself. */
  retire(workload: WorkloadKey, keep: ServingRevision | null, reason: string): void;
  /** The autoscaler: `after` serves from now on in the place of `before`, and may be called: its kind of sandbox is kept ready. */
  expect(before: ServingRevision | null, after: ServingRevision | null): void;
  /** The autoscaler: less runs than before, something may be idle now; those that wait for memory are looked at again. */
  eased(): void;
  /** The autoscaler: one more would start at once, and nothing would go for it. */
  roomFor(revision: ServingRevision): boolean;
  /** The autoscaler: what the instances of a revision use that are awake, of the oldest ones, at most `count`. Costs a read or two each. */
  samples(revision: ServingRevision, count: number): { readonly awake: number; readonly of: readonly InstanceUse[] };
  /** The activator: nothing runs in a released instance any more. */
  idle(instance: InstanceId): void;
  /** The activator has released it by itself (a timeout above concurrency 1): no longer counted as live, and so replaced. */
  drain(instance: InstanceId, reason: string): void;
  /** Ends one instance at once: a timeout at concurrency 1, nonsense on the wire. */
  kill(instance: InstanceId, reason: string): void;
  /** Loads a revision in a sandbox of its own, with its own environment, secrets and egress; unbilled. */
  check(
    revision: ServingRevision,
  ): Promise<Ready | { readonly ok: false; readonly failure: Failure; readonly output: string }>;
  /** Makes a sandbox of a job's image, in which nothing of it runs: why that cannot be; null: it can. Unbilled. */
  prove(revision: ImageJobRevision): Promise<Failure | null>;
  /** Waits for as long as it takes until there is room for it. */
  execute(spec: ExecutionSpec): Execution;
  /** Executions of earlier ebbs, which live or have ended since. */
  left(): readonly LeftInstance[];
  /** One of them is this ebb's from here on; it has its memory, whatever others wait for. */
  adopt(spec: AdoptionSpec): Promise<Adopted>;
  /** It is nobody's: it is ended, and what was kept of it goes. */
  forget(left: InstanceId): Promise<void>;
  /** One program of ebb's own in a sandbox of its own; unbilled. */
  run(spec: OneOff): Promise<OneOffResult>;
  /** One command of an image's build; unbilled. */
  build(step: BuildStep): Promise<BuildStepEnd>;
  instances(workload?: WorkloadKey): readonly InstanceView[];
  /** Of code and images: what instances, load checks and executions are made of until nothing of them is left, named by a revision or not. */
  contentInUse(): ReadonlySet<string>;
  workloadState(workload: WorkloadKey): WorkloadFleetState;
  state(): FleetState;
}
