// A listener for HTTP/1.1: its connections, and their end. It has a timer only while it has connections.

import { createServer, type AddressInfo, type Server } from "node:net";
import type { Cancel, Clock } from "#model/clock.ts";
import { httpLimits } from "#model/limits.ts";
import { Connection, type RequestServer } from "./connection.ts";

export class Http1Server {
  readonly #listener: Server;
  readonly #serves: RequestServer;
  readonly #clock: Clock;
  readonly #connections = new Set<Connection>();
  #sweep: Cancel | null = null;

  constructor(serves: Omit<RequestServer, "closed">, clock: Clock) {
    this.#clock = clock;
    this.#serves = {
      get closing() {
        return serves.closing;
      },
      request: (exchange, connection) => serves.request(exchange, connection),
      upgrade: (exchange, socket, early, connection) => serves.upgrade(exchange, socket, early, connection),
      unreadable: (code, exchange, connection) => serves.unreadable(code, exchange, connection),
      closed: (connection) => void this.#connections.delete(connection),
    };
    this.#listener = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      this.#connections.add(new Connection(socket, this.#serves, clock));
      this.#sweep ??= clock.after(sweepEveryMs, this.#onSweep);
    });
    this.#listener.maxConnections = httpLimits.connections;
  }

  /** Resolves with the port that is really listened on; rejects with the system's error. */
  async listen(host: string, port: number): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#listener.once("error", reject);
    this.#listener.listen({ host, port, backlog: 4_096 }, resolve);
    await promise;
    return (this.#listener.address() as AddressInfo).port;
  }

  /** Takes no new connection, ends those that carry nothing; resolves when the last has ended. */
  async close(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#listener.close(() => resolve());
    for (const connection of this.#connections) if (connection.idle) connection.destroy();
    await promise;
    this.#sweep?.();
  }

  /** Breaks off those that are left. */
  destroyAll(): void {
    for (const connection of this.#connections) connection.destroy();
  }

  readonly #onSweep = (): void => {
    const nowUs = this.#clock.monotonicUs();
    for (const connection of this.#connections) connection.sweep(nowUs);
    this.#sweep = this.#connections.size > 0 ? this.#clock.after(sweepEveryMs, this.#onSweep) : null;
  };
}

const sweepEveryMs = 5_000;
