// An exchange in node:http's own terms, for what is written against those: the API, which is Fastify's.

import type * as http from "node:http";
import { IncomingMessage, ServerResponse } from "#lib/http.ts";
import type { Connection } from "./connection.ts";
import type { BodyReceiver } from "../client-exchange.ts";
import type { Exchange } from "./exchange.ts";

/** What node:http's parser tells a request of its headers by: which of them are joined, and which are kept once, is Node's to say. */
interface HeaderTaker {
  _addHeaderLines(rawHeaders: string[], count: number): void;
}

/** node:http's request, with the exchange's body. */
class ExchangeRequest extends IncomingMessage implements BodyReceiver {
  readonly #exchange: Exchange;

  constructor(exchange: Exchange, connection: Connection) {
    super(connection.socket);
    this.#exchange = exchange;
    const { method, target, rawHeaders, versionMajor, versionMinor } = exchange.head;
    Object.assign(this, { method, url: target, httpVersionMajor: versionMajor, httpVersionMinor: versionMinor });
    this.httpVersion = `${versionMajor}.${versionMinor}`;
    (this as unknown as HeaderTaker)._addHeaderLines([...rawHeaders], rawHeaders.length);
  }

  override _read(): void {
    this.#exchange.resumeBody();
  }

  data(chunk: Buffer): void {
    if (!this.push(chunk)) this.#exchange.pauseBody();
  }

  end(): void {
    this.complete = true;
    this.push(null);
  }

  failed(error: Error): void {
    this.destroy(error);
  }

  /** Not node:http's, which breaks the connection off before anybody can answer. */
  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    done(error);
  }
}

/** Serves it when it is its turn; the connection goes on when the response is finished. */
export function withNodeObjects(
  exchange: Exchange,
  connection: Connection,
  asksFirst: boolean,
  serve: (request: http.IncomingMessage, response: http.ServerResponse) => void,
): void {
  if (asksFirst) exchange.continue();
  exchange.answeredElsewhere(() => {
    const request = new ExchangeRequest(exchange, connection);
    const response = new ServerResponse(request);
    response.shouldKeepAlive = exchange.head.keepAlive && !connection.isLast(exchange);
    response.assignSocket(connection.socket);
    // What node:http's server does for its own responses: it tells one that waits when the socket is empty, and ends the
    // connection where the head has said so (`_last`), whoever decided it.
    const goOn = (): void => void (response.writableNeedDrain && response.emit("drain"));
    connection.socket.on("drain", goOn);
    response.on("finish", () => {
      connection.socket.off("drain", goOn);
      response.detachSocket(connection.socket);
      exchange.doneElsewhere((response as unknown as { readonly _last: boolean })._last);
    });
    // A request that breaks off is told of by its end; nobody has to listen for its error.
    request.on("error", () => undefined);
    exchange.receive(request);
    serve(request, response);
  });
}
