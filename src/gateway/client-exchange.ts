// One request of a client and the answer to it, whichever HTTP it came by: what the steps, the body and the reply see of it.

import type { FlatHeaders } from "#activator/door.ts";
import type { RequestHead } from "./http1/request-parser.ts";

/** Who takes a request's body. */
export interface BodyReceiver {
  data(chunk: Buffer): void;
  /** `trailers`: what came behind it, where that goes on. */
  end(trailers?: FlatHeaders): void;
  failed(error: Error): void;
}

/** Who answers, and hears what becomes of the client. */
export interface Answerer {
  /** The client takes data again. */
  drained(): void;
  /** The client has gone before the answer was complete. */
  gone(): void;
}

export interface ClientExchange {
  readonly head: RequestHead;
  /** The answer's head is decided. */
  readonly started: boolean;
  /** Nothing can be answered any more. */
  readonly over: boolean;
  /** So much is held of others that this one should not wait. */
  readonly crowded: boolean;
  receive(receiver: BodyReceiver): void;
  /** All of the body, in place of `receive`, where it is here already; null: it is not. */
  takeBody?(): Buffer | null;
  pauseBody(): void;
  resumeBody(): void;
  /** What still comes of it is thrown away. */
  discardBody(): void;
  answeredBy(answerer: Answerer): void;
  /** Leave to send the body (RFC 9110, 10.1.1). */
  continue(): void;
  /** A whole answer. `headers`: names and values in turn, without framing; checked. `close`: the connection carries no other. */
  send(status: number, headers: FlatHeaders, body: Uint8Array, close: boolean): void;
  /**
   * The head of an answer whose body comes in parts; it goes out with the first of them, or with `flush`. `lengthBytes`: null, not
   * known. `trails`: trailers may follow.
   */
  start(status: number, headers: FlatHeaders, lengthBytes: number | null, close: boolean, trails?: boolean): void;
  flush(): void;
  /** False: the client takes no more for now; `drained` follows. */
  write(chunk: Uint8Array): boolean;
  end(trailers?: FlatHeaders): void;
  /** The answer cannot be completed: the client must not take it for whole. */
  destroy(): void;
}

/** What a request came by. */
export interface ClientConnection {
  /** Address of the client. */
  readonly peer: string;
  /** What has been read behind this request is not served: nobody knows where it begins. */
  distrust(exchange: ClientExchange): void;
}
