// One request of HTTP/2 and the answer to it: a stream of node:http2.

import type { ServerHttp2Stream } from "node:http2";
import type { FlatHeaders } from "#activator/door.ts";
import { belongsToConnection, errorCodes, headerObject, isPlainHeader, trailersOf } from "#lib/http2.ts";
import { http2Limits } from "#model/limits.ts";
import type { Answerer, BodyReceiver, ClientExchange } from "../client-exchange.ts";
import type { RequestHead } from "../http1/request-parser.ts";
import { saidLength } from "./head.ts";

/** What an exchange asks of its connection. */
export interface Http2Owner {
  readonly crowded: boolean;
  /** What may be held of the exchange's body has changed by so many bytes. */
  held(byBytes: number): void;
  /** What of its answer is whole and not read has changed by so many bytes. */
  unread(byBytes: number): void;
  /** Its stream is closed; `reset`: it was broken off, and not by ebb. */
  closed(exchange: Http2Exchange, reset: boolean): void;
}

const trailersMost = { count: http2Limits.trailersCount, bytes: http2Limits.trailersBytes };

export class Http2Exchange implements ClientExchange {
  readonly head: RequestHead;
  readonly #stream: ServerHttp2Stream;
  readonly #owner: Http2Owner;
  // --- the request's body
  #receiver: BodyReceiver | null = null;
  #complete: boolean;
  #trailers: string[] = [];
  #bodyError: Error | null = null;
  /** What it may hold while nobody takes it: its window is as much as the client sends unasked. */
  #heldBytes = 0;
  // --- the answer
  #answerer: Answerer | null = null;
  #pending: { readonly fields: string[]; readonly trails: boolean } | null = null;
  #state: "open" | "started" | "over" = "open";
  #replyTrailers: FlatHeaders = [];
  /** Of the answer when it was whole. */
  #unreadBytes = 0;
  /** It was ebb that broke it off. */
  #ownReset = false;
  /** Since when nothing is to be answered any more, monotonic us; kept by the connection. */
  overSinceUs: number | null = null;

  constructor(head: RequestHead, stream: ServerHttp2Stream, owner: Http2Owner) {
    this.head = head;
    this.#stream = stream;
    this.#owner = owner;
    this.#complete = head.http2?.bodied !== true;
    if (!this.#complete) {
      this.#hold(Math.min(http2Limits.streamWindowBytes, saidLength(head) ?? http2Limits.streamWindowBytes));
      stream.on("trailers", this.#onTrailers).on("end", this.#onEnd);
    }
    stream.on("drain", this.#onDrain).on("wantTrailers", this.#onWantTrailers);
    stream.on("close", this.#onClose);
  }

  get over(): boolean {
    return this.#state === "over";
  }
  get started(): boolean {
    return this.#state !== "open";
  }
  get crowded(): boolean {
    return this.#owner.crowded;
  }

  // --- the request's body

  receive(receiver: BodyReceiver): void {
    this.#hold(0);
    this.#receiver = receiver;
    if (this.#bodyError !== null) {
      this.#receiver = null;
      return receiver.failed(this.#bodyError);
    }
    if (this.#complete) {
      this.#receiver = null;
      return receiver.end(this.#trailers);
    }
    this.#stream.on("data", this.#onData);
  }

  pauseBody(): void {
    this.#stream.pause();
  }
  resumeBody(): void {
    if (!this.#stream.destroyed) this.#stream.resume();
  }
  discardBody(): void {
    this.#hold(0);
    this.#receiver = null;
    this.resumeBody();
  }

  #hold(bytes: number): void {
    if (bytes === this.#heldBytes) return;
    const by = bytes - this.#heldBytes;
    this.#heldBytes = bytes;
    this.#owner.held(by);
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#receiver?.data(chunk);
  };

  readonly #onTrailers = (_headers: unknown, _flags: number, raw: string[]): void => {
    this.#trailers = trailersOf(raw, trailersMost);
  };

  readonly #onEnd = (): void => {
    // What was broken off with NO_ERROR ends as well.
    if (this.#stream.aborted) return;
    this.#complete = true;
    const receiver = this.#receiver;
    this.#receiver = null;
    receiver?.end(this.#trailers);
  };

  #bodyFailed(error: Error): void {
    if (this.#complete || this.#bodyError !== null) return;
    this.#bodyError = error;
    const receiver = this.#receiver;
    this.#receiver = null;
    receiver?.failed(error);
  }

  // --- the answer

  answeredBy(answerer: Answerer): void {
    this.#answerer = answerer;
  }

  continue(): void {
    const { destroyed, closed } = this.#stream;
    if (this.#state === "open" && !destroyed && !closed) this.#stream.additionalHeaders({ ":status": 100 });
  }

  send(status: number, headers: FlatHeaders, body: Uint8Array, _close: boolean): void {
    if (this.#state !== "open") return;
    this.start(status, headers, body.length === 0 ? null : body.length, false);
    if (body.length > 0 && this.head.method !== "HEAD") this.write(body);
    this.end();
  }

  start(status: number, headers: FlatHeaders, lengthBytes: number | null, _close: boolean, trails = false): void {
    if (this.#state !== "open") return;
    this.#state = "started";
    const fields = [":status", String(status)];
    // A workload of HTTP/1.1 may answer what node:http2 throws at.
    for (let i = 0; i < headers.length; i += 2) {
      const [name, value] = [headers[i]!, headers[i + 1]!];
      if (!belongsToConnection(name) && isPlainHeader(name, value)) fields.push(name, value);
    }
    if (lengthBytes !== null && status !== 204) fields.push("content-length", String(lengthBytes));
    this.#pending = { fields, trails: trails && this.head.method !== "HEAD" };
  }

  flush(): void {
    this.#respond(false);
  }

  write(chunk: Uint8Array): boolean {
    if (this.#state !== "started" || chunk.length === 0) return true;
    this.#respond(false);
    return !this.#stream.writable || this.#stream.write(chunk);
  }

  end(trailers: FlatHeaders = []): void {
    if (this.#state !== "started") return;
    this.#state = "over";
    this.#replyTrailers = trailers;
    this.#respond(trailers.length === 0);
    this.#stream.end();
    this.#unreadBytes = this.#stream.writableLength;
    if (this.#unreadBytes > 0) this.#owner.unread(this.#unreadBytes);
  }

  destroy(): void {
    if (this.#state === "over") return;
    this.#state = "over";
    this.reset(errorCodes.internal);
  }

  /** Its answer is whole, and its client has had its time for the rest: what it does not read, or still sends. */
  finish(): void {
    // Without an error nothing ends that has something to be sent (RFC 9113, 8.1, and node:http2).
    this.reset(this.#stream.writableLength > 0 ? errorCodes.cancel : errorCodes.none);
  }

  /** Ends the stream at once. */
  reset(code: number): void {
    this.#ownReset = true;
    if (!this.#stream.destroyed) this.#stream.close(code);
  }

  #respond(endStream: boolean): void {
    const pending = this.#pending;
    this.#pending = null;
    if (pending === null || this.#stream.destroyed || this.#stream.closed) return;
    try {
      this.#stream.respond(pending.fields, { endStream, waitForTrailers: pending.trails && !endStream });
    } catch {
      // Nothing that a workload answers may end more than its own call.
      this.#state = "over";
      this.reset(errorCodes.internal);
      this.#answerer?.gone();
    }
  }

  readonly #onWantTrailers = (): void => {
    if (!this.#stream.destroyed && !this.#stream.closed) this.#stream.sendTrailers(headerObject(this.#replyTrailers));
  };

  readonly #onDrain = (): void => {
    this.#answerer?.drained();
  };

  readonly #onClose = (): void => {
    this.#hold(0);
    if (this.#unreadBytes > 0) this.#owner.unread(-this.#unreadBytes);
    const reset = !this.#ownReset && (this.#state !== "over" || this.#stream.rstCode !== errorCodes.none);
    this.#bodyFailed(new Error("the client broke off the request before its body was complete"));
    if (this.#state !== "over") {
      this.#state = "over";
      this.#answerer?.gone();
    }
    this.#owner.closed(this, reset);
  };
}
