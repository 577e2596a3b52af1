// What the activator keeps of one workload: who waits, which instances have room, and what it learned of both.

import type { Load } from "#autoscaler/door.ts";
import type { Cancel } from "#model/clock.ts";
import type { Failure } from "#model/instance.ts";
import type { Revision } from "#model/workload.ts";
import { smooth, type Obstacle } from "./decide.ts";
import type { ActiveInvocation } from "./invocation.ts";
import type { LiveInstance } from "./live-instance.ts";
import { Line } from "./queue.ts";
import { Slots } from "./slots.ts";

export class Lane {
  /** The one that serves; those waiting go to it. */
  revision: Revision;
  /** The workload was removed: nothing new comes. */
  removed = false;
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
  #executionMs: number | null = null;
  #startMs: number | null = null;

  constructor(revision: Revision) {
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

  /** Another revision serves: what was learned of the last one's failures says nothing about it. */
  serve(revision: Revision): void {
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

  load(starting: number): Load {
    const { revision, ready, active, lastActiveUs } = this;
    const [executionMs, startMs] = [this.#executionMs, this.#startMs];
    return { revision, waiting: this.line.length, active, ready, starting, lastActiveUs, executionMs, startMs };
  }
}
