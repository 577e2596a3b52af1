// Lets starts in: at the rate the machine can do, in turns, as memory and quotas allow; makes room from idle instances.

import type { Cancel, Clock } from "#model/clock.ts";
import { EbbError } from "#model/errors.ts";
import { machineLimits, waitingLimits } from "#model/limits.ts";
import { keyOf, type ProjectQuotas, type Revision, type ServingRevision } from "#model/workload.ts";
import { admit, type Admission as Verdict, type IdleInstance, type Taken } from "./decide.ts";
import { Ledger, type Group } from "./member.ts";
import { Starts, Turns } from "./turns.ts";

const MiB = 1024 * 1024;

export interface AdmissionOptions {
  readonly clock: Clock;
  readonly limitBytes: number;
  readonly concurrentStarts: number;
  readonly quotas: (project: string) => ProjectQuotas;
  /** Least recently used first, without those that a `min` holds. */
  readonly idle: () => readonly IdleInstance[];
  evict(instance: string): void;
  /** Starts that the group lacks and may try now. */
  deficit(group: Group): number;
  /** Memory and a turn are taken; `turnOver` gives the turn back, `freed` the memory. */
  start(group: Group, turnOver: () => void): void;
  refused(group: Group, why: "capacity" | "over_quota"): void;
  /** One has its turn no longer; others may have begun theirs. */
  turnOver(): void;
}

/** A request's end is often the next one's beginning: what is idle for less is not worth a look. */
const easedAfterMs = 5;

/** Load checks: all together have turns as one function has. */
const oneOffs = Symbol("one-offs");

/** Whose quotas count what starts. */
export interface QuotaHolder {
  readonly project: string;
  /** "project/workload" of what starts: it does not take its own place. */
  readonly workload: string;
}

interface OneOffWait {
  readonly bytes: number;
  readonly takesTurn: boolean;
  readonly of: QuotaHolder | null;
  readonly held: (why: "capacity" | "over_quota") => void;
  readonly admitted: PromiseWithResolvers<() => void>;
  readonly cancel: Cancel;
  /** With these claims room is being made for it. */
  claimed: Ledger | null;
  /** It waits for its own project alone: what others have is none of its business. */
  overQuota: boolean;
}

export class Admission {
  readonly ledger = new Ledger();
  readonly #options: AdmissionOptions;
  /** What those that wait for ending sandboxes will take: nobody else counts on the same memory. */
  #claims = new Ledger();
  readonly #turns = new Turns<Group>();
  readonly #starts: Starts<Group | typeof oneOffs>;
  readonly #blocked = new Set<Group>();
  readonly #oneOffs: OneOffWait[] = [];
  #easing: Cancel | null = null;
  #pumping = false;
  #again = false;
  #memoryFreed = false;
  #closed = false;

  constructor(options: AdmissionOptions) {
    this.#options = options;
    const { clock, concurrentStarts: atOnce } = options;
    this.#starts = new Starts({ clock, atOnce, turnMs: machineLimits.startTurnMs });
  }

  /** Starts that have their turn. */
  get starting(): number {
    return this.#starts.count;
  }

  /** The group lacks instances. */
  enqueue(group: Group): void {
    if (this.#closed || group.blocked) return;
    this.#turns.add(group.revision.project, group);
    this.#pump();
  }

  dequeue(group: Group): void {
    this.#turns.delete(group.revision.project, group);
    this.#blocked.delete(group);
    group.blocked = false;
    group.refused = null;
  }

  /** Memory has been given back, or a quota has changed. */
  freed(): void {
    this.#memoryFreed = true;
    this.#pump();
  }

  /** One more would start at once, nothing would go for it, and nobody waits who was there before. */
  roomFor(revision: ServingRevision): boolean {
    if (this.#closed || this.#starts.full) return false;
    if (this.#turns.size > 0 || this.#blocked.size > 0) return false;
    if (this.#oneOffs.some((wait) => !wait.overQuota)) return false;
    return this.#verdict(revision.settings.memoryMb * MiB, holderOf(revision)).kind === "start";
  }

  /** Something may have become idle: those that wait for memory are looked at again, soon and together. */
  eased(): void {
    if (this.#easing || (this.#blocked.size === 0 && this.#oneOffs.length === 0)) return;
    this.#easing = this.#options.clock.after(easedAfterMs, () => {
      this.#easing = null;
      this.freed();
    });
  }

  /**
   * Waits for memory (and, where it `takesTurn`, for a turn to start) for something that no project's quota counts;
   * takes both, and answers how the turn is given back. Throws EbbError capacity when there is none in time, stopping when the
   * fleet stops.
   */
  oneOff(bytes: number, takesTurn: boolean): Promise<() => void> {
    if (this.#closed) return Promise.reject(new EbbError("stopping", "ebb is stopping"));
    if (bytes > this.#options.limitBytes) return Promise.reject(this.#noRoom(bytes));
    const admitted = Promise.withResolvers<() => void>();
    const wait: OneOffWait = {
      bytes,
      takesTurn,
      of: null,
      held: () => undefined,
      admitted,
      cancel: this.#options.clock.after(waitingLimits.deadlineMs, () => {
        if (this.#withdraw(wait)) admitted.reject(this.#noRoom(bytes));
      }),
      claimed: null,
      overQuota: false,
    };
    this.#oneOffs.push(wait);
    this.#pump();
    return admitted.promise;
  }

  /**
   * The same for a run or a build (`withdraw` answers whether it still waited), whose project's quotas count it, and which waits for as
   * long as it takes; `held` says for what. What it takes is its project's, and given back as such. Throws EbbError stopping, also after `withdraw`.
   */
  execution(
    bytes: number,
    of: QuotaHolder,
    held: (why: "capacity" | "over_quota") => void,
  ): { readonly admitted: Promise<() => void>; readonly withdraw: () => boolean } {
    const admitted = Promise.withResolvers<() => void>();
    const cancel = (): void => undefined;
    const wait: OneOffWait = { bytes, takesTurn: true, of, held, admitted, cancel, claimed: null, overQuota: false };
    const withdraw = (): boolean => {
      const waited = this.#withdraw(wait);
      if (waited) admitted.reject(new EbbError("stopping", "it is not to be started any more"));
      return waited;
    };
    if (this.#closed) admitted.reject(new EbbError("stopping", "ebb is stopping"));
    else {
      this.#oneOffs.push(wait);
      this.#pump();
    }
    return { admitted: admitted.promise, withdraw };
  }

  #withdraw(wait: OneOffWait): boolean {
    const at = this.#oneOffs.indexOf(wait);
    if (at >= 0) this.#oneOffs.splice(at, 1);
    return at >= 0;
  }

  /** Nothing starts any more. */
  close(): void {
    this.#closed = true;
    this.#easing?.();
    for (let group = this.#turns.take(); group; group = this.#turns.take()) group.refused = null;
    for (const group of this.#blocked) this.dequeue(group);
    for (const wait of this.#oneOffs.splice(0)) {
      wait.cancel();
      wait.admitted.reject(new EbbError("stopping", "ebb is stopping"));
    }
  }

  #noRoom(bytes: number): EbbError {
    const limit = Math.floor(this.#options.limitBytes / MiB);
    return new EbbError(
      "capacity",
      `no memory for a sandbox of ${Math.ceil(bytes / MiB)} MiB; all together get ${limit} MiB`,
    );
  }

  /** Evicting and refusing call back into the fleet, and that calls here: such a call is served by the loop that runs. */
  #pump(): void {
    if (this.#pumping) {
      this.#again = true;
      return;
    }
    this.#pumping = true;
    try {
      do {
        this.#again = false;
        this.#unblock();
        this.#serveOneOffs();
        while (!this.#closed && !this.#starts.full) {
          const group = this.#turns.take((one) => this.#starts.may(one));
          if (!group) break;
          if (this.#options.deficit(group) > 0) this.#consider(group);
        }
      } while (this.#again);
    } finally {
      this.#pumping = false;
    }
  }

  #unblock(): void {
    if (!this.#memoryFreed) return;
    this.#memoryFreed = false;
    this.#claims = new Ledger();
    for (const group of this.#blocked) {
      group.blocked = false;
      this.#turns.add(group.revision.project, group);
    }
    this.#blocked.clear();
  }

  #serveOneOffs(): void {
    for (let i = 0; i < this.#oneOffs.length;) {
      const wait = this.#oneOffs[i]!;
      if (wait.takesTurn && !this.#starts.may(oneOffs)) return;
      // Nothing has been given back since room was made for it.
      if (wait.claimed === this.#claims) {
        i++;
        continue;
      }
      const verdict = this.#verdict(wait.bytes, wait.of);
      wait.overQuota = verdict.kind === "refuse" && verdict.why === "over_quota";
      if (verdict.kind === "start") {
        this.#oneOffs.splice(i, 1);
        wait.cancel();
        this.ledger.take(wait.of?.project ?? null, wait.bytes);
        wait.admitted.resolve(wait.takesTurn ? this.#begin(oneOffs) : () => undefined);
        continue;
      }
      if (verdict.kind === "wait") {
        wait.claimed = this.#claims;
        this.#makeRoom(wait.of?.project ?? null, wait.bytes, verdict.evict);
      } else wait.held(verdict.why);
      i++;
    }
  }

  #begin(one: Group | typeof oneOffs): () => void {
    return this.#starts.begin(one, () => {
      this.#pump();
      this.#options.turnOver();
    });
  }

  #consider(group: Group): void {
    const { project, settings } = group.revision;
    const bytes = settings.memoryMb * MiB;
    let verdict = this.#verdict(bytes, holderOf(group.revision));
    if (verdict.kind === "start") {
      group.refused = null;
      this.ledger.take(project, bytes);
      this.#options.start(group, this.#begin(group));
      if (this.#options.deficit(group) > 0) this.#turns.add(project, group);
      return;
    }
    this.#blocked.add(group);
    group.blocked = true;
    if (verdict.kind === "refuse") {
      if (group.refused === verdict.why) return;
      group.refused = verdict.why;
      this.#options.refused(group, verdict.why);
      return;
    }
    // Room for as many as could start at the same time, not one after the other's end.
    const rounds = Math.min(this.#options.deficit(group), this.#options.concurrentStarts);
    for (let i = 0; i < rounds && verdict.kind === "wait"; i++) {
      this.#makeRoom(project, bytes, verdict.evict);
      if (i + 1 < rounds) verdict = this.#verdict(bytes, holderOf(group.revision));
    }
  }

  #makeRoom(project: string | null, bytes: number, evict: readonly string[]): void {
    this.#claims.take(project, bytes);
    for (const instance of evict) this.#options.evict(instance);
  }

  #verdict(bytes: number, of: QuotaHolder | null): Verdict {
    const { limitBytes, quotas, idle } = this.#options;
    return admit(
      bytes,
      { taken: sum(this.ledger.machine, this.#claims.machine), limitBytes },
      of && {
        name: of.project,
        workload: of.workload,
        taken: sum(this.ledger.project(of.project), this.#claims.project(of.project)),
        quotas: quotas(of.project),
      },
      idle,
    );
  }
}

export function holderOf(revision: Revision): QuotaHolder {
  return { project: revision.project, workload: keyOf(revision) };
}

function sum(a: Taken, b: Taken): Taken {
  return {
    bytes: a.bytes + b.bytes,
    endingBytes: a.endingBytes,
    instances: a.instances + b.instances,
    endingInstances: a.endingInstances,
  };
}
