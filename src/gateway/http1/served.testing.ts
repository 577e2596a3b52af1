// A server whose requests a test answers itself, and the test's clients; `stop` ends all of it.

import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { until } from "#activator/world.testing.ts";
import { systemClock } from "#model/clock.ts";
import { parserError } from "../problem.ts";
import type { ClientExchange } from "../client-exchange.ts";
import type { Connection } from "./connection.ts";
import type { Exchange } from "./exchange.ts";
import { Http1Server, type Http1ServerOptions } from "./server.ts";

export interface Client {
  readonly socket: Socket;
  readonly received: () => string;
  /** Rejects where the connection was broken off. */
  readonly ended: Promise<unknown>;
}

export class Served {
  readonly server: Http1Server;
  port = 0;
  closing = false;
  /** Every request asks to become another protocol's. */
  upgrading = false;
  readonly exchanges: Exchange[] = [];
  /** Those of HTTP/2. */
  readonly multiplexed: ClientExchange[] = [];
  /** Exchanges whose client has gone. */
  gone = 0;
  /** Of the latest request. */
  connection: Connection | null = null;
  /** Whose connections they are, in the order in which they come; then "x". */
  readonly parties: (string | null)[] = [];
  readonly #sockets: Socket[] = [];

  private constructor(options: Partial<Http1ServerOptions>) {
    const closing = (): boolean => this.closing;
    this.server = new Http1Server(
      {
        get closing() {
          return closing();
        },
        request: (exchange, connection) => {
          this.connection = connection;
          exchange.answeredBy({ drained() {}, gone: () => void this.gone++ });
          this.exchanges.push(exchange);
          return this.upgrading;
        },
        upgrade() {},
        multiplexed: (exchange) => void this.multiplexed.push(exchange),
        unreadable(code, exchange, connection) {
          if (exchange !== null) exchange.bodyFailed(new Error(code));
          else connection.lastWords((last) => last.send(parserError(code).status, [], new Uint8Array(0), true));
        },
      },
      {
        clock: systemClock,
        partyOf: () => (this.parties.length > 0 ? this.parties.shift()! : "x"),
        connections: { inAll: 50, each: 50 },
        ...options,
      },
    );
  }

  static async start(options: Partial<Http1ServerOptions> = {}): Promise<Served> {
    const served = new Served(options);
    served.port = await served.server.listen("127.0.0.1", 0);
    return served;
  }

  async open(): Promise<Client> {
    const socket = connect({ port: this.port, host: "127.0.0.1", noDelay: true });
    this.#sockets.push(socket);
    let received = "";
    socket.on("data", (chunk: Buffer) => void (received += chunk.toString("latin1")));
    socket.on("error", () => undefined);
    const ended = once(socket, "close");
    await once(socket, "connect");
    return { socket, received: () => received, ended };
  }

  arrived(count: number): Promise<void> {
    return until(() => this.exchanges.length === count, `${count} requests`);
  }

  async stop(): Promise<void> {
    const closed = this.server.close();
    this.server.destroyAll();
    await closed;
    for (const socket of this.#sockets) socket.destroy();
  }
}

export function get(target: string, headers = "", version = "1.1"): string {
  return `GET ${target} HTTP/${version}\r\nhost: x\r\n${headers}\r\n`;
}

export function ok(exchange: Exchange, text: string): void {
  exchange.send(200, [], Buffer.from(text), false);
}
