// One keep-alive HTTP/1.1 connection to an instance: one exchange at a time, streamed both ways with back-pressure.

import type { Duplex } from "node:stream";
import type { SocketReader } from "#sandbox/door.ts";
import type { FlatHeaders, RequestBody } from "./door.ts";
import type { InstanceStream } from "./instance-client.ts";
import { BadResponse, type ResponseHead } from "./response-head.ts";
import { ResponseParser, type ResponseEvents } from "./response-parser.ts";

/** How an exchange broke. `closed`: the connection ended early; `malformed`: what came is not HTTP. */
export interface Breakage {
  readonly kind: "closed" | "malformed";
  /** Words for the author of the function. */
  readonly message: string;
  /** Nothing of a response had arrived. */
  readonly silent: boolean;
  /** Nothing of the body that was to follow the request was taken; there may be none. */
  readonly whole: boolean;
  /** The instance cannot have taken the request: it was never completely written. */
  readonly unsent: boolean;
  /** The connection had carried another exchange before. */
  readonly reused: boolean;
}

/** What one exchange hears, in order. Exactly one of end, upgraded and broken comes last, unless it was cut. */
export interface InstanceExchange {
  /** `whole`: all of the response has arrived; its end comes at once. */
  head(head: ResponseHead, whole: boolean): void;
  /** False: no more until `InstanceConnection.resume`. */
  data(chunk: Buffer): boolean;
  /** The connection is free again before this is called. */
  end(last: Buffer | null, done: boolean, trailers?: FlatHeaders): void;
  upgraded(head: ResponseHead, socket: Duplex): void;
  broken(breakage: Breakage): void;
  /** The request body broke off on the caller's side. */
  bodyFailed(error: Error): void;
  /** So many bytes of the request's body went to the instance. */
  sent(bytes: number): void;
}

/** Who keeps the connections of an instance. */
export interface ConnectionKeeper {
  /** The exchange is complete and the connection can carry another one. */
  free(connection: InstanceConnection, keepAliveMs: number | null): void;
  /** An answer has begun; `whole`: all of it is there. */
  answers(whole: boolean): void;
  /** It is gone. */
  closed(connection: InstanceConnection): void;
}

/** One for all connections: what is read is used up, or copied, before the next read. */
export const readBuffer = Buffer.allocUnsafeSlow(64 * 1024);
const crlf = Buffer.from("\r\n");
const lastChunk = "0\r\n\r\n";

export class InstanceConnection implements ResponseEvents, InstanceStream {
  readonly #socket: Duplex;
  readonly #keeper: ConnectionKeeper;
  readonly #parser = new ResponseParser(this);
  #exchange: InstanceExchange | null = null;
  #body: RequestBody | null = null;
  #bodyStarted = false;
  #bodySent = true;
  #keepAlive = false;
  #keepAliveMs: number | null = null;
  #exchanges = 0;
  /** It was asked to become another protocol's: whatever came of that, it carries nothing after it. */
  #mayLeave = false;
  /** What is read lies in a buffer that the next read of any connection overwrites. */
  #borrowed = false;
  #error: NodeJS.ErrnoException | null = null;
  /** Until when it may be used again, monotonic us; kept by the keeper. */
  idleUntilUs = 0;

  constructor(connect: (reader: SocketReader) => Duplex, keeper: ConnectionKeeper) {
    this.#keeper = keeper;
    const socket = connect({ buffer: readBuffer, callback: this.#onRead });
    this.#socket = socket;
    socket.on("data", this.#onData);
    socket.on("end", this.#onEnd);
    socket.on("error", this.#onError);
    socket.on("close", this.#onClose);
    socket.on("drain", this.#onDrain);
  }

  get usable(): boolean {
    return this.#exchange === null && this.#socket.writable && !this.#socket.readableEnded;
  }

  /** `request`: its head, and a body that is not in `body`. */
  send(exchange: InstanceExchange, method: string, request: string, body: RequestBody | null, upgrade: boolean): void {
    this.#exchange = exchange;
    this.#exchanges++;
    this.#mayLeave = upgrade;
    this.#body = body;
    this.#bodyStarted = false;
    this.#bodySent = body === null;
    this.#parser.expect(method, upgrade);
    // The body waits for the head: where the other side turns out to have closed, it is still whole for another try.
    if (body === null) this.#socket.write(request, "latin1");
    else this.#socket.write(request, "latin1", this.#onHeadWritten);
  }

  /** The exchange takes data again. */
  resume(): void {
    this.#socket.resume();
  }

  /** Ends the connection at once; the exchange hears nothing more. */
  cut(): void {
    this.#exchange = null;
    this.#dropBody();
    this.#socket.destroy();
  }

  /** Says that nobody wants the answer, but goes on listening: how a program without a done signal shows when it has ended. */
  halfClose(): void {
    this.#dropBody();
    this.#socket.end();
  }

  // --- the request's body, on its way in

  /** For the body's framing alone. */
  write(chunk: Uint8Array | string): boolean {
    return this.#socket.write(chunk, "latin1");
  }

  writeChunk(chunk: Uint8Array): boolean {
    this.#socket.cork();
    this.#socket.write(`${chunk.length.toString(16)}\r\n`, "latin1");
    this.#socket.write(chunk);
    const more = this.#socket.write(crlf);
    this.#socket.uncork();
    return more;
  }

  bodySent(bytes: number): void {
    this.#exchange?.sent(bytes);
  }

  bodyEnded(): void {
    this.#bodySent = true;
    this.#body = null;
  }

  bodyFailed(error: Error): void {
    this.#body = null;
    const exchange = this.#exchange;
    this.cut();
    exchange?.bodyFailed(error);
  }

  readonly #onHeadWritten = (error?: Error | null): void => {
    const body = this.#body;
    if (error || body === null) return;
    this.#bodyStarted = true;
    body.read(body.lengthBytes === null ? new ChunkedBody(this) : new PlainBody(this, body.lengthBytes));
  };

  #dropBody(): void {
    this.#body?.discard();
    this.#body = null;
  }

  // --- what the parser found

  head(head: ResponseHead, whole: boolean): void {
    this.#keepAlive = head.keepAlive;
    this.#keepAliveMs = head.keepAliveMs;
    this.#keeper.answers(whole);
    this.#exchange?.head(head, whole);
  }

  data(chunk: Buffer): void {
    if (this.#exchange?.data(this.#kept(chunk)) === false) this.#socket.pause();
  }

  end(last: Buffer | null, done: boolean): void {
    const exchange = this.#exchange;
    this.#exchange = null;
    // A body that was not wanted to its end leaves the connection in the middle of a request: never reused.
    if (this.#keepAlive && this.#bodySent && !this.#mayLeave && this.usable) {
      this.#socket.resume();
      this.#keeper.free(this, this.#keepAliveMs);
    } else {
      this.#dropBody();
      this.#socket.destroy();
    }
    exchange?.end(last === null ? null : this.#kept(last), done);
  }

  /** Whoever gets a piece of a body may keep it. */
  #kept(chunk: Buffer): Buffer {
    return this.#borrowed ? Buffer.from(chunk) : chunk;
  }

  upgrade(head: ResponseHead, rest: Buffer): void {
    const socket = this.#socket;
    const exchange = this.#exchange;
    this.#exchange = null;
    this.#dropBody();
    socket.pause();
    socket.off("data", this.#onData).off("end", this.#onEnd).off("close", this.#onClose).off("drain", this.#onDrain);
    if (rest.length > 0) socket.unshift(rest);
    this.#keeper.closed(this);
    exchange?.upgraded(head, socket);
  }

  // --- what the socket says

  readonly #onRead = (bytes: number, buffer: Buffer): boolean => {
    this.#borrowed = true;
    this.#onData(buffer.subarray(0, bytes));
    // Whether it pauses is said by `pause`, in its time.
    return true;
  };

  readonly #onData = (chunk: Buffer): void => {
    try {
      // Bytes that nobody asked for (a 408 of an idle server, say) end it too: the parser is idle then, and refuses.
      this.#parser.feed(chunk);
    } catch (error) {
      if (!(error instanceof BadResponse)) throw error;
      this.#break("malformed", error.message);
    }
  };

  readonly #onEnd = (): void => {
    if (!this.#parser.finish()) this.#break("closed", "it closed the connection before its answer was complete");
    this.#socket.destroy();
  };

  readonly #onError = (error: NodeJS.ErrnoException): void => {
    this.#error = error;
  };

  readonly #onClose = (): void => {
    const why = this.#error?.code === undefined ? "" : ` (${this.#error.code})`;
    this.#break("closed", `it closed the connection before its answer was complete${why}`);
    this.#keeper.closed(this);
  };

  readonly #onDrain = (): void => {
    this.#body?.resume();
  };

  #break(kind: Breakage["kind"], message: string): void {
    const exchange = this.#exchange;
    const silent = !this.#parser.started;
    // What one write that failed with EPIPE was to bring was never read: the other side had closed before.
    const unsent = silent && !this.#bodyStarted && this.#error?.code === "EPIPE";
    this.#exchange = null;
    this.#socket.destroy();
    if (exchange === null) return this.#dropBody();
    const whole = !this.#bodyStarted;
    // A body of which nothing was taken is left alone: another try may need it.
    if (whole) this.#body = null;
    else this.#dropBody();
    exchange.broken({ kind, message, silent, unsent, whole, reused: this.#exchanges > 1 });
  }
}

/** A body with a length: bytes as they come, and never more than were promised. */
class PlainBody {
  readonly #connection: InstanceConnection;
  #left: number;

  constructor(connection: InstanceConnection, lengthBytes: number) {
    this.#connection = connection;
    this.#left = lengthBytes;
  }

  data(chunk: Uint8Array): boolean {
    this.#left -= chunk.length;
    if (this.#left < 0) {
      this.failed(new Error("the body is longer than its content-length"));
      return true;
    }
    this.#connection.bodySent(chunk.length);
    return this.#connection.write(chunk);
  }

  end(): void {
    if (this.#left === 0) this.#connection.bodyEnded();
    else if (this.#left > 0) this.failed(new Error("the body is shorter than its content-length"));
  }

  failed(error: Error): void {
    this.#left = -1;
    this.#connection.bodyFailed(error);
  }
}

class ChunkedBody {
  readonly #connection: InstanceConnection;

  constructor(connection: InstanceConnection) {
    this.#connection = connection;
  }

  data(chunk: Uint8Array): boolean {
    if (chunk.length === 0) return true;
    this.#connection.bodySent(chunk.length);
    return this.#connection.writeChunk(chunk);
  }

  end(): void {
    this.#connection.write(lastChunk);
    this.#connection.bodyEnded();
  }

  failed(error: Error): void {
    this.#connection.bodyFailed(error);
  }
}
