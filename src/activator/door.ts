// Holds an invocation until an instance has a free slot, then carries it there and back. The only way to run a function's code for somebody.

import type { InstanceUser } from "#fleet/door.ts";
import type { InvocationId } from "#model/ids.ts";
import type { TriggerKind } from "#model/invocation.ts";
import type { ServingRevision, WorkloadKey } from "#model/workload.ts";

/** Names and values in turn, as node:http's rawHeaders; already normalised (gateway/steps). */
export type FlatHeaders = readonly string[];

/** A request body that is pulled with back-pressure; until an instance takes them bytes stay in the client's socket, but for the first. */
export interface RequestBody {
  /** From content-length; null: chunked. */
  readonly lengthBytes: number | null;
  /** So much of others is held already that this one should not wait; where it is missing it holds nothing. */
  readonly crowded?: boolean;
  /** All of it, in place of `read`, where it is here already and is no longer than that; null: nothing has been taken. */
  takeWhole?(mostBytes: number): Buffer | null;
  /** Starts the flow, once. */
  read(sink: { data(chunk: Uint8Array): boolean; end(trailers?: FlatHeaders): void; failed(error: Error): void }): void;
  /** After `data` answered false: go on. */
  resume(): void;
  /** Nobody wants the rest. May come at any time, and more than once. */
  discard(): void;
}

export interface Call {
  /** Made by the caller (newInvocationId), so that it can be told before the end. */
  readonly id: InvocationId;
  readonly project: string;
  readonly workload: string;
  readonly trigger: TriggerKind;
  readonly method: string;
  /** Path with its query, as the function shall see it. */
  readonly target: string;
  readonly headers: FlatHeaders;
  /** null: no body. */
  readonly body: RequestBody | null;
  /** How deep in calls from function to function. */
  readonly depth: number;
  /** Monotonic us of arrival. */
  readonly arrivedUs: number;
  /** The connection asks for an upgrade (WebSocket): see ReplySink.upgraded. */
  readonly upgrade: boolean;
}

export interface ReplyHead {
  readonly status: number;
  readonly headers: FlatHeaders;
  /** From content-length; null: chunked or until close. */
  readonly lengthBytes: number | null;
  readonly queueMs: number;
  readonly startMs: number;
  /** From hand-over to this head. */
  readonly execMs: number;
  readonly cold: boolean;
  /** Trailers may follow the body. */
  readonly trails?: boolean;
}

/**
 * Where the answer goes. Exactly one of `whole`, `end`, `failed` and `upgraded` is called last, once; perhaps before `invoke` has
 * returned; nothing after `abort`.
 */
export interface ReplySink {
  /** All of an answer that is there at once, in place of head, data and end. */
  whole?(head: ReplyHead, body: Uint8Array | null): void;
  head(head: ReplyHead): void;
  /** False: full; the activator waits for `drained` of its Invocation. */
  data(chunk: Uint8Array): boolean;
  end(trailers?: FlatHeaders): void;
  /** An EbbError before the head has gone out is the answer; after it, the connection is cut. */
  failed(error: Error, headSent: boolean): void;
  /** The instance answered 101: both sides are joined from here by `socket`, which is paused. */
  upgraded?(head: ReplyHead, socket: import("node:stream").Duplex): void;
}

/** A call under way. */
export interface Invocation {
  readonly id: InvocationId;
  /** The caller has gone: the handler's abort signal fires; billing ends when the instance says so. */
  abort(): void;
  /** The sink takes data again. */
  drained(): void;
}

// What createActivator (activator.ts) wants of daemon.ts:
//   fleet, autoscaler, meter, clock, tell        the rooms (fleet is made first and reaches back by a function)
//   current(project, workload)                   the mirror's serving revision; null: none
//   markActive(instance, invocation)             telemetry.active, where it is wanted
// and after each applied change: autoscaler.changed(…), then activator.changed(…), then fleet.retire(…).

export interface WorkloadLoad {
  readonly waiting: number;
  readonly active: number;
  readonly ready: number;
  readonly lastActiveMs: number | null;
}

/** What a call from inside an instance says about the invocation that it was made in; believed only where that is active there. */
export interface CallerHints {
  readonly invocation: InvocationId | null;
  readonly traceparent: string | null;
}

export interface Activator extends InstanceUser {
  /** Never throws: what is wrong goes to the sink. */
  invoke(call: Call, sink: ReplySink): Invocation;
  /** A deploy, rollback or removal: those waiting go to the new revision; null: they get not_found. */
  changed(key: WorkloadKey, revision: ServingRevision | null): void;
  load(key: WorkloadKey): WorkloadLoad;
  activeIn(instance: string): number;
  runningIn(instance: string): Iterable<InvocationId>;
  /** Depth of the invocation that a call from this instance was made in: the one hinted at, or the deepest that is active. */
  depthIn(instance: string, hints: CallerHints): number;
  /** Refuses new calls with `stopping`; resolves when the running ones have ended or after `graceMs`. */
  drain(graceMs: number): Promise<void>;
}
