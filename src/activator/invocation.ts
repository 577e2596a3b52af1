// One invocation from its arrival to its end. Where each event leads is here; who waits and which instance is activator.ts.

import type { Duplex } from "node:stream";
import type { EndMark } from "#metering/door.ts";
import type { Cancel, Clock } from "#model/clock.ts";
import { EbbError } from "#model/errors.ts";
import type { Outcome } from "#model/invocation.ts";
import type { Exit } from "#sandbox/door.ts";
import type { Breakage, Connection, Exchange } from "./connection.ts";
import { badResponseError, exitError, exitOutcome, mayRetry, outcomeOfStatus, timeoutError } from "./decide.ts";
import type { Call, Invocation, ReplyHead, ReplySink } from "./door.ts";
import type { Lane } from "./lane.ts";
import type { LiveInstance } from "./live-instance.ts";
import type { Waiter } from "./queue.ts";
import { requestHead } from "./request-head.ts";
import type { ResponseHead } from "./response-head.ts";

/** The start-up that an invocation waited for. */
export interface StartUp {
  readonly us: number;
  readonly cold: boolean;
}

/** What an invocation asks of the activator. */
export interface InvocationKeeper {
  readonly clock: Clock;
  /** The caller went while it waited. */
  abandoned(invocation: ActiveInvocation): void;
  /** It has ended, and is marked: its slot is free. */
  ended(invocation: ActiveInvocation, live: LiveInstance, mark: EndMark): void;
  /** The instance takes nothing more, and is killed when nothing else runs in it. */
  condemn(live: LiveInstance, reason: string): void;
}

/** How long the words of an instance's end are waited for when its connection has broken. */
const exitGraceMs = 1_000;

/**
 * waiting: for a slot. running: in an instance, and somebody is owed an answer.
 * lingering: nobody is owed anything, but the instance has not said that it is done. over: marked, slot free.
 */
type Stage = "waiting" | "running" | "lingering" | "over";

export class ActiveInvocation implements Invocation, Exchange, Waiter {
  readonly call: Call;
  readonly lane: Lane;
  readonly timeMs: number;
  traceId = "";
  handedOverUs = 0;
  cold = false;
  startUs = 0;
  queuedUs = 0;
  stage: Stage = "waiting";
  readonly #keeper: InvocationKeeper;
  #sink: ReplySink | null;
  #live: LiveInstance | null = null;
  #connection: Connection | null = null;
  /** After a 101: what both sides are joined by. */
  #upgraded: Duplex | null = null;
  #requestText = "";
  #retried = false;
  #headSent = false;
  #doneInHead = false;
  /** The instance has said that it is done. */
  #told = false;
  #status: number | null = null;
  /** Decided before its end; null: the status says. */
  #outcome: Outcome | null = null;
  #bytesIn = 0;
  #bytesOut = 0;
  #grace: Cancel | null = null;

  constructor(call: Call, sink: ReplySink, lane: Lane, keeper: InvocationKeeper) {
    this.call = call;
    this.lane = lane;
    this.timeMs = keeper.clock.wallMs();
    this.#sink = sink;
    this.#keeper = keeper;
  }

  get id(): string {
    return this.call.id;
  }

  get arrivedUs(): number {
    return this.call.arrivedUs;
  }

  /** It runs in no instance, and its caller is told why. Marked by the activator before. */
  refuse(error: EbbError): void {
    this.stage = "over";
    this.call.body?.discard();
    this.#take()?.failed(error, false);
  }

  /** Hands it over; `start`: the start-up that it waited for. An error (no room for its marks): it was not. */
  run(live: LiveInstance, start: StartUp): EbbError | null {
    const nowUs = this.#keeper.clock.monotonicUs();
    this.queuedUs = Math.max(0, nowUs - this.arrivedUs - start.us);
    this.startUs = start.us;
    this.cold = start.cold;
    const { id, timeMs, queuedUs, startUs, cold } = this;
    const problem = live.meter.begin({ id, trigger: this.call.trigger, timeMs, queuedUs, startUs, cold });
    if (problem) return problem;
    this.handedOverUs = nowUs;
    this.stage = "running";
    this.#live = live;
    live.enter(this, nowUs);
    const head = requestHead(this.call, live.timeoutMs);
    this.traceId = head.traceId;
    this.#requestText = head.text;
    this.#send(live, nowUs, false);
    return null;
  }

  #send(live: LiveInstance, nowUs: number, fresh: boolean): void {
    const { method, body, upgrade } = this.call;
    this.#connection = live.client.take(nowUs, fresh);
    this.#connection.send(this, method, this.#requestText, body, upgrade);
  }

  // --- what the caller does

  abort(): void {
    if (this.stage === "waiting") {
      this.stage = "over";
      this.#sink = null;
      this.call.body?.discard();
      this.#keeper.abandoned(this);
    } else if (this.stage === "running") {
      this.#callerGone();
    }
  }

  drained(): void {
    this.#connection?.resume();
  }

  #callerGone(): void {
    this.#sink = null;
    this.#outcome = "client_gone";
    const connection = this.#connection;
    if (this.#upgraded !== null) {
      this.#upgraded.destroy();
    } else if (connection !== null && this.#endsWithResponse && !this.#headSent && !this.#told) {
      // A program without a done signal shows that it has ended by answering or by closing: it is told, and listened to.
      this.stage = "lingering";
      connection.halfClose();
    } else {
      this.#disconnect();
      this.#endOrLinger();
    }
  }

  // --- what the exchange with the instance brings

  sent(bytes: number): void {
    this.#bytesIn += bytes;
  }

  head(head: ResponseHead): void {
    const sink = this.#sink;
    if (sink === null) {
      // Half-closed, and it has answered: it is done.
      this.#disconnect();
      this.#finish();
      return;
    }
    this.#status = head.status;
    this.#doneInHead = head.done;
    this.#headSent = true;
    sink.head(this.#replyHead(head));
  }

  data(chunk: Buffer): boolean {
    this.#bytesOut += chunk.length;
    return this.#sink === null || this.#sink.data(chunk);
  }

  end(last: Buffer | null, done: boolean): void {
    this.#connection = null;
    if (last !== null) this.#bytesOut += last.length;
    const sink = this.#take();
    if (this.#endsWithResponse || this.#doneInHead || done || this.#told) {
      const mark = this.#mark();
      if (last !== null) sink?.data(last);
      sink?.end();
      this.#release(mark);
    } else {
      this.stage = "lingering";
      this.#live!.meter.answered(this.#answeredMark());
      if (last !== null) sink?.data(last);
      sink?.end();
    }
  }

  broken(breakage: Breakage): void {
    const live = this.#live!;
    this.#connection = null;
    if (this.#sink === null) return this.#finish();
    if (mayRetry(breakage, this.call.method, this.#retried)) {
      this.#retried = true;
      return this.#send(live, this.#keeper.clock.monotonicUs(), true);
    }
    const error = badResponseError(this.call.workload, breakage);
    if (breakage.kind === "malformed") {
      if (live.capacity === 1) this.#keeper.condemn(live, `nonsense on the wire: ${breakage.message}`);
      this.#fail(error, "error");
    } else if (this.#told) {
      this.#fail(error, "error");
    } else {
      // Most often the instance has died, and its exit is on the way with better words.
      this.#grace = this.#keeper.clock.after(exitGraceMs, () => this.#fail(error, "error"));
    }
  }

  bodyFailed(error: Error): void {
    this.#connection = null;
    if (this.stage !== "running") return;
    if (error instanceof EbbError) this.#fail(error, "error");
    else this.#callerGone();
  }

  upgraded(head: ResponseHead, socket: Duplex): void {
    this.#connection = null;
    const sink = this.#sink;
    if (sink?.upgraded === undefined) {
      socket.destroy();
      return this.#fail(new EbbError("bad_request", "This caller cannot switch protocols."), "error");
    }
    this.#upgraded = socket;
    this.#status = head.status;
    this.#headSent = true;
    // Counters of the socket, so that no byte is looked at twice; a Duplex without them counts as zero.
    const counted: Duplex & { bytesRead?: number; bytesWritten?: number } = socket;
    const [read, written] = [counted.bytesRead ?? 0, counted.bytesWritten ?? 0];
    const early = socket.readableLength;
    socket.once("close", () => {
      this.#upgraded = null;
      this.#bytesOut += (counted.bytesRead ?? 0) - read + early;
      this.#bytesIn += (counted.bytesWritten ?? 0) - written;
      if (this.stage === "over") return;
      this.#take();
      this.#finish();
    });
    sink.upgraded(this.#replyHead(head), socket);
  }

  // --- what the instance does

  /** The runtime says that it is over. */
  toldDone(): void {
    this.#told = true;
    if (this.stage === "lingering") this.#finish();
    // The connection has broken, and the instance lives: this is all that comes.
    else if (this.stage === "running" && this.#grace !== null)
      this.#fail(new EbbError("bad_response", `${this.call.workload}: it ended without a complete answer.`), "error");
  }

  instanceGone(exit: Exit): void {
    if (this.stage === "over") return;
    this.#told = true;
    this.#disconnect();
    if (this.#sink !== null) this.#fail(exitError(this.call.workload, exit), exitOutcome(exit, false));
    else {
      this.#outcome ??= exitOutcome(exit, true);
      this.#finish();
    }
  }

  timedOut(): void {
    if (this.stage === "over") return;
    const live = this.#live!;
    this.#keeper.condemn(live, `timeout after ${live.timeoutMs / 1_000} s`);
    this.#told = true;
    this.#disconnect();
    if (this.#sink !== null) this.#fail(timeoutError(this.call.workload, live.instance.revision), "timeout");
    else {
      this.#outcome ??= "interrupted";
      this.#finish();
    }
  }

  // --- how it ends

  /** The caller hears of an error, or is cut off where the head has gone out; the mark goes before. */
  #fail(error: EbbError, outcome: Outcome): void {
    this.#cancelGrace();
    const sink = this.#take();
    this.#outcome = outcome;
    if (!this.#headSent) this.#status = error.status;
    this.call.body?.discard();
    const over = this.#endsWithResponse || this.#told || this.#live!.condemned !== null;
    const mark = over ? this.#mark() : null;
    if (mark === null) {
      this.stage = "lingering";
      this.#live!.meter.answered(this.#answeredMark());
    }
    sink?.failed(error, this.#headSent);
    if (mark !== null) this.#release(mark);
  }

  #endOrLinger(): void {
    if (this.#endsWithResponse || this.#told) this.#finish();
    else this.stage = "lingering";
  }

  #finish(): void {
    this.#cancelGrace();
    this.#release(this.#mark());
  }

  #mark(): EndMark {
    this.stage = "over";
    const outcome = this.#outcome ?? outcomeOfStatus(this.#status ?? 0);
    const mark = { ...this.#answeredMark(), outcome };
    this.#live!.meter.end(mark);
    return mark;
  }

  #answeredMark(): Omit<EndMark, "outcome"> {
    return { id: this.id, status: this.#status, bytesIn: this.#bytesIn, bytesOut: this.#bytesOut };
  }

  #release(mark: EndMark): void {
    const live = this.#live!;
    live.leave(this);
    this.#keeper.ended(this, live, mark);
  }

  get #endsWithResponse(): boolean {
    return this.#live!.instance.done === "response";
  }

  #disconnect(): void {
    this.#cancelGrace();
    const connection = this.#connection;
    this.#connection = null;
    connection?.cut();
    this.#upgraded?.destroy();
    this.call.body?.discard();
  }

  #cancelGrace(): void {
    this.#grace?.();
    this.#grace = null;
  }

  #take(): ReplySink | null {
    const sink = this.#sink;
    this.#sink = null;
    return sink;
  }

  #replyHead(head: ResponseHead): ReplyHead {
    return {
      status: head.status,
      headers: head.headers,
      lengthBytes: head.lengthBytes,
      queueMs: this.queuedUs / 1_000,
      startMs: this.startUs / 1_000,
      execMs: (this.#keeper.clock.monotonicUs() - this.handedOverUs) / 1_000,
      cold: this.cold,
    };
  }
}
