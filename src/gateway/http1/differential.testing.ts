// The same bytes to this server and to node:http's: which requests each one reads out of them, and how it ends.

import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { connect, type AddressInfo, type Socket } from "node:net";
import { createServer } from "#lib/http.ts";
import { systemClock } from "#model/clock.ts";
import { httpLimits } from "#model/limits.ts";
import { parserError } from "../problem.ts";
import type { Connection } from "./connection.ts";
import type { Exchange } from "./exchange.ts";
import { withNodeObjects } from "./node-objects.ts";
import { Http1Server } from "./server.ts";

const lastTarget = "/bye";
/** Ends the body of a request that did not come to its end. */
export const cutOff = "…";

/** What a server made of some bytes. */
export interface Reading {
  /** Each request that was read, with its body as far as it came. */
  readonly requests: readonly string[];
  /** The object of each request's headers, in node:http's form; of exchanges there are none. */
  readonly headers: readonly string[];
  /** Status of each answer, in order. */
  readonly answers: readonly number[];
  /** A request said that it was the last; told by the own server alone. */
  readonly wasLast: boolean;
}

export interface Reader {
  /** Sends the pieces one after the other, each when the one before has been taken. */
  read(pieces: readonly string[]): Promise<Reading>;
  stop(): Promise<void>;
}

/** Every request is answered with 200 when its body is complete. */
export async function nodeReader(): Promise<Reader> {
  const seen = new Seen();
  const server: Server = createServer({
    maxHeaderSize: httpLimits.requestHeadBytes,
    requireHostHeader: false,
    shouldUpgradeCallback: () => false,
    noDelay: true,
  });
  server.maxHeadersCount = 0;
  const serve = (request: IncomingMessage, response: ServerResponse): void =>
    serveNode(request, response, seen, () => undefined);
  server.on("request", serve);
  server.on("checkExpectation", serve);
  server.on("connect", (_request, socket) => socket.end("HTTP/1.1 405 Method Not Allowed\r\n\r\n"));
  server.on("clientError", (error: NodeJS.ErrnoException, socket) => {
    socket.end(`HTTP/1.1 ${parserError(error.code ?? "").status} Refused\r\nconnection: close\r\n\r\n`);
  });
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    read: (pieces) => exchangeBytes(port, pieces, seen),
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** `as`: what the requests are served as. */
export async function ownReader(as: "exchanges" | "node's objects"): Promise<Reader> {
  const seen = new Seen();
  let wasLast = false;
  const serve = (exchange: Exchange, connection: Connection): boolean => {
    const { method, target, keepAlive } = exchange.head;
    if (!keepAlive && target !== lastTarget) wasLast = true;
    if (method === "CONNECT") exchange.send(405, [], new Uint8Array(0), true);
    else if (as === "exchanges") serveExchange(exchange, seen);
    else
      withNodeObjects(exchange, connection, false, (request, response) => {
        serveNode(request, response, seen, () => response.writeHead(400, { connection: "close" }).end());
      });
    return false;
  };
  const server = new Http1Server(
    {
      closing: false,
      request: serve,
      upgrade: () => undefined,
      multiplexed: () => undefined,
      unreadable(code, exchange, connection) {
        if (exchange !== null) return exchange.bodyFailed(new Error(code));
        connection.lastWords((last) => last.send(parserError(code).status, [], new Uint8Array(0), true));
      },
    },
    { clock: systemClock, partyOf: () => "x", connections: { inAll: 100, each: 100 } },
  );
  const port = await server.listen("127.0.0.1", 0);
  return {
    async read(pieces) {
      wasLast = false;
      return { ...(await exchangeBytes(port, pieces, seen)), wasLast };
    },
    async stop() {
      const closed = server.close();
      server.destroyAll();
      await closed;
    },
  };
}

class Seen {
  requests: string[] = [];
  headers: string[] = [];
}

function serveNode(request: IncomingMessage, response: ServerResponse, seen: Seen, failed: () => void): void {
  const { requests } = seen;
  const at = requests.push("") - 1;
  seen.headers.push(JSON.stringify(request.headers));
  let body = "";
  const note = (end: string): void => {
    requests[at] = described(request.method!, request.url!, request.rawHeaders, body, end);
  };
  note(cutOff);
  request.on("data", (chunk: Buffer) => {
    body += chunk.toString("latin1");
    note(cutOff);
  });
  request.on("end", () => {
    note("");
    response.end("ok");
  });
  request.on("error", failed);
}

function serveExchange(exchange: Exchange, { requests }: Seen): void {
  const { method, target, rawHeaders } = exchange.head;
  const at = requests.push("") - 1;
  let body = "";
  const note = (end: string): void => void (requests[at] = described(method, target, rawHeaders, body, end));
  note(cutOff);
  exchange.receive({
    data(chunk) {
      body += chunk.toString("latin1");
      note(cutOff);
    },
    end() {
      note("");
      exchange.send(200, [], Buffer.from("ok"), false);
    },
    failed() {
      exchange.send(400, [], new Uint8Array(0), true);
    },
  });
}

function described(method: string, target: string, headers: readonly string[], body: string, end: string): string {
  return JSON.stringify([method, target, headers, body + end]);
}

/** Sends, then waits until the server has answered all that it will: a last request asks it to close. */
async function exchangeBytes(port: number, pieces: readonly string[], seen: Seen): Promise<Reading> {
  seen.requests = [];
  seen.headers = [];
  const socket: Socket = connect({ port, host: "127.0.0.1", noDelay: true });
  const over = Promise.withResolvers<void>();
  let received = "";
  socket.on("data", (chunk: Buffer) => void (received += chunk.toString("latin1")));
  socket.on("close", () => over.resolve()).on("error", () => over.resolve());
  for (const piece of pieces) {
    await new Promise<void>((resolve) => void socket.write(piece, "latin1", () => resolve()));
    await new Promise((resolve) => setImmediate(resolve));
  }
  socket.write(`GET ${lastTarget} HTTP/1.1\r\nhost: bye\r\nconnection: close\r\n\r\n`);
  await over.promise;
  socket.destroy();
  return {
    wasLast: false,
    requests: [...seen.requests],
    headers: [...seen.headers],
    answers: [...received.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map((match) => Number(match[1])),
  };
}
