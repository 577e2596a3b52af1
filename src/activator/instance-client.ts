// The connections to one instance, and what is asked of them whichever HTTP they speak. Those of HTTP/1.1: the most recently used one
// first, and none beyond what the instance said it keeps; for what is under way at once, one that is shared, where its runtime can.

import type { Duplex } from "node:stream";
import type { Clock } from "#model/clock.ts";
import type { SocketReader } from "#sandbox/door.ts";
import type { Call } from "./door.ts";
import { InstanceConnection, type ConnectionKeeper, type InstanceExchange } from "./instance-connection.ts";
import { requestHead, type InstanceRequest } from "./request-head.ts";
import { SharedConnection, type FramedExchange, type SharedKeeper } from "./shared-connection.ts";

/** An exchange under way, as the invocation sees it. */
export interface InstanceStream {
  /** The exchange takes data again. */
  resume(): void;
  /** Ends it at once; the exchange hears nothing more. */
  cut(): void;
  /** Says that nobody wants the answer, but goes on listening. */
  halfClose(): void;
}

/** How calls get to one instance. */
export interface InstanceClient {
  /** What goes out first: the head, and a body that is short and here, which is taken. `deadlineMs`: what remains of the workload's timeout. */
  requestOf(call: Call, deadlineMs: number): InstanceRequest;
  /** `fresh`: by a connection that has carried nothing. */
  send(exchange: InstanceExchange, call: Call, request: InstanceRequest, nowUs: number, fresh: boolean): InstanceStream;
  /** The instance takes nothing new: what is under way ends by itself. */
  closeIdle(): void;
  /** Nothing of the instance is left. */
  close(): void;
}

// A server that says nothing about how long it keeps a connection: shorter than the usual five seconds.
const silentKeepAliveMs = 4_000;
const longestKeepAliveMs = 60_000;
/** What the server's and our timers may differ by. */
const keepAliveMarginMs = 1_000;

/** A longer head would hold up others on the shared connection; a runtime takes twice as much as this and a short body. */
const shortHeadBytes = 16 * 1024;
/** A body of no more, of which all is here already, goes out with its head, and is kept with it for another try. */
const shortBodyBytes = 16 * 1024;
/** To fetch an answer that has begun on the shared connection. */
const fetchHead = (id: string): string => `GET /ebb/v1/answers/${id} HTTP/1.1\r\nhost: runtime\r\n\r\n`;

export class Http1Client implements InstanceClient, ConnectionKeeper, SharedKeeper {
  readonly #connect: (reader?: SocketReader) => Duplex;
  readonly #clock: Clock;
  readonly #idle: InstanceConnection[] = [];
  readonly #all = new Set<InstanceConnection>();
  /** The runtime can share a connection. */
  #shares: boolean;
  #shared: SharedConnection | null = null;
  /** The last answer came in pieces, and so may the next: by the shared connection it would take twice as many turns. */
  #inPieces = false;

  constructor(connect: (reader?: SocketReader) => Duplex, clock: Clock, shares: boolean) {
    this.#connect = connect;
    this.#clock = clock;
    this.#shares = shares;
  }

  requestOf(call: Call, deadlineMs: number): InstanceRequest {
    const head = requestHead(call, deadlineMs);
    // Behind a long head it could be that a part of both is read, and begun with, before their one write fails.
    const body = head.text.length > shortHeadBytes ? null : (call.body?.takeWhole?.(shortBodyBytes) ?? null);
    if (body === null) return head;
    return { ...head, text: head.text + body.toString("latin1"), bodyBytes: body.length };
  }

  send(
    exchange: InstanceExchange,
    call: Call,
    request: InstanceRequest,
    nowUs: number,
    fresh: boolean,
  ): InstanceStream {
    const { method, upgrade } = call;
    const body = request.bodyBytes > 0 ? null : call.body;
    if (!fresh && body === null && !upgrade && this.#mayShare(request)) {
      this.#shared ??= new SharedConnection((reader) => this.#connect(reader), this);
      if (this.#shared.usable) return this.#shared.send(exchange, call.id, method, request.text);
    }
    const connection = upgrade ? this.#takeToLeave() : this.#take(nowUs, fresh);
    connection.send(exchange, method, request.text, body, upgrade);
    return connection;
  }

  /** Something else is under way, and the runtime will take this one beside it. */
  #mayShare({ text, bodyBytes }: InstanceRequest): boolean {
    if (!this.#shares || this.#inPieces || text.length - bodyBytes > shortHeadBytes) return false;
    return this.#all.size > this.#idle.length || (this.#shared !== null && this.#shared.active > 0);
  }

  moved(framed: FramedExchange): InstanceStream {
    this.#inPieces = true;
    const connection = this.#take(this.#clock.monotonicUs(), false);
    connection.send(framed, framed.method, fetchHead(framed.id), null, false);
    return connection;
  }

  sharedClosed(refused: boolean): void {
    this.#shared = null;
    if (refused) this.#shares = false;
  }

  /** A connection that carries nothing; `fresh`: one that never has. */
  #take(nowUs: number, fresh: boolean): InstanceConnection {
    for (let kept = fresh ? undefined : this.#idle.pop(); kept !== undefined; kept = this.#idle.pop()) {
      if (kept.usable && nowUs < kept.idleUntilUs) return kept;
      kept.cut();
    }
    return this.#add(new InstanceConnection((reader) => this.#connect(reader), this));
  }

  /** One of its own for an exchange that may become another protocol's: its socket is handed on as it is. */
  #takeToLeave(): InstanceConnection {
    return this.#add(new InstanceConnection(() => this.#connect(), this));
  }

  #add(connection: InstanceConnection): InstanceConnection {
    this.#all.add(connection);
    return connection;
  }

  free(connection: InstanceConnection, keepAliveMs: number | null): void {
    const forMs =
      keepAliveMs === null ? silentKeepAliveMs : Math.min(keepAliveMs - keepAliveMarginMs, longestKeepAliveMs);
    if (forMs <= 0) return connection.cut();
    connection.idleUntilUs = this.#clock.monotonicUs() + forMs * 1_000;
    this.#idle.push(connection);
  }

  answers(whole: boolean): void {
    this.#inPieces = !whole;
  }

  closed(connection: InstanceConnection): void {
    this.#all.delete(connection);
    const at = this.#idle.indexOf(connection);
    if (at >= 0) this.#idle.splice(at, 1);
  }

  /** The instance takes nothing new: connections that carry something end by themselves. */
  closeIdle(): void {
    for (const connection of this.#idle.splice(0)) connection.cut();
    if (this.#shared?.active !== 0) return;
    this.#shared.close();
    this.#shared = null;
  }

  /** Nothing of the instance is left. */
  close(): void {
    this.#idle.length = 0;
    this.#shared?.close();
    this.#shared = null;
    for (const connection of this.#all) connection.cut();
    this.#all.clear();
  }
}
