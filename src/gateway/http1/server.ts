// A listener: its connections, whose they may be, and their end. They speak HTTP/1.1, or HTTP/2 where they begin so. It has a timer
// only while it has connections.

import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { Shares, type SharesBounds } from "#lib/shares.ts";
import type { Cancel, Clock } from "#model/clock.ts";
import { Http2Connection, type Http2Server } from "../http2/connection.ts";
import { Connection, type RequestServer } from "./connection.ts";
import { Held, heldBounds, unreadBounds, type HeldBounds } from "./held.ts";

export interface Http1ServerOptions {
  readonly clock: Clock;
  /** Who shares places: of the address of a client, whose they count as; null: nobody's, and never too many. */
  readonly partyOf: (peer: string) => string | null;
  readonly connections: SharesBounds;
  /** Of what is sent ahead; by default that of ebb's limits. */
  readonly held?: HeldBounds;
  /** Of answers that are not read; by default that of ebb's limits. */
  readonly unread?: HeldBounds;
}

export class Http1Server {
  readonly #listener: Server;
  readonly #serves: RequestServer & Http2Server;
  readonly #clock: Clock;
  readonly #partyOf: Http1ServerOptions["partyOf"];
  /** Those that carry no request rest. */
  readonly #places: Shares<Socket>;
  readonly #connections = new Set<Connection | Http2Connection>();
  readonly #held: Held;
  /** Nobody waits for it to be less: who is refused asks again. */
  readonly #unread: Held;
  #sweep: Cancel | null = null;

  constructor(
    serves: Omit<RequestServer & Http2Server, "closed" | "becameHttp2">,
    { clock, partyOf, connections, held = heldBounds, unread = unreadBounds }: Http1ServerOptions,
  ) {
    this.#clock = clock;
    this.#partyOf = partyOf;
    this.#places = new Shares(connections);
    this.#held = new Held(held, () => {
      for (const connection of this.#connections) connection.flowChanged();
    });
    this.#unread = new Held(unread, () => {});
    this.#serves = {
      get closing() {
        return serves.closing;
      },
      request: (exchange, connection) => serves.request(exchange, connection),
      upgrade: (exchange, take, connection) => serves.upgrade(exchange, take, connection),
      unreadable: (code, exchange, connection) => serves.unreadable(code, exchange, connection),
      multiplexed: (exchange, connection) => serves.multiplexed(exchange, connection),
      becameHttp2: (connection, handover) => {
        this.#connections.delete(connection);
        const account = this.#unread.account(handover.place.party?.name ?? null);
        this.#connections.add(new Http2Connection(handover, account, this.#serves, clock));
      },
      closed: (connection: Connection | Http2Connection) => void this.#connections.delete(connection),
    };
    this.#listener = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#admit(socket));
  }

  /** Resolves with the port that is really listened on; rejects with the system's error. */
  async listen(host: string, port: number): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#listener.once("error", reject);
    this.#listener.listen({ host, port, backlog: 4_096 }, resolve);
    await promise;
    return (this.#listener.address() as AddressInfo).port;
  }

  /** Of bodies, for nobody has taken them yet. */
  get heldBytes(): number {
    return this.#held.bytes;
  }

  /** Of whole answers that their clients have not read. */
  get unreadBytes(): number {
    return this.#unread.bytes;
  }

  /** Takes no new connection, ends those that carry nothing; resolves when the last has ended. */
  async close(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#listener.close(() => resolve());
    for (const connection of this.#connections) connection.closing();
    await promise;
    this.#sweep?.();
  }

  /** Breaks off those that are left. */
  destroyAll(): void {
    for (const connection of this.#connections) connection.destroy();
  }

  #admit(socket: Socket): void {
    const party = this.#partyOf(socket.remoteAddress ?? "");
    const taken = this.#places.take(party, socket);
    if (taken === null) return void socket.destroy();
    taken.displaced?.destroy();
    this.#connections.add(new Connection(socket, taken.place, this.#serves, this.#clock, this.#held.account(party)));
    this.#sweep ??= this.#clock.after(sweepEveryMs, this.#onSweep);
  }

  readonly #onSweep = (): void => {
    const nowUs = this.#clock.monotonicUs();
    // What came while the loop was held up is read before a client is judged by it: behind the timers the loop reads.
    setImmediate(() => {
      for (const connection of this.#connections) connection.sweep(nowUs);
      this.#sweep = this.#connections.size > 0 ? this.#clock.after(sweepEveryMs, this.#onSweep) : null;
    });
  };
}

const sweepEveryMs = 5_000;
