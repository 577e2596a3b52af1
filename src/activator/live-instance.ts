// A ready instance as the activator keeps it: what runs in it, its connections, its marks, and its invocations' timeouts.

import type { Instance } from "#fleet/door.ts";
import { Members } from "#lib/members.ts";
import type { InstanceMeter } from "#metering/door.ts";
import type { Cancel, Clock } from "#model/clock.ts";
import type { InvocationId } from "#model/ids.ts";
import { protocolOf } from "#model/workload.ts";
import { Http2Client } from "./http2-client.ts";
import { Http1Client, type InstanceClient } from "./instance-client.ts";
import type { ActiveInvocation } from "./invocation.ts";
import type { Slotted } from "./slots.ts";

export class LiveInstance implements Slotted {
  readonly instance: Instance;
  readonly meter: InstanceMeter;
  readonly client: InstanceClient;
  readonly capacity: number;
  readonly timeoutMs: number;
  /** In the order of their hand-over, so the first is the next to time out. */
  readonly running = new Members<ActiveInvocation>();
  /** The fleet wants it back: no new invocation. */
  released = false;
  /** It did what ends an instance: no new invocation, and it is killed when nothing else runs in it. null: it did not. */
  condemned: string | null = null;
  /** Depth of the last invocation: for calls that it makes after one has ended. */
  lastDepth = 0;
  readonly #clock: Clock;
  #timer: Cancel | null = null;

  constructor(instance: Instance, meter: InstanceMeter, clock: Clock) {
    this.instance = instance;
    this.meter = meter;
    this.client =
      protocolOf(instance.revision) === "h2c"
        ? new Http2Client(() => instance.connect(), clock)
        : new Http1Client((reader) => instance.connect(reader), clock, instance.shares);
    this.capacity = instance.revision.settings.concurrency;
    this.timeoutMs = instance.revision.settings.timeoutSeconds * 1_000;
    this.#clock = clock;
  }

  get active(): number {
    return this.running.size;
  }

  get paused(): boolean {
    return this.instance.paused;
  }

  get usable(): boolean {
    return !this.released && this.condemned === null;
  }

  /** Looked for one by one: few ask, and to keep them by their ids would cost every call. */
  find(id: InvocationId): ActiveInvocation | undefined {
    for (let invocation = this.running.first; invocation !== null; invocation = invocation.after)
      if (invocation.id === id) return invocation;
    return undefined;
  }

  enter(invocation: ActiveInvocation, nowUs: number): void {
    // Before its begin is marked and it is handed over: the instance wakes up meanwhile.
    if (this.running.size === 0) this.instance.busy();
    this.running.add(invocation);
    this.lastDepth = invocation.call.depth;
    if (this.#timer === null) this.#arm(nowUs);
  }

  leave(invocation: ActiveInvocation): void {
    this.running.delete(invocation);
    if (this.running.size === 0) this.instance.idle();
  }

  close(): void {
    this.#timer?.();
    this.#timer = null;
    this.client.close();
    this.meter.close();
  }

  // One timer an instance, not one an invocation: it looks for the oldest when it fires, and sleeps on where that is younger.
  #arm(nowUs: number): void {
    const oldest = this.running.first;
    if (oldest === null) return;
    const dueUs = oldest.handedOverUs + this.timeoutMs * 1_000;
    this.#timer = this.#clock.after(Math.max(0, Math.ceil((dueUs - nowUs) / 1_000)), () => this.#expire());
  }

  #expire(): void {
    this.#timer = null;
    const nowUs = this.#clock.monotonicUs();
    for (const invocation of this.running) {
      if (invocation.handedOverUs + this.timeoutMs * 1_000 > nowUs) break;
      invocation.timedOut();
    }
    if (this.#timer === null) this.#arm(nowUs);
  }
}
