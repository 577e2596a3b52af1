// One client's connection that speaks HTTP/2 without TLS: its session, how much it may ask for, and when it is over.

import type { ServerHttp2Session, ServerHttp2Stream } from "node:http2";
import type { Socket } from "node:net";
import { Allowance } from "#lib/allowance.ts";
import { errorCodes, http2Module } from "#lib/http2.ts";
import type { Place } from "#lib/shares.ts";
import type { Clock } from "#model/clock.ts";
import { http2Limits, httpLimits } from "#model/limits.ts";
import type { ClientConnection, ClientExchange } from "../client-exchange.ts";
import type { HeldAccount } from "../http1/held.ts";
import { Http2Exchange, type Http2Owner } from "./exchange.ts";
import { requestHeadOf } from "./head.ts";

/** What serves the requests of a connection. */
export interface Http2Server {
  readonly closing: boolean;
  multiplexed(exchange: ClientExchange, connection: ClientConnection): void;
  closed(connection: Http2Connection): void;
}

/** What a connection of HTTP/1.1 hands on that began as HTTP/2 does. */
export interface Handover {
  readonly socket: Socket;
  readonly place: Place<Socket>;
  readonly held: HeldAccount;
  /** What was read behind the preface. */
  readonly rest: Buffer;
}

/** RFC 9113, 3.4. */
const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

export class Http2Connection implements ClientConnection, Http2Owner {
  readonly peer: string;
  readonly #socket: Socket;
  readonly #session: ServerHttp2Session;
  readonly #place: Place<Socket>;
  readonly #server: Http2Server;
  readonly #clock: Clock;
  readonly #held: HeldAccount;
  readonly #exchanges = new Set<Http2Exchange>();
  readonly #streams: Allowance;
  readonly #resets: Allowance;
  readonly #controls: Allowance;
  readonly #unread: HeldAccount;
  #heldBytes = 0;
  #unreadBytes = 0;
  /** Monotonic us since when it carries nothing. */
  #quietSinceUs: number;
  /** What had gone out at the last sweep at which that had changed. */
  #sentBytes = 0;
  /** It was told to end: what is left of it at the next sweep is broken off. */
  #ending = false;
  #closed = false;

  /** `unread`: its account of answers that its client does not read. */
  constructor({ socket, place, held, rest }: Handover, unread: HeldAccount, server: Http2Server, clock: Clock) {
    this.#socket = socket;
    this.#place = place;
    this.#server = server;
    this.#clock = clock;
    this.#held = held;
    this.#unread = unread;
    this.peer = socket.remoteAddress ?? "";
    const nowUs = (this.#quietSinceUs = clock.monotonicUs());
    // Nobody's share: a trusted proxy's, whose clients must not end one another's requests.
    const times = place.party === null ? http2Limits.ofManyClientsTimes : 1;
    const { streamsPerSecond, streamsBurst } = http2Limits;
    const resetsPerSecond = http2Limits.resetsPerSecond * times;
    const resetsBurst = http2Limits.resetsBurst * times;
    this.#streams = new Allowance(streamsPerSecond * times, streamsBurst * times, nowUs);
    this.#resets = new Allowance(resetsPerSecond, resetsBurst, nowUs);
    this.#controls = new Allowance(http2Limits.controlFramesPerSecond, http2Limits.controlFramesBurst, nowUs);
    socket.on("end", this.#onEnd).on("error", this.#onError).on("close", this.#onClose);
    socket.pause();
    // node:http2 reads it from the beginning, in its own time.
    socket.unshift(rest.length === 0 ? preface : Buffer.concat([preface, rest]));
    const session = http2Module().performServerHandshake(socket, {
      maxSessionMemory: http2Limits.sessionMemoryMb,
      maxHeaderListPairs: httpLimits.requestHeaderCount + pseudoHeaders,
      maxOutstandingPings: http2Limits.controlFramesBurst,
      maxSettings: http2Limits.settingsPerFrame,
      maxSessionInvalidFrames: http2Limits.invalidFrames,
      maxSessionRejectedStreams: http2Limits.rejectedStreams,
      streamResetBurst: resetsBurst,
      streamResetRate: resetsPerSecond,
      strictSingleValueFields: false,
      settings: {
        maxConcurrentStreams: http2Limits.concurrentStreams,
        maxHeaderListSize: httpLimits.requestHeadBytes,
        initialWindowSize: http2Limits.streamWindowBytes,
      },
    });
    this.#session = session;
    session.on("stream", this.#onStream).on("ping", this.#onControl).on("remoteSettings", this.#onControl);
    session.on("error", this.#onError);
    session.once("connect", () => {
      if (!session.destroyed) session.setLocalWindowSize(http2Limits.connectionWindowBytes);
    });
    place.rest();
  }

  get idle(): boolean {
    return this.#exchanges.size === 0;
  }
  get crowded(): boolean {
    return this.#held.crowded;
  }

  held(byBytes: number): void {
    this.#heldBytes += byBytes;
    if (!this.#closed) this.#held.set(this.#heldBytes);
  }

  unread(byBytes: number): void {
    this.#unreadBytes += byBytes;
    if (!this.#closed) this.#unread.set(this.#unreadBytes);
  }

  /** A stream is read by itself: nothing else of the connection is in doubt. */
  distrust(): void {}

  /** What waits is held by windows, which are not taken back. */
  flowChanged(): void {}

  /** Takes nothing new, and ends when what it carries is answered. */
  closing(): void {
    this.#ending = true;
    this.#session.close();
  }

  destroy(): void {
    this.#session.destroy();
    this.#socket.destroy();
  }

  /** Ends it if it waits for too long; asked every few seconds. */
  sweep(nowUs: number): void {
    if (this.#ending && this.idle) return this.destroy();
    const sentBytes = this.#socket.bytesWritten;
    // Answers to PING go out as well: by them nobody keeps what others need.
    const sends = sentBytes !== this.#sentBytes && !this.#unread.crowded;
    this.#sentBytes = sentBytes;
    const patienceUs = httpLimits.keepAliveTimeoutMs * 1_000;
    if (this.idle) {
      if (nowUs - this.#quietSinceUs >= patienceUs) this.closing();
      return;
    }
    for (const exchange of this.#exchanges) {
      if (!exchange.over) continue;
      // To a client that reads slowly: as long as it reads it is there.
      if (exchange.overSinceUs === null || sends) exchange.overSinceUs = nowUs;
      else if (nowUs - exchange.overSinceUs >= patienceUs) exchange.finish();
    }
  }

  closed(exchange: Http2Exchange, reset: boolean): void {
    this.#exchanges.delete(exchange);
    const nowUs = this.#clock.monotonicUs();
    if (this.idle && !this.#closed) {
      this.#quietSinceUs = nowUs;
      this.#place.rest();
    }
    if (reset && !this.#closed && !this.#resets.take(nowUs)) this.#calm();
  }

  readonly #onStream = (stream: ServerHttp2Stream, _headers: unknown, flags: number, raw: string[]): void => {
    // Of one that is broken off before it is looked at, nobody else would hear it.
    stream.on("error", ignore);
    if (stream.destroyed) return;
    if (!this.#streams.take(this.#clock.monotonicUs())) return this.#calm();
    // It asks for more than it reads.
    if (this.#unreadBytes > 0 && this.#unread.crowded) return stream.close(errorCodes.refusedStream);
    const head = requestHeadOf(raw, (flags & endStreamFlag) === 0);
    if (head === null) return stream.close(protocolError);
    const exchange = new Http2Exchange(head, stream, this);
    this.#exchanges.add(exchange);
    if (this.#exchanges.size === 1) this.#place.work();
    this.#server.multiplexed(exchange, this);
  };

  readonly #onControl = (): void => {
    if (!this.#controls.take(this.#clock.monotonicUs())) this.#calm();
  };

  /** It asks for more than it may: what it has under way ends with it. */
  #calm(): void {
    this.#ending = true;
    this.#session.destroy(new Error("the client asks for too much"), errorCodes.enhanceYourCalm);
  }

  /** As with HTTP/1.1, a client that ends its side is one that has gone. */
  readonly #onEnd = (): void => {
    this.#session.destroy();
    this.#socket.end();
  };

  readonly #onError = (): void => {
    this.#ending = true;
  };

  readonly #onClose = (): void => {
    if (this.#closed) return;
    this.#closed = true;
    this.#place.leave();
    this.#held.set(0);
    this.#unread.set(0);
    // Its streams close by themselves, some turns later.
    this.#session.destroy();
    this.#server.closed(this);
  };
}

/** What becomes of a stream or a session, `close` says. */
const ignore = (): void => undefined;

const pseudoHeaders = 4;
const endStreamFlag = 0x1;
const protocolError = 0x1;
