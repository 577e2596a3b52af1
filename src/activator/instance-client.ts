// The connections to one instance, and what is asked of them whichever HTTP they speak. Those of HTTP/1.1: the most recently used one
// first, and none beyond what the instance said it keeps.

import type { Duplex } from "node:stream";
import type { Clock } from "#model/clock.ts";
import type { SocketReader } from "#sandbox/door.ts";
import type { Call } from "./door.ts";
import { InstanceConnection, type ConnectionKeeper, type InstanceExchange } from "./instance-connection.ts";
import { requestHead, type RequestHead } from "./request-head.ts";

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
  /** `deadlineMs`: what remains of the workload's timeout. */
  headOf(call: Call, deadlineMs: number): RequestHead;
  /** `fresh`: by a connection that has carried nothing. */
  send(exchange: InstanceExchange, call: Call, head: RequestHead, nowUs: number, fresh: boolean): InstanceStream;
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

export class Http1Client implements InstanceClient, ConnectionKeeper {
  readonly #connect: (reader?: SocketReader) => Duplex;
  readonly #clock: Clock;
  readonly #idle: InstanceConnection[] = [];
  readonly #all = new Set<InstanceConnection>();

  constructor(connect: (reader?: SocketReader) => Duplex, clock: Clock) {
    this.#connect = connect;
    this.#clock = clock;
  }

  headOf(call: Call, deadlineMs: number): RequestHead {
    return requestHead(call, deadlineMs);
  }

  send(exchange: InstanceExchange, call: Call, head: RequestHead, nowUs: number, fresh: boolean): InstanceStream {
    const { method, body, upgrade } = call;
    const connection = upgrade ? this.#takeToLeave() : this.#take(nowUs, fresh);
    connection.send(exchange, method, head.text, body, upgrade);
    return connection;
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

  closed(connection: InstanceConnection): void {
    this.#all.delete(connection);
    const at = this.#idle.indexOf(connection);
    if (at >= 0) this.#idle.splice(at, 1);
  }

  /** The instance takes nothing new: connections that carry something end by themselves. */
  closeIdle(): void {
    for (const connection of this.#idle.splice(0)) connection.cut();
  }

  /** Nothing of the instance is left. */
  close(): void {
    this.#idle.length = 0;
    for (const connection of this.#all) connection.cut();
    this.#all.clear();
  }
}
