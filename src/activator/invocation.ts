// One invocation from its arrival to its end. Where each event leads is here; who waits and which instance is activator.ts.

import type { Duplex } from "node:stream";
import type { AnsweredMark, EndMark, InvocationMeter, Marked } from "#metering/door.ts";
import type { Cancel, Clock } from "#model/clock.ts";
import { EbbError } from "#model/errors.ts";
import type { Outcome } from "#model/invocation.ts";
import type { Exit } from "#sandbox/door.ts";
import type { InstanceStream } from "./instance-client.ts";
import type { Breakage, InstanceExchange } from "./instance-connection.ts";
import { badResponseError, exitError, exitOutcome, mayRetry, outcomeOfStatus, timeoutError } from "./decide.ts";
import type { Call, FlatHeaders, Invocation, ReplyHead, ReplySink } from "./door.ts";
import type { Lane } from "./lane.ts";
import type { LiveInstance } from "./live-instance.ts";
import type { Waiter } from "./queue.ts";
import type { InstanceRequest } from "./request-head.ts";
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
  /** There was no room for its marks: it was not handed over, and its slot is free. */
  notBegun(invocation: ActiveInvocation, live: LiveInstance, problem: EbbError): void;
  /** It has ended, and its mark is on its way: its slot is free. */
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

/** What goes to the caller when the mark before it is in the journal. */
type Answer =
  | {
      readonly kind: "end";
      readonly head: ReplyHead | null;
      readonly last: Buffer | null;
      readonly trailers?: FlatHeaders | undefined;
    }
  | { readonly kind: "failed"; readonly error: EbbError; readonly headSent: boolean };

export class ActiveInvocation implements Invocation, InstanceExchange, Waiter, Marked {
  readonly call: Call;
  readonly lane: Lane;
  readonly timeMs: number;
  traceId = "";
  handedOverUs = 0;
  cold = false;
  startUs = 0;
  queuedUs = 0;
  stage: Stage = "waiting";
  /** Its neighbours among those that run in its instance. */
  before: ActiveInvocation | null = null;
  after: ActiveInvocation | null = null;
  readonly #keeper: InvocationKeeper;
  #sink: ReplySink | null;
  #live: LiveInstance | null = null;
  #meter: InvocationMeter | null = null;
  #connection: InstanceStream | null = null;
  /** After a 101: what both sides are joined by. */
  #upgraded: Duplex | null = null;
  /** Kept for another try, until an answer has begun. */
  #request: InstanceRequest | null = null;
  /** Its begin is marked, and it is on its way to the instance or there. */
  #handedOver = false;
  /** Of a response that has arrived whole: it goes out with the end. */
  #wholeHead: ReplyHead | null = null;
  #answer: Answer | null = null;
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

  /** It runs in no instance, and its caller is told why as soon as that is marked, by the activator. */
  refuse(error: EbbError): void {
    this.stage = "over";
    this.call.body?.discard();
    this.#answer = { kind: "failed", error, headSent: false };
  }

  /** Takes its slot; `start`: the start-up that it waited for. It is handed over when its begin is marked. */
  run(live: LiveInstance, start: StartUp): void {
    const nowUs = this.#keeper.clock.monotonicUs();
    this.queuedUs = Math.max(0, nowUs - this.arrivedUs - start.us);
    this.startUs = start.us;
    this.cold = start.cold;
    this.handedOverUs = nowUs;
    this.stage = "running";
    this.#live = live;
    live.enter(this, nowUs);
    const { id, timeMs, queuedUs, startUs, cold } = this;
    const begun = live.meter.begin({ id, trigger: this.call.trigger, timeMs, queuedUs, startUs, cold }, this);
    if (begun instanceof EbbError) this.#notBegun(begun);
    else this.#meter = begun;
  }

  /** A mark of it is in the journal: its begin, or what goes before its answer. */
  marked(problem: EbbError | null): void {
    const answer = this.#answer;
    if (answer !== null) {
      this.#answer = null;
      return this.#give(answer);
    }
    if (this.stage !== "running" || this.#handedOver) return;
    if (problem !== null) return this.#notBegun(problem);
    // Its caller has left in between.
    if (this.#sink === null) return this.#finish();
    this.#handedOver = true;
    const live = this.#live!;
    this.#request = live.client.requestOf(this.call, live.timeoutMs);
    this.traceId = this.#request.traceId;
    this.#bytesIn = this.#request.bodyBytes;
    this.#send(live, this.#request, this.handedOverUs, false);
  }

  #notBegun(problem: EbbError): void {
    const live = this.#live!;
    live.leave(this);
    this.#keeper.notBegun(this, live, problem);
  }

  #give(answer: Answer): void {
    const sink = this.#take();
    if (sink === null) return;
    if (answer.kind === "failed") return sink.failed(answer.error, answer.headSent);
    const { head, last, trailers } = answer;
    if (head !== null && sink.whole !== undefined) return sink.whole(head, last);
    if (head !== null) sink.head(head);
    if (last !== null) sink.data(last);
    sink.end(trailers);
  }

  #send(live: LiveInstance, request: InstanceRequest, nowUs: number, fresh: boolean): void {
    this.#connection = live.client.send(this, this.call, request, nowUs, fresh);
  }

  // --- what the caller does

  abort(): void {
    if (this.stage === "waiting") {
      this.stage = "over";
      this.#sink = null;
      this.call.body?.discard();
      this.#keeper.abandoned(this);
    } else if (this.stage === "running" && this.#handedOver) {
      this.#callerGone();
    } else {
      // Its begin is being marked, or what goes before its answer.
      this.#sink = null;
      if (this.stage !== "running") return;
      this.#outcome = "client_gone";
      this.call.body?.discard();
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

  head(head: ResponseHead, whole: boolean): void {
    const sink = this.#sink;
    if (sink === null) {
      // Half-closed, and it has answered: it is done.
      this.#disconnect();
      this.#finish();
      return;
    }
    this.#request = null;
    this.#status = head.status;
    this.#doneInHead = head.done;
    if (whole) {
      this.#wholeHead = this.#replyHead(head);
      return;
    }
    this.#headSent = true;
    sink.head(this.#replyHead(head));
  }

  data(chunk: Buffer): boolean {
    this.#bytesOut += chunk.length;
    return this.#sink === null || this.#sink.data(chunk);
  }

  end(last: Buffer | null, done: boolean, trailers?: FlatHeaders): void {
    this.#connection = null;
    if (last !== null) this.#bytesOut += last.length;
    this.#answer = { kind: "end", head: this.#wholeHead, last, trailers };
    this.#wholeHead = null;
    if (this.#endsWithResponse || this.#doneInHead || done || this.#told) {
      this.#release(this.#mark());
    } else {
      this.stage = "lingering";
      this.#meter!.answered(this.#answeredMark(), this);
    }
  }

  broken(breakage: Breakage): void {
    const live = this.#live!;
    this.#connection = null;
    if (this.#sink === null) return this.#finish();
    if (this.#request !== null && mayRetry(breakage, this.call.method, this.#retried)) {
      this.#retried = true;
      return this.#send(live, this.#request, this.#keeper.clock.monotonicUs(), true);
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
    if (sink === null) {
      socket.destroy();
      return this.#finish();
    }
    if (sink.upgraded === undefined) {
      socket.destroy();
      return this.#fail(new EbbError("bad_request", "This caller cannot switch protocols."), "error");
    }
    this.#request = null;
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
    if (this.stage === "over" || !this.#handedOver) return;
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
    this.#answer = { kind: "failed", error, headSent: this.#headSent };
    this.#outcome = outcome;
    if (!this.#headSent) this.#status = error.status;
    this.call.body?.discard();
    if (this.#endsWithResponse || this.#told || this.#live!.condemned !== null) return this.#release(this.#mark());
    this.stage = "lingering";
    this.#meter!.answered(this.#answeredMark(), this);
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
    const mark = { outcome, status: this.#status, bytesIn: this.#bytesIn, bytesOut: this.#bytesOut };
    if (this.#answer === null) this.#meter!.end(mark);
    else this.#meter!.end(mark, this);
    return mark;
  }

  #answeredMark(): AnsweredMark {
    return { status: this.#status, bytesIn: this.#bytesIn, bytesOut: this.#bytesOut };
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
      trails: head.trails === true,
      queueMs: this.queuedUs / 1_000,
      startMs: this.startUs / 1_000,
      execMs: (this.#keeper.clock.monotonicUs() - this.handedOverUs) / 1_000,
      cold: this.cold,
    };
  }
}
