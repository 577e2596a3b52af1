// A request's body as the activator pulls it: bytes stay in the client's socket until an instance takes them.

import type { IncomingMessage, ServerResponse } from "node:http";
import type { RequestBody } from "#activator/door.ts";
import { EbbError } from "#model/errors.ts";
import { httpLimits } from "#model/limits.ts";

type BodySink = Parameters<RequestBody["read"]>[0];

export class IncomingBody implements RequestBody {
  readonly lengthBytes: number | null;
  readonly #request: IncomingMessage;
  /** To be told to go on, where the client waits for that (expect: 100-continue); null: it does not. */
  #asksFirst: ServerResponse | null;
  #sink: BodySink | null = null;
  #bytes = 0;

  constructor(request: IncomingMessage, lengthBytes: number | null, asksFirst: ServerResponse | null) {
    this.#request = request;
    this.lengthBytes = lengthBytes;
    this.#asksFirst = asksFirst;
  }

  /** The client still waits for leave to send: nobody knows whether the body comes, so the connection cannot be kept. */
  get withheld(): boolean {
    return this.#asksFirst !== null;
  }

  read(sink: BodySink): void {
    this.#sink = sink;
    this.#asksFirst?.writeContinue();
    this.#asksFirst = null;
    this.#request.on("data", this.#onData);
    this.#request.on("end", this.#onEnd);
    this.#request.on("close", this.#onClose);
  }

  resume(): void {
    this.#request.resume();
  }

  discard(): void {
    this.#sink = null;
    // What still comes is read and thrown away, so that the answer can be read and the connection kept.
    if (this.#asksFirst === null) this.#request.resume();
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#bytes += chunk.length;
    if (this.#bytes > httpLimits.requestBodyBytes)
      return this.#fail(
        new EbbError("payload_too_large", `The body is longer than ${httpLimits.requestBodyBytes} bytes.`),
      );
    if (this.#sink?.data(chunk) === false) this.#request.pause();
  };

  readonly #onEnd = (): void => {
    const sink = this.#sink;
    this.#sink = null;
    sink?.end();
  };

  readonly #onClose = (): void => {
    this.#fail(new Error("the client closed the connection before its body was complete"));
  };

  #fail(error: Error): void {
    const sink = this.#sink;
    this.#sink = null;
    sink?.failed(error);
  }
}
