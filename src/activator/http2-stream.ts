// One call in an instance that speaks HTTP/2: a stream of node:http2, both ways at once and with back-pressure, trailers included.

import type { ClientHttp2Stream } from "node:http2";
import { errorCodeName, errorCodes, headerObject, trailersOf } from "#lib/http2.ts";
import { http2Limits } from "#model/limits.ts";
import type { Call, FlatHeaders } from "./door.ts";
import { http2ResponseHead } from "./http2-head.ts";
import type { InstanceStream } from "./instance-client.ts";
import type { Breakage, InstanceExchange } from "./instance-connection.ts";
import type { InstanceRequest } from "./request-head.ts";

export interface Http2Opener {
  /** `fresh`: by a connection that has carried nothing. */
  open(head: InstanceRequest, endStream: boolean, fresh: boolean): OpenedStream;
}

export interface OpenedStream {
  readonly stream: ClientHttp2Stream;
  /** Its connection had carried another call before. */
  readonly reused: boolean;
  /** Whether the instance has spoken HTTP/2 at all. */
  readonly speaks: () => boolean;
}

const trailersMost = { count: http2Limits.trailersCount, bytes: http2Limits.trailersBytes };
const endStreamFlag = 0x1;
/** Of status 1xx, which nobody here waits for. */
const interimsMax = 16;

export class Http2InstanceStream implements InstanceStream {
  readonly #opener: Http2Opener;
  readonly #call: Call;
  readonly #head: InstanceRequest;
  #exchange: InstanceExchange | null;
  #opened!: OpenedStream;
  // --- the request's body
  #bodyStarted = false;
  #bodyEnded: boolean;
  #sentBytes = 0;
  #requestTrailers: FlatHeaders = [];
  /** What has gone of the body, for as long as it can go again; null: it cannot. */
  #replay: Uint8Array[] | null = [];
  #replayBytes = 0;
  #replays = 0;
  // --- the answer
  #answered = false;
  #interims = 0;
  #leftBytes: number | null = null;
  #trailers: string[] = [];
  #ended = false;
  #error: NodeJS.ErrnoException | null = null;
  /** Why what came is no answer. */
  #malformed: string | null = null;

  constructor(opener: Http2Opener, exchange: InstanceExchange, call: Call, head: InstanceRequest, fresh: boolean) {
    this.#opener = opener;
    this.#exchange = exchange;
    this.#call = call;
    this.#head = head;
    this.#bodyEnded = call.body === null;
    this.#open(fresh);
    // Not before the stream has its connection: where that cannot be had, the body is still whole for another try.
    if (call.body !== null) this.#whenReady(() => queueMicrotask(() => this.#startBody()));
  }

  get #stream(): ClientHttp2Stream {
    return this.#opened.stream;
  }

  resume(): void {
    if (!this.#stream.destroyed) this.#stream.resume();
  }

  cut(): void {
    this.#exchange = null;
    this.#dropBody();
    this.#reset(this.#ended ? errorCodes.none : errorCodes.cancel);
  }

  /** There is no half of it to close: it is broken off, and what is heard is that it is over. */
  halfClose(): void {
    this.#dropBody();
    this.#reset(errorCodes.cancel);
  }

  #reset(code: number): void {
    if (!this.#stream.destroyed) this.#stream.close(code);
  }

  #open(fresh: boolean): void {
    const opened = this.#opener.open(this.#head, this.#call.body === null, fresh);
    this.#opened = opened;
    const { stream } = opened;
    stream
      .on("headers", this.#onInterim)
      .on("response", this.#onResponse)
      .on("data", this.#onData)
      .on("trailers", this.#onTrailers);
    stream.on("end", this.#onEnd).on("drain", this.#onDrain).on("wantTrailers", this.#onWantTrailers);
    stream.on("error", this.#onError).on("close", this.#onClose);
  }

  #whenReady(then: () => void): void {
    if (this.#stream.pending) this.#stream.once("ready", then);
    else then();
  }

  // --- the request's body, on its way in

  #startBody(): void {
    const { body } = this.#call;
    if (this.#exchange === null || body === null || this.#bodyStarted) return;
    this.#bodyStarted = true;
    body.read({
      data: (chunk) => this.#sendBody(chunk),
      end: (trailers) => this.#endBody(trailers ?? []),
      failed: (error) => this.#bodyFailed(error),
    });
  }

  #sendBody(chunk: Uint8Array): boolean {
    if (this.#exchange === null || chunk.length === 0) return true;
    this.#sentBytes += chunk.length;
    const { lengthBytes } = this.#call.body!;
    if (lengthBytes !== null && this.#sentBytes > lengthBytes) {
      this.#bodyFailed(new Error("the body is longer than its content-length"));
      return true;
    }
    this.#exchange.sent(chunk.length);
    this.#keep(chunk);
    return !this.#stream.writable || this.#stream.write(chunk);
  }

  #endBody(trailers: FlatHeaders): void {
    if (this.#exchange === null) return;
    const { lengthBytes } = this.#call.body!;
    if (lengthBytes !== null && this.#sentBytes < lengthBytes)
      return this.#bodyFailed(new Error("the body is shorter than its content-length"));
    this.#bodyEnded = true;
    this.#requestTrailers = trailers;
    this.#stream.end();
  }

  #bodyFailed(error: Error): void {
    this.#bodyEnded = true;
    const exchange = this.#exchange;
    this.cut();
    exchange?.bodyFailed(error);
  }

  #dropBody(): void {
    this.#replay = null;
    if (!this.#bodyEnded) this.#call.body?.discard();
    this.#bodyEnded = true;
  }

  /** Until the answer begins: an instance that goes may still say that it has not looked at this call. */
  #keep(chunk: Uint8Array): void {
    if (this.#replay === null) return;
    this.#replayBytes += chunk.length;
    if (this.#replayBytes > http2Limits.replayBytes) this.#replay = null;
    else this.#replay.push(chunk);
  }

  readonly #onDrain = (): void => {
    if (!this.#bodyEnded) this.#call.body?.resume();
  };

  readonly #onWantTrailers = (): void => {
    const stream = this.#stream;
    if (!stream.destroyed && !stream.closed) stream.sendTrailers(headerObject(this.#requestTrailers));
  };

  // --- the answer

  readonly #onInterim = (): void => {
    if (++this.#interims <= interimsMax) return;
    this.#malformed ??= `it has more than ${interimsMax} heads before its answer`;
    this.#reset(errorCodes.cancel);
  };

  readonly #onResponse = (_headers: unknown, flags: number, raw: string[]): void => {
    const exchange = this.#exchange;
    if (exchange === null || this.#malformed !== null) return;
    const head = http2ResponseHead(raw);
    if (head === null) {
      this.#malformed = "its status or its content-length is not a number";
      return this.#reset(errorCodes.cancel);
    }
    this.#answered = true;
    this.#replay = null;
    const whole = (flags & endStreamFlag) !== 0;
    if (!whole) this.#leftBytes = this.#call.method === "HEAD" ? null : head.lengthBytes;
    exchange.head(head, whole);
  };

  readonly #onData = (chunk: Buffer): void => {
    if (this.#leftBytes !== null) this.#leftBytes -= chunk.length;
    if (this.#exchange?.data(chunk) === false) this.#stream.pause();
  };

  readonly #onTrailers = (_headers: unknown, _flags: number, raw: string[]): void => {
    this.#trailers = trailersOf(raw, trailersMost);
  };

  readonly #onEnd = (): void => {
    const { rstCode } = this.#stream;
    // What is broken off with NO_ERROR ends as well; a length that was said tells the two apart.
    if (!this.#answered || rstCode !== errorCodes.none || (this.#leftBytes ?? 0) > 0) return;
    this.#ended = true;
    const exchange = this.#exchange;
    this.#exchange = null;
    // It has answered before it had all of the request: nothing more of that is wanted.
    if (!this.#bodyEnded) {
      this.#dropBody();
      this.#reset(errorCodes.none);
    }
    exchange?.end(null, false, this.#trailers);
  };

  readonly #onError = (error: NodeJS.ErrnoException): void => {
    this.#error = error;
  };

  readonly #onClose = (): void => {
    const exchange = this.#exchange;
    if (exchange === null) return;
    if (this.#mayReplay()) return this.#sendAgain();
    this.#exchange = null;
    const whole = !this.#bodyStarted;
    if (!whole) this.#dropBody();
    exchange.broken(this.#breakage(whole));
  };

  #breakage(whole: boolean): Breakage {
    const { rstCode } = this.#stream;
    const { reused, speaks } = this.#opened;
    const unsent = !this.#answered && rstCode === errorCodes.refusedStream;
    const common = { silent: !this.#answered, unsent, whole, reused };
    if (this.#malformed !== null) return { kind: "malformed", message: this.#malformed, ...common };
    if (!speaks()) {
      const why = this.#error?.code === undefined ? "" : ` (${this.#error.code})`;
      return {
        kind: "closed",
        message: `it closed the connection without a word of HTTP/2${why}; protocol: http1 is for what speaks HTTP/1.1`,
        ...common,
      };
    }
    const how = rstCode === errorCodes.none ? "" : ` (${errorCodeName(rstCode ?? 0)})`;
    return { kind: "closed", message: `it broke off the stream before its answer was complete${how}`, ...common };
  }

  /** RFC 9113, 8.7: what was refused was not looked at, and may be sent again whatever its method. */
  #mayReplay(): boolean {
    const refused = this.#stream.rstCode === errorCodes.refusedStream && !this.#answered;
    return refused && this.#replay !== null && this.#replays < http2Limits.replays;
  }

  #sendAgain(): void {
    this.#replays++;
    this.#error = null;
    this.#open(false);
    if (this.#call.body === null) return;
    if (!this.#bodyStarted) return this.#whenReady(() => this.#startBody());
    // At once, though the stream may still wait for its connection: what comes of the body meanwhile is behind it.
    const stream = this.#stream;
    let more = true;
    for (const chunk of this.#replay ?? []) more = stream.write(chunk);
    if (this.#bodyEnded) stream.end();
    else if (more) this.#call.body.resume();
  }
}
