// What the fleet knows of one sandbox of a revision, and how much of the machine all of them have taken.

import type { Clock } from "#model/clock.ts";
import { newInstanceId, type InstanceId, type SandboxId } from "#model/ids.ts";
import type { Failure, InstanceState, InstanceView } from "#model/instance.ts";
import type { Isolation, ServingRevision } from "#model/workload.ts";
import type { Exit } from "#sandbox/door.ts";
import type { Taken } from "./decide.ts";

const MiB = 1024 * 1024;

/** All instances of one revision, and how many there shall be. */
export interface Group {
  readonly key: string;
  readonly revision: ServingRevision;
  wanted: number;
  readonly members: Set<Member>;
  /** Why the next start is not admitted; told once. */
  refused: "capacity" | "over_quota" | null;
  /** It waits for memory: it takes its turn again when some is freed. */
  blocked: boolean;
  retry: (() => void) | null;
  /** A sandbox that was started ahead has just been of no use: the next is not. */
  afresh: boolean;
}

export interface Member {
  readonly id: InstanceId;
  /** null: the load check of a deploy; nobody uses it. */
  readonly group: Group | null;
  readonly revision: ServingRevision;
  readonly memoryBytes: number;
  readonly startedMs: number;
  readonly startUs: number;
  stage: "preparing" | "assigning" | "ready" | "draining" | "stopping" | "gone";
  sandbox: SandboxId | null;
  /** Its sandbox was started ahead. */
  ahead: boolean;
  /** The driver's answer to `prepare`; a member that ends before it waits for it. */
  preparing: Promise<SandboxId> | null;
  readyUs: number;
  /** Monotonic us since when nothing runs in it, while that is so. */
  idleSinceUs: number;
  /** It is held still until something is handed to it. */
  paused: boolean;
  /** The user was told of it, and must be told of its end. */
  told: boolean;
  /** Why it was stopped; null: nobody asked. */
  reason: string | null;
  /** SIGKILL has been asked for. */
  killed: boolean;
  exit: Exit | null;
  /** Resolved when nothing of it is left. */
  readonly left: PromiseWithResolvers<void>;
}

export function newMember(group: Group | null, revision: ServingRevision, clock: Clock): Member {
  return {
    id: newInstanceId(),
    group,
    revision,
    memoryBytes: revision.settings.memoryMb * MiB,
    startedMs: clock.wallMs(),
    startUs: clock.monotonicUs(),
    stage: "preparing",
    sandbox: null,
    ahead: false,
    preparing: null,
    readyUs: 0,
    idleSinceUs: 0,
    paused: false,
    told: false,
    reason: null,
    killed: false,
    exit: null,
    left: Promise.withResolvers(),
  };
}

export function isLive(member: Member): boolean {
  return member.stage === "preparing" || member.stage === "assigning" || member.stage === "ready";
}

export function liveOf(group: Group): number {
  let live = 0;
  for (const member of group.members) if (isLive(member)) live++;
  return live;
}

interface Sums {
  bytes: number;
  endingBytes: number;
  instances: number;
  endingInstances: number;
}

const none: Taken = { bytes: 0, endingBytes: 0, instances: 0, endingInstances: 0 };

/** Memory that is spoken for, from the admission of a sandbox until nothing of it is left. */
export class Ledger {
  readonly #machine: Sums = { ...none };
  readonly #projects = new Map<string, Sums>();

  get machine(): Taken {
    return this.#machine;
  }

  project(name: string): Taken {
    return this.#projects.get(name) ?? none;
  }

  /** `project` null: of the platform, or unbilled; no project's quota counts it. */
  take(project: string | null, bytes: number): void {
    this.#each(project, (sums) => {
      sums.bytes += bytes;
      sums.instances += 1;
    });
  }

  /** It will be given back soon. */
  ending(project: string | null, bytes: number): void {
    this.#each(project, (sums) => {
      sums.endingBytes += bytes;
      sums.endingInstances += 1;
    });
  }

  give(project: string | null, bytes: number, wasEnding: boolean): void {
    this.#each(project, (sums) => {
      sums.bytes -= bytes;
      sums.instances -= 1;
      if (!wasEnding) return;
      sums.endingBytes -= bytes;
      sums.endingInstances -= 1;
    });
    if (project !== null && this.#projects.get(project)?.instances === 0) this.#projects.delete(project);
  }

  #each(project: string | null, change: (sums: Sums) => void): void {
    change(this.#machine);
    if (project === null) return;
    let sums = this.#projects.get(project);
    if (!sums) {
      sums = { ...none };
      this.#projects.set(project, sums);
    }
    change(sums);
  }
}

export function viewOf(member: Member, isolation: Isolation, activeIn: (id: InstanceId) => number): InstanceView {
  const { id, revision, startedMs } = member;
  return {
    id,
    project: revision.project,
    workload: revision.workload,
    revision: revision.number,
    state: stateOf(member),
    isolation: revision.settings.isolation === "gvisor" ? "gvisor" : isolation,
    memoryMb: revision.settings.memoryMb,
    startedMs,
    active: member.told ? activeIn(id) : 0,
  };
}

function stateOf({ stage, paused }: Member): InstanceState {
  if (stage === "preparing" || stage === "assigning") return "starting";
  if (stage === "ready") return paused ? "paused" : "ready";
  return stage === "gone" ? "stopped" : "draining";
}

/** Load checks are the platform's wish: no project's quota counts them. */
export function projectOf(member: Member): string | null {
  return member.group ? member.revision.project : null;
}

export function failureOfExit(exit: Exit | null): Failure {
  return {
    fault: exit?.reason === "lost" ? "platform" : "function",
    message: exit?.message ?? "the instance ended while it started",
    stack: null,
    hint: null,
  };
}

/** Killed because ebb stops is the platform's doing: who was being answered was interrupted. */
export function atStop(exit: Exit): Exit {
  return exit.reason === "killed" ? { ...exit, reason: "stopped", message: "ebb is stopping." } : exit;
}
