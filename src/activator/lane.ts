// What the activator keeps of one workload: who waits, which instances have room, and what it learned of both.

import type { Load } from "#autoscaler/door.ts";
import type { Cancel } from "#model/clock.ts";
import type { Failure } from "#model/instance.ts";
import { requestsEach, type ServingRevision } from "#model/workload.ts";
import { smooth, type Obstacle } from "./decide.ts";
import type { ActiveInvocation } from "./invocation.ts";
import type { LiveInstance } from "./live-instance.ts";
import { Line } from "./queue.ts";
import { Slots } from "./slots.ts";

export class Lane {
  /** The one that serves; those waiting go to it. */
  revision: ServingRevision;
  /** The workload was removed: nothing new comes. */
  removed = false;
  /** Those with which its load will be reported, for it has changed since that was done; null: it has not. */
  unreported: readonly Lane[] | null = null;
  readonly line = new Line<ActiveInvocation>();
  /** Of the serving revision alone. */
  readonly slots = new Slots<LiveInstance>();
  /** Of every revision, until nothing of them is left. */
  readonly instances = new Set<LiveInstance>();
  obstacle: Obstacle = null;
  lastFailure: Failure | null = null;
  /** Monotonic us until when no start is tried. */
  backOffUntilUs = 0;
  lastActiveUs: number | null = null;
  /** Of the line's first. */
  deadline: Cancel | null = null;
  /** As it was noted last. */
  #told: { readonly revision: ServingRevision | null; waiting: number; ready: number; busy: number; inUse: number } = {
    revision: null,
    waiting: 0,
    ready: 0,
    busy: 0,
    inUse: 0,
  };
  #executionMs: number | null = null;
  #startMs: number | null = null;

  constructor(revision: ServingRevision) {
    this.revision = revision;
  }

  serves(live: LiveInstance): boolean {
    return live.usable && live.instance.revision.number === this.revision.number;
  }

  started(live: LiveInstance): void {
    this.instances.add(live);
    this.#startMs = smooth(this.#startMs, live.instance.startUs / 1_000);
    if (!this.serves(live)) return;
    this.obstacle = null;
    this.lastFailure = null;
    this.backOffUntilUs = 0;
  }

  executed(ms: number): void {
    this.#executionMs = smooth(this.#executionMs, ms);
  }

  takeSlot(): LiveInstance | undefined {
    return this.slots.take(this.revision.settings.scaling !== undefined);
  }

  /** Another revision serves: what was learned of the last one's failures says nothing about it. */
  serve(revision: ServingRevision): void {
    this.revision = revision;
    this.obstacle = null;
    this.lastFailure = null;
    this.backOffUntilUs = 0;
    this.slots.clear();
    for (const live of this.instances) {
      if (this.serves(live) && live.active < live.capacity) this.slots.offer(live);
    }
  }

  get ready(): number {
    let ready = 0;
    for (const live of this.instances) if (this.serves(live)) ready++;
    return ready;
  }

  /** In instances of the serving revision: the others need no slot of it. */
  get active(): number {
    let active = 0;
    for (const live of this.instances) if (this.serves(live)) active += live.active;
    return active;
  }

  /**
   * Notes the load as it is reported now. False: nothing has changed since the last time that decides how many instances there
   * should be, or which could go; most calls only come and go in instances that are at work anyway.
   */
  noteLoad(): boolean {
    let [ready, active, busy] = [0, 0, 0];
    for (const live of this.instances) {
      if (live.active > 0) busy++;
      if (!this.serves(live)) continue;
      ready++;
      active += live.active;
    }
    const waiting = this.line.length;
    const inUse = Math.ceil(active / requestsEach(this.revision.settings));
    const told = this.#told;
    const same = ready === told.ready && busy === told.busy && inUse === told.inUse && told.revision === this.revision;
    if (same && waiting === 0 && told.waiting === 0) return false;
    this.#told = { revision: this.revision, waiting, ready, busy, inUse };
    return true;
  }

  load(starting: number): Load {
    const { revision, ready, active, lastActiveUs } = this;
    const [executionMs, startMs] = [this.#executionMs, this.#startMs];
    return { revision, waiting: this.line.length, active, ready, starting, lastActiveUs, executionMs, startMs };
  }
}
