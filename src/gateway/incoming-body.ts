// A request's body as the activator pulls it: until an instance takes them bytes stay in the client's socket, but for the first.

import type { FlatHeaders, RequestBody } from "#activator/door.ts";
import { EbbError } from "#model/errors.ts";
import { httpLimits } from "#model/limits.ts";
import type { BodyReceiver, ClientExchange } from "./client-exchange.ts";
import { pauseMs, smallBytes } from "./small-chunks.ts";

type BodySink = Parameters<RequestBody["read"]>[0];

export class IncomingBody implements RequestBody, BodyReceiver {
  readonly lengthBytes: number | null;
  readonly #exchange: ClientExchange;
  /** The client waits to be told to go on (expect: 100-continue). */
  #asksFirst: boolean;
  #sink: BodySink | null = null;
  #bytes = 0;
  /** Small chunks of this turn, to go on as one; a turn brings at most what one read of a socket does. */
  #small: Buffer[] = [];
  /** Rests for so many small chunks; the sink's own wish to go on waits for it. */
  #resting: NodeJS.Timeout | null = null;
  #full = false;

  constructor(exchange: ClientExchange, lengthBytes: number | null, asksFirst: boolean) {
    this.#exchange = exchange;
    this.lengthBytes = lengthBytes;
    this.#asksFirst = asksFirst;
  }

  /** The client still waits for leave to send: nobody knows whether the body comes, so the connection cannot be kept. */
  get withheld(): boolean {
    return this.#asksFirst;
  }

  get crowded(): boolean {
    const small = this.lengthBytes !== null && this.lengthBytes <= httpLimits.sentAheadSmallBytes;
    return !small && !this.#asksFirst && this.#exchange.crowded;
  }

  takeWhole(mostBytes: number): Buffer | null {
    const { lengthBytes } = this;
    if (lengthBytes === null || lengthBytes > mostBytes || this.#asksFirst) return null;
    return this.#exchange.takeBody?.() ?? null;
  }

  read(sink: BodySink): void {
    this.#sink = sink;
    if (this.#asksFirst) this.#exchange.continue();
    this.#asksFirst = false;
    this.#exchange.receive(this);
  }

  resume(): void {
    this.#full = false;
    if (this.#resting === null) this.#exchange.resumeBody();
  }

  discard(): void {
    this.#sink = null;
    this.#full = false;
    // What still comes is read and thrown away, so that the answer can be read and the connection kept.
    if (!this.#asksFirst) this.#exchange.discardBody();
  }

  data(chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (this.#bytes > httpLimits.requestBodyBytes)
      return this.failed(
        new EbbError("payload_too_large", `The body is longer than ${httpLimits.requestBodyBytes} bytes.`),
      );
    if (chunk.length >= smallBytes) {
      this.#passSmall();
      this.#pass(chunk);
    }
    // Not a microtask: those run after each chunk that the parser finds.
    else if (this.#small.push(chunk) === 1) setImmediate(this.#passSmall);
  }

  #pass(chunk: Uint8Array): void {
    if (this.#sink?.data(chunk) !== false) return;
    this.#full = true;
    this.#exchange.pauseBody();
  }

  readonly #passSmall = (): void => {
    const small = this.#small;
    if (small.length === 0) return;
    this.#small = [];
    this.#pass(small.length === 1 ? small[0]! : Buffer.concat(small));
    const restMs = pauseMs(small.length);
    if (restMs > 0) this.#rest(restMs);
  };

  #rest(forMs: number): void {
    if (this.#resting !== null) return;
    this.#exchange.pauseBody();
    this.#resting = setTimeout(() => {
      this.#resting = null;
      if (!this.#full) this.#exchange.resumeBody();
    }, forMs);
  }

  end(trailers?: FlatHeaders): void {
    this.#passSmall();
    const sink = this.#sink;
    this.#sink = null;
    sink?.end(trailers);
  }

  failed(error: Error): void {
    const sink = this.#sink;
    this.#sink = null;
    sink?.failed(error);
  }
}
