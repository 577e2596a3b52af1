// Who sends and who carries, in the simulation: requests with a beginning and exactly one end, held first come first served.

import assert from "node:assert/strict";
import type { Cancel, Clock } from "#model/clock.ts";
import type { Failure } from "#model/instance.ts";
import { waitingLimits } from "#model/limits.ts";
import { keyOf, type ServingRevision, type WorkloadKey } from "#model/workload.ts";
import type { Load } from "#autoscaler/door.ts";
import type { FleetUser } from "../../src/fleet/door.ts";
import type { Instance } from "#fleet/door.ts";
import type { Exit } from "#sandbox/door.ts";

export type End =
  | "ok"
  | "timeout"
  | "aborted"
  | "exited"
  | "start_failed"
  | "crash_loop"
  | "queue_timeout"
  | "queue_full"
  | "gone";

export interface Request {
  readonly number: number;
  readonly executionMs: number;
  readonly arrivedUs: number;
  end: End | null;
  endedUs: number;
  slot: Slot | null;
  timer: Cancel | null;
}

interface Slot {
  readonly instance: Instance;
  readonly active: Set<Request>;
  released: boolean;
}

interface Row {
  revision: ServingRevision | null;
  readonly waiting: Set<Request>;
  readonly slots: Map<string, Slot>;
  active: number;
  lastActiveUs: number | null;
  executionMs: number | null;
  startMs: number | null;
  crashedUntilUs: number;
}

export interface CrowdOptions {
  readonly clock: Clock;
  readonly report: (load: Load) => void;
  readonly idle: (instance: string) => void;
  readonly kill: (instance: string, reason: string) => void;
}

/** Stands where the activator stands, with time in place of HTTP. */
export class Crowd implements FleetUser {
  readonly requests: Request[] = [];
  refusals = 0;
  readonly #options: CrowdOptions;
  readonly #rows = new Map<string, Row>();
  readonly #slots = new Map<string, { row: Row; slot: Slot }>();

  constructor(options: CrowdOptions) {
    this.#options = options;
  }

  changed(key: WorkloadKey, revision: ServingRevision | null): void {
    const row = this.#row(key);
    row.revision = revision;
    row.crashedUntilUs = 0;
    if (!revision) for (const request of row.waiting) this.#ended(row, request, "gone");
    this.#report(row);
  }

  send(key: WorkloadKey, executionMs: number, abortAfterMs: number | null): Request {
    const { clock } = this.#options;
    const row = this.#row(key);
    const request: Request = {
      number: this.requests.length,
      executionMs,
      arrivedUs: clock.monotonicUs(),
      end: null,
      endedUs: 0,
      slot: null,
      timer: null,
    };
    this.requests.push(request);
    if (!row.revision) this.#ended(row, request, "gone");
    else if (clock.monotonicUs() < row.crashedUntilUs && row.slots.size === 0) this.#ended(row, request, "crash_loop");
    else if (row.waiting.size >= waitingLimits.perWorkload) this.#ended(row, request, "queue_full");
    else {
      row.waiting.add(request);
      request.timer = clock.after(waitingLimits.deadlineMs, () => {
        if (request.slot || request.end) return;
        this.#ended(row, request, "queue_timeout");
        this.#report(row);
      });
      if (abortAfterMs !== null)
        clock.after(abortAfterMs, () => {
          if (request.end) return;
          const { slot } = request;
          this.#ended(row, request, "aborted");
          this.#after(row, slot);
        });
      this.#carry(row);
      this.#report(row);
    }
    return request;
  }

  ready(instance: Instance): void {
    const row = this.#row(instance.revision);
    const slot: Slot = { instance, active: new Set(), released: false };
    row.slots.set(instance.id, slot);
    this.#slots.set(instance.id, { row, slot });
    row.startMs = smooth(row.startMs, instance.startUs / 1000);
    row.crashedUntilUs = 0;
    this.#carry(row);
    this.#report(row);
  }

  done(): void {}

  release(instance: string): boolean {
    const found = this.#slots.get(instance);
    assert.ok(found, "released an instance that is not there");
    found.slot.released = true;
    this.#report(found.row);
    return found.slot.active.size === 0;
  }

  gone(instance: string, exit: Exit): void {
    const found = this.#slots.get(instance);
    assert.ok(found, "an instance went twice");
    const { row, slot } = found;
    this.#slots.delete(instance);
    row.slots.delete(instance);
    for (const request of slot.active) this.#ended(row, request, exit.reason === "killed" ? "timeout" : "exited");
    this.#carry(row);
    this.#report(row);
  }

  startFailed(revision: ServingRevision, _failure: Failure, retryInMs: number): void {
    const row = this.#row(revision);
    if (row.revision?.number !== revision.number) return;
    row.crashedUntilUs = this.#options.clock.monotonicUs() + retryInMs * 1000;
    if (row.slots.size === 0) for (const request of row.waiting) this.#ended(row, request, "start_failed");
    this.#report(row);
  }

  full(): void {
    this.refusals++;
  }

  activeIn(instance: string): number {
    return this.#slots.get(instance)?.slot.active.size ?? 0;
  }

  load(key: WorkloadKey): { waiting: number; active: number; ready: number; lastActiveMs: number | null } {
    const row = this.#row(key);
    const lastActiveMs = row.lastActiveUs === null ? null : row.lastActiveUs / 1000;
    return { waiting: row.waiting.size, active: row.active, ready: this.#readyOf(row), lastActiveMs };
  }

  /** Workloads in which requests wait and no instance takes any. */
  *stranded(): Iterable<ServingRevision> {
    for (const row of this.#rows.values())
      if (row.revision && row.waiting.size > 0 && this.#readyOf(row) === 0) yield row.revision;
  }

  get held(): number {
    return this.#slots.size;
  }

  #row(key: WorkloadKey): Row {
    let row = this.#rows.get(keyOf(key));
    if (!row) {
      row = {
        revision: null,
        waiting: new Set(),
        slots: new Map(),
        active: 0,
        lastActiveUs: null,
        executionMs: null,
        startMs: null,
        crashedUntilUs: 0,
      };
      this.#rows.set(keyOf(key), row);
    }
    return row;
  }

  #readyOf(row: Row): number {
    let ready = 0;
    for (const slot of row.slots.values())
      if (!slot.released && slot.instance.revision.number === row.revision?.number) ready++;
    return ready;
  }

  /** In the instances that take requests: those that drain count no more. */
  #activeOf(row: Row): number {
    let active = 0;
    for (const slot of row.slots.values())
      if (!slot.released && slot.instance.revision.number === row.revision?.number) active += slot.active.size;
    return active;
  }

  #report(row: Row): void {
    if (!row.revision) return;
    this.#options.report({
      revision: row.revision,
      waiting: row.waiting.size,
      active: this.#activeOf(row),
      ready: this.#readyOf(row),
      starting: 0,
      lastActiveUs: row.lastActiveUs,
      executionMs: row.executionMs,
      startMs: row.startMs,
    });
  }

  #carry(row: Row): void {
    for (const request of row.waiting) {
      const slot = this.#freeSlot(row);
      if (!slot) return;
      row.waiting.delete(request);
      this.#run(row, slot, request);
    }
  }

  #freeSlot(row: Row): Slot | null {
    for (const slot of row.slots.values()) {
      const { revision } = slot.instance;
      if (slot.released || revision.number !== row.revision?.number) continue;
      if (slot.active.size < revision.settings.concurrency) return slot;
    }
    return null;
  }

  #run(row: Row, slot: Slot, request: Request): void {
    const { clock, kill } = this.#options;
    const { settings } = slot.instance.revision;
    if (slot.active.size === 0) slot.instance.busy();
    assert.ok(!slot.instance.paused, "handed to an instance that is paused");
    slot.active.add(request);
    assert.ok(slot.active.size <= settings.concurrency, "more in an instance than its concurrency");
    row.active++;
    request.slot = slot;
    request.timer?.();
    const timeoutMs = settings.timeoutSeconds * 1000;
    request.timer = clock.after(Math.min(request.executionMs, timeoutMs), () => {
      const late = request.executionMs > timeoutMs;
      if (!late) row.executionMs = smooth(row.executionMs, request.executionMs);
      this.#ended(row, request, late ? "timeout" : "ok");
      if (late && settings.concurrency === 1) kill(slot.instance.id, "timeout");
      this.#after(row, slot);
    });
  }

  /** Something has left an instance, or the queue. */
  #after(row: Row, slot: Slot | null): void {
    if (slot?.released && slot.active.size === 0) this.#options.idle(slot.instance.id);
    this.#carry(row);
    this.#report(row);
  }

  #ended(row: Row, request: Request, end: End): void {
    assert.equal(request.end, null, `request ${request.number} ended twice: ${request.end}, ${end}`);
    request.end = end;
    request.endedUs = this.#options.clock.monotonicUs();
    request.timer?.();
    row.waiting.delete(request);
    if (!request.slot) return;
    request.slot.active.delete(request);
    if (request.slot.active.size === 0) request.slot.instance.idle();
    row.active--;
    row.lastActiveUs = request.endedUs;
  }
}

function smooth(before: number | null, now: number): number {
  return before === null ? now : before + (now - before) * 0.2;
}
