// One client's connection: bytes to requests by llhttp, answers in the requests' order, and when it is over.

import type { Socket } from "node:net";
import type { Place } from "#lib/shares.ts";
import type { Clock } from "#model/clock.ts";
import { httpLimits } from "#model/limits.ts";
import type { ClientConnection, ClientExchange } from "../client-exchange.ts";
import type { Handover } from "../http2/connection.ts";
import { Exchange, type ExchangeOwner } from "./exchange.ts";
import type { HeldAccount } from "./held.ts";
import { RequestParser, type Fed, type RequestEvents, type RequestHead } from "./request-parser.ts";

/** What serves the requests of a connection. */
export interface RequestServer {
  readonly closing: boolean;
  /** A head is there. True: the connection is to become another protocol's; `upgrade` follows. */
  request(exchange: Exchange, connection: Connection): boolean;
  /** Of the exchange that asked for it. */
  upgrade(exchange: Exchange, take: TakeSocket, connection: Connection): void;
  /** What came is not HTTP/1.1 (llhttp's code), or its head did not come in time. Nothing more is read. */
  unreadable(code: string, exchange: Exchange | null, connection: Connection): void;
  /** It began as HTTP/2 does, and is nothing of this one's any more. */
  becameHttp2(connection: Connection, handover: Handover): void;
  /** It is over. */
  closed(connection: Connection): void;
}

/** Once: the client's socket is paused and no longer the connection's, and what was read behind the head is in it again. */
export type TakeSocket = () => Socket;

/** Its head did not come in time: the code of what `node:http` says then. */
export const headTimeout = "ERR_HTTP_REQUEST_TIMEOUT";

export class Connection implements ClientConnection, ExchangeOwner, RequestEvents {
  readonly peer: string;
  readonly #socket: Socket;
  /** Among all connections: it rests while it carries no request, and may be lost then. */
  readonly #place: Place<Socket>;
  readonly #server: RequestServer;
  readonly #clock: Clock;
  readonly #held: HeldAccount;
  readonly #parser: RequestParser;
  /** Asked and not answered, in order: the first has its turn. */
  readonly #exchanges: Exchange[] = [];
  /** Whose body is arriving. */
  #receiving: Exchange | null = null;
  /** Whose request asked for another protocol. */
  #leaving: Exchange | null = null;
  /** Nothing has been asked yet. */
  #fresh = true;
  /** Nothing more is read as a request. */
  #deaf = false;
  /** The client wants no answer after those that it has asked for. */
  #last = false;
  /** Monotonic us since when the head of a request is awaited to its end; null: none has begun. */
  #headSinceUs: number | null;
  /** Monotonic us of the last sign of life. */
  #quietSinceUs: number;
  /** As it was at the last sweep. */
  #sentBytes = 0;
  #paused = false;
  /** It asks on, and does not read what it was answered: it is read on when it has. */
  #unread = false;
  #closed = false;

  constructor(socket: Socket, place: Place<Socket>, server: RequestServer, clock: Clock, held: HeldAccount) {
    this.#socket = socket;
    this.#place = place;
    this.#server = server;
    this.#clock = clock;
    this.#held = held;
    this.peer = socket.remoteAddress ?? "";
    this.#headSinceUs = this.#quietSinceUs = clock.monotonicUs();
    this.#parser = new RequestParser(this, httpLimits.requestHeadBytes);
    socket.on("data", this.#onData).on("end", this.#onEnd).on("drain", this.#onDrain);
    socket.on("error", this.#onError).on("close", this.#onClose);
    place.rest();
    this.#parser.consume(socket, this.#onFed);
  }

  isLast(exchange: Exchange): boolean {
    return (this.#last || this.#server.closing) && this.#exchanges.at(-1) === exchange;
  }
  get idle(): boolean {
    return this.#exchanges.length === 0;
  }

  /** What has been read behind this is not served: nobody knows where it begins. */
  distrust(exchange: ClientExchange): void {
    this.#hearNoMore();
    const at = this.#exchanges.indexOf(exchange as Exchange);
    if (at >= 0) for (const behind of this.#exchanges.splice(at + 1)) behind.gone();
  }

  #hearNoMore(): void {
    this.#deaf = true;
    this.#last = true;
  }

  destroy(): void {
    this.#socket.destroy();
  }
  reset(): void {
    // While its end is on its way there is no reset: libuv refuses it, and Node then never closes the socket.
    if (this.#socket.writableEnded && this.#socket.writableLength === 0) this.#socket.destroy();
    else this.#socket.resetAndDestroy();
  }

  /** The listener takes nothing new. */
  closing(): void {
    if (this.idle) this.endWhenSent();
  }

  /** Nothing more is read, and it ends when what was answered has gone out. */
  endWhenSent(): void {
    this.#deaf = true;
    this.#socket.destroySoon();
  }

  /** Ends it if it waits for too long; asked every few seconds, when what has come until then is read. */
  sweep(nowUs: number): void {
    if (!this.idle) return;
    if (this.#headSinceUs !== null && this.#receiving === null && !this.#paused) {
      if (nowUs - this.#headSinceUs < httpLimits.headersTimeoutMs * 1_000) return;
      this.#giveUp(headTimeout);
    } else if (this.#socket.writableLength > 0 && this.#sends()) {
      // To a client that reads slowly: as long as it reads it is there.
      this.#quietSinceUs = nowUs;
    } else if (nowUs - this.#quietSinceUs >= (httpLimits.keepAliveTimeoutMs + keepAliveMarginMs) * 1_000) {
      this.destroy();
    }
  }

  /** Something has gone out since this was asked last. */
  #sends(): boolean {
    const sentBytes = this.#socket.bytesWritten - this.#socket.writableLength;
    const sends = sentBytes !== this.#sentBytes;
    this.#sentBytes = sentBytes;
    return sends;
  }

  // --- for node:http's own objects, which answer over the socket itself

  get socket(): Socket {
    return this.#socket;
  }

  // --- what the parser finds

  begin(): void {
    this.#headSinceUs = this.#clock.monotonicUs();
  }

  head(head: RequestHead): boolean {
    if (this.#deaf) return false;
    this.#fresh = false;
    this.#headSinceUs = null;
    if (this.#socket.writableNeedDrain) this.#unread = true;
    if (!head.keepAlive || head.method === "CONNECT") this.#last = true;
    const exchange = new Exchange(head, this);
    this.#receiving = exchange;
    this.#carry(exchange);
    // It is served when some before it are answered.
    if (this.#exchanges.length > servedAtOnce) return false;
    if (!this.#server.request(exchange, this)) return false;
    this.#leaving = exchange;
    return true;
  }

  body(chunk: Buffer): void {
    this.#receiving?.arrived(chunk);
  }

  end(): void {
    const exchange = this.#receiving;
    this.#receiving = null;
    exchange?.arrivedWhole();
  }

  // --- what the exchanges want

  write(bytes: string | Uint8Array): boolean {
    return typeof bytes === "string" ? this.#socket.write(bytes, "latin1") : this.#socket.write(bytes);
  }
  cork(): void {
    this.#socket.cork();
  }
  uncork(): void {
    this.#socket.uncork();
  }

  flowChanged(): void {
    if (this.#closed) return;
    const wait = this.#unread || this.#hasAhead() || this.#exchanges.length > pipelinedMax;
    if (wait === this.#paused || this.#leaving !== null) return;
    this.#paused = wait;
    // What was not read was not late.
    if (!wait && this.#headSinceUs !== null) this.#headSinceUs = this.#clock.monotonicUs();
    this.#parser.flow(this.#socket, !wait);
  }

  /** Whether enough is held of its bodies, together; or the one that arrives is not wanted yet. */
  #hasAhead(): boolean {
    let ahead = 0;
    for (const exchange of this.#exchanges) ahead += exchange.aheadBytes;
    this.#held.set(ahead);
    const receiving = this.#receiving;
    if (ahead >= httpLimits.sentAheadBytes || receiving?.bodyPaused === true) return true;
    return (ahead > 0 || receiving?.untaken === true) && this.#held.crowded;
  }

  get crowded(): boolean {
    return this.#held.crowded;
  }

  answered(exchange: Exchange, close: boolean): void {
    if (this.#exchanges[0] !== exchange) return;
    this.#exchanges.shift();
    const next = this.#exchanges[0];
    if (close || (next === undefined && (this.#last || this.#server.closing))) {
      this.#deaf = true;
      for (const dropped of this.#exchanges.splice(0)) dropped.gone();
      this.#socket.destroySoon();
      return;
    }
    // What still comes of its body is nobody's.
    if (!exchange.complete) exchange.discardBody();
    const due = this.#exchanges[servedAtOnce - 1];
    if (due !== undefined && !due.started) this.#server.request(due, this);
    if (next !== undefined) {
      next.takeTurn();
    } else {
      this.#quietSinceUs = this.#clock.monotonicUs();
      this.#restIfIdle();
    }
    this.flowChanged();
  }

  // --- what the socket says

  /** Where the parser does not read the socket itself. */
  readonly #onData = (chunk: Buffer): void => {
    if (!this.#deaf) this.#onFed(this.#parser.feed(chunk));
  };

  readonly #onFed = (fed: Fed): void => {
    if (this.#deaf) return;
    this.#quietSinceUs = this.#clock.monotonicUs();
    if (fed.kind === "left") return this.#leave(fed.rest);
    if (fed.kind === "http2") return this.#fresh ? this.#becomeHttp2(fed.rest) : this.#giveUp("HPE_INVALID_METHOD");
    // Behind a request that was its last a client may send what it likes.
    if (fed.kind === "failed" && !(fed.code === "HPE_CLOSED_CONNECTION" && this.#last)) return this.#giveUp(fed.code);
    this.flowChanged();
  };

  readonly #onEnd = (): void => {
    const code = this.#deaf ? null : this.#parser.finish();
    if (code !== null && this.#headSinceUs !== null && this.idle) return this.#giveUp(code);
    // As with node:http, a client that ends its side is one that has gone.
    this.#socket.end();
  };

  readonly #onDrain = (): void => {
    this.#exchanges[0]?.drained();
    this.#unread = false;
    this.flowChanged();
    this.#restIfIdle();
  };

  readonly #onError = (): void => {
    this.#socket.destroy();
  };

  readonly #onClose = (): void => {
    if (this.#closed) return;
    this.#closed = true;
    this.#deaf = true;
    this.#place.leave();
    this.#held.set(0);
    for (const exchange of this.#exchanges.splice(0)) exchange.gone();
    this.#receiving?.gone();
    this.#parser.close();
    this.#server.closed(this);
  };

  #leave(early: Buffer): void {
    const exchange = this.#leaving;
    // A CONNECT, which is answered and over.
    if (exchange === null) {
      this.#hearNoMore();
      return;
    }
    const socket = this.#socket;
    this.#parser.release();
    // Until it is taken it is read, within bounds: that the client has gone is seen by reading alone.
    const ahead: Buffer[] = [];
    let aheadBytes = 0;
    const keep = (chunk: Buffer): void => {
      ahead.push(chunk);
      aheadBytes += chunk.length + httpLimits.sentAheadPieceBytes;
      if (aheadBytes >= httpLimits.sentAheadBytes) socket.pause();
    };
    socket.off("data", this.#onData).on("data", keep).resume();
    if (early.length > 0) keep(early);
    const take = (): Socket => {
      socket.off("data", keep).off("end", this.#onEnd).pause();
      if (ahead.length > 0) socket.unshift(Buffer.concat(ahead));
      return socket;
    };
    this.#server.upgrade(exchange, take, this);
  }

  #becomeHttp2(rest: Buffer): void {
    const socket = this.#socket;
    this.#closed = this.#deaf = true;
    this.#parser.close();
    socket.off("data", this.#onData).off("end", this.#onEnd).off("drain", this.#onDrain);
    socket.off("error", this.#onError).off("close", this.#onClose);
    this.#server.becameHttp2(this, { socket, place: this.#place, held: this.#held, rest });
  }

  /** What still comes cannot be read as requests. */
  #giveUp(code: string): void {
    this.#hearNoMore();
    const exchange = this.#receiving;
    this.#receiving = null;
    this.#server.unreadable(code, exchange, this);
    // It was in what still came of a request that is answered.
    if (this.idle) this.#socket.destroySoon();
  }

  /** Says something that answers no request, behind all answers that are owed: what ends the connection. */
  lastWords(answer: (exchange: Exchange) => void): void {
    const exchange = new Exchange(noHead, this);
    exchange.arrivedWhole();
    this.#carry(exchange);
    answer(exchange);
  }

  #carry(exchange: Exchange): void {
    this.#exchanges.push(exchange);
    if (this.#exchanges.length > 1) return;
    this.#place.work();
    exchange.takeTurn();
  }

  /** What is still to be sent of an answer is work as well. */
  #restIfIdle(): void {
    if (this.idle && this.#leaving === null && this.#socket.writableLength === 0) this.#place.rest();
  }
}

/** Of the requests that a connection sends ahead of their answers; one client's must not take the places of many. */
const servedAtOnce = 4;
/** Requests that a connection may have ahead of their answers before it is read no further. */
const pipelinedMax = 16;
/** What a client's and our timers may differ by: it should be the client that closes. */
const keepAliveMarginMs = 1_000;

/** Of what answers no request. */
const noHead: RequestHead = {
  method: "",
  target: "",
  rawHeaders: [],
  versionMajor: 1,
  versionMinor: 1,
  keepAlive: false,
};
