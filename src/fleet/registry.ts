// Which revisions have instances, which workloads failed last and how often: kept while it matters, so that what sleeps costs nothing.

import type { Clock } from "#model/clock.ts";
import type { Failure } from "#model/instance.ts";
import {
  revisionKeyOf,
  WorkloadMap,
  type ProjectQuotas,
  type ServingRevision,
  type WorkloadKey,
} from "#model/workload.ts";
import { backoffMs, crashLoopFailures, type CrashLoop } from "./decide.ts";
import type { WorkloadFleetState } from "./door.ts";
import { isLive, type Group } from "./member.ts";

/** Of a project that is not there. */
export const noQuotas: ProjectQuotas = { memoryMb: null, instances: null, ratePerSecond: null };

export interface WorkloadEntry {
  readonly groups: Set<Group>;
  lastFailure: (Failure & { readonly timeMs: number }) | null;
  /** Of the revision that failed last: forgotten with a start that succeeds, a deploy, or a restart. */
  crash: (CrashLoop & { readonly revision: number }) | null;
}

export class Registry {
  readonly #clock: Clock;
  readonly #chance: () => number;
  readonly #groups = new Map<string, Group>();
  readonly #workloads = new WorkloadMap<WorkloadEntry>();

  constructor(clock: Clock, chance: () => number) {
    this.#clock = clock;
    this.#chance = chance;
  }

  groups(): Iterable<Group> {
    return this.#groups.values();
  }

  workload(key: WorkloadKey): WorkloadEntry | null {
    return this.#workloads.get(key) ?? null;
  }

  group(revision: ServingRevision): Group | null {
    return this.#groups.get(revisionKeyOf(revision)) ?? null;
  }

  makeGroup(revision: ServingRevision): Group {
    const group: Group = {
      key: revisionKeyOf(revision),
      revision,
      wanted: 0,
      members: new Set(),
      refused: null,
      blocked: false,
      retry: null,
      afresh: false,
    };
    this.#groups.set(group.key, group);
    this.#entry(revision).groups.add(group);
    return group;
  }

  /** Lets go of a group that has nothing and wants nothing. False: it is still needed. */
  forget(group: Group): boolean {
    if (group.wanted > 0 || group.members.size > 0 || this.#groups.get(group.key) !== group) return false;
    this.#groups.delete(group.key);
    const entry = this.#workloads.get(group.revision);
    entry?.groups.delete(group);
    if (entry && entry.groups.size === 0 && !entry.lastFailure) this.#workloads.delete(group.revision);
    return true;
  }

  /** A deploy, a restart or a removal: what failed before says nothing about what comes. */
  pardon(key: WorkloadKey): void {
    const entry = this.#workloads.get(key);
    if (!entry) return;
    entry.crash = null;
    entry.lastFailure = null;
    if (entry.groups.size === 0) this.#workloads.delete(key);
  }

  succeeded(revision: ServingRevision): void {
    const entry = this.workload(revision);
    if (entry) entry.crash = null;
  }

  /** A start that began at `startUs` failed. Those that began before the last failure failed with it: one failure, not several. */
  failed(revision: ServingRevision, failure: Failure, startUs: number): CrashLoop {
    const entry = this.#entry(revision);
    entry.lastFailure = { ...failure, timeMs: this.#clock.wallMs() };
    const before = entry.crash?.revision === revision.number ? entry.crash : null;
    if (before && startUs < before.failedUs) return before;
    const failures = (before?.failures ?? 0) + 1;
    const failedUs = this.#clock.monotonicUs();
    const untilUs = failedUs + backoffMs(failures, failure.fault, this.#chance()) * 1000;
    entry.crash = { revision: revision.number, failures, failedUs, untilUs };
    return entry.crash;
  }

  backingOff(revision: ServingRevision): CrashLoop | null {
    const crash = this.workload(revision)?.crash;
    if (!crash || crash.revision !== revision.number) return null;
    return crash.untilUs > this.#clock.monotonicUs() ? crash : null;
  }

  #entry(key: WorkloadKey): WorkloadEntry {
    let entry = this.#workloads.get(key);
    if (!entry) {
      entry = { groups: new Set(), lastFailure: null, crash: null };
      this.#workloads.set(key, entry);
    }
    return entry;
  }
}

export function stateOf(entry: WorkloadEntry | null, clock: Clock): WorkloadFleetState {
  let [ready, paused, starting, draining] = [0, 0, 0, 0];
  let state: WorkloadFleetState["state"] = "ready";
  for (const group of entry?.groups ?? []) {
    for (const member of group.members) {
      if (member.paused) paused++;
      if (member.stage === "ready") ready++;
      else if (isLive(member)) starting++;
      else draining++;
    }
    if (group.refused) state = group.refused;
  }
  if ((entry?.crash?.failures ?? 0) >= crashLoopFailures) state = "crash_loop";
  const leftUs = entry?.crash ? entry.crash.untilUs - clock.monotonicUs() : 0;
  const nextStartMs = leftUs > 0 ? clock.wallMs() + Math.ceil(leftUs / 1_000) : null;
  return { ready, paused, starting, draining, state, lastFailure: entry?.lastFailure ?? null, nextStartMs };
}
