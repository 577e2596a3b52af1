// A workload's answer on its way to the client: an exchange's answer as the activator's sink.

import type { Duplex } from "node:stream";
import type { FlatHeaders, Invocation, ReplyHead, ReplySink } from "#activator/door.ts";
import { EbbError } from "#model/errors.ts";
import type { Answerer, ClientExchange } from "./client-exchange.ts";
import type { TakeSocket } from "./http1/connection.ts";
import type { IncomingBody } from "./incoming-body.ts";
import { sendProblem } from "./problem.ts";
import { responseHeaders, type ResponseRules } from "./response-headers.ts";
import { pauseMs, smallBytes } from "./small-chunks.ts";
import { join, switchingHead } from "./upgrade.ts";

export interface ReplyOptions extends ResponseRules {
  /** The request's: where leave to send it was asked for and not given, the connection ends with the answer. */
  readonly body: IncomingBody | null;
  /** Something that is no EbbError: the caller gets what this makes of it. */
  readonly defect: (error: Error) => EbbError;
  /** Where the client asked for another protocol: its socket. */
  readonly upgrade: TakeSocket | null;
}

const noBytes = new Uint8Array(0);

export class Reply implements ReplySink, Answerer {
  readonly #exchange: ClientExchange;
  readonly #options: ReplyOptions;
  #invocation: Invocation | null = null;
  #over = false;
  /** Held back for a moment, so that it goes out with the first of the body. */
  #head: {
    readonly status: number;
    readonly headers: string[];
    readonly lengthBytes: number | null;
    readonly trails: boolean;
  } | null = null;
  /** Small chunks of this turn, to go out as one; a turn brings at most what one read of a socket does. */
  #small: Uint8Array[] = [];
  /** The client takes no more for now. */
  #full = false;
  /** So many small chunks came that the stream rests. */
  #resting = false;

  constructor(exchange: ClientExchange, options: ReplyOptions) {
    this.#exchange = exchange;
    this.#options = options;
    exchange.answeredBy(this);
  }

  /** Known only when `invoke` has returned; the answer may be over by then. */
  carry(invocation: Invocation): void {
    if (!this.#over) this.#invocation = invocation;
  }

  whole(head: ReplyHead, body: Uint8Array | null): void {
    this.#over = true;
    const headers = responseHeaders(head, this.#options);
    if (body !== null || head.lengthBytes === 0)
      return this.#exchange.send(head.status, headers, body ?? noBytes, this.#mustClose);
    // To a HEAD, or a 304: what a body would have.
    this.#exchange.start(head.status, headers, head.lengthBytes, this.#mustClose);
    this.#exchange.end();
  }

  head(head: ReplyHead): void {
    const { status, lengthBytes, trails = false } = head;
    this.#head = { status, headers: responseHeaders(head, this.#options), lengthBytes, trails };
    // It waits for the first bytes, which have mostly come along with it, but not beyond this turn.
    queueMicrotask(this.#flush);
  }

  data(chunk: Uint8Array): boolean {
    this.#writeHead();
    if (chunk.length >= smallBytes) {
      this.#writeSmall();
      return this.#write(chunk);
    }
    if (this.#small.push(chunk) === 1) queueMicrotask(this.#writeSmall);
    return !this.#full && pauseMs(this.#small.length) === 0;
  }

  end(trailers?: FlatHeaders): void {
    this.#over = true;
    this.#writeHead();
    this.#writeSmall();
    this.#exchange.end(trailers);
  }

  failed(error: Error, headSent: boolean): void {
    this.#over = true;
    if (headSent) return this.#exchange.destroy();
    const known = error instanceof EbbError ? error : this.#options.defect(error);
    const { invocation } = this.#options;
    sendProblem(this.#exchange, known, { anyOrigin: true, invocation, close: this.#mustClose });
  }

  upgraded(head: ReplyHead, instance: Duplex): void {
    this.#over = true;
    const { upgrade } = this.#options;
    if (upgrade === null || this.#exchange.over) return void instance.destroy();
    const socket = upgrade();
    socket.write(switchingHead(responseHeaders(head, this.#options)), "latin1");
    join(socket, instance);
  }

  drained(): void {
    this.#full = false;
    if (!this.#resting) this.#invocation?.drained();
  }

  gone(): void {
    if (this.#over) return;
    this.#over = true;
    this.#invocation?.abort();
  }

  get #mustClose(): boolean {
    const { upgrade, body } = this.#options;
    return upgrade !== null || body?.withheld === true;
  }

  #writeHead(): void {
    const head = this.#head;
    if (head === null) return;
    this.#head = null;
    this.#exchange.start(head.status, head.headers, head.lengthBytes, this.#mustClose, head.trails);
  }

  #write(chunk: Uint8Array): boolean {
    const more = this.#exchange.write(chunk);
    if (!more) this.#full = true;
    return more;
  }

  readonly #writeSmall = (): void => {
    const small = this.#small;
    if (small.length === 0) return;
    this.#small = [];
    this.#write(small.length === 1 ? small[0]! : Buffer.concat(small));
    const restMs = pauseMs(small.length);
    if (restMs > 0) this.#rest(restMs);
  };

  #rest(forMs: number): void {
    if (this.#resting) return;
    this.#resting = true;
    setTimeout(() => {
      this.#resting = false;
      if (!this.#full) this.#invocation?.drained();
    }, forMs);
  }

  readonly #flush = (): void => {
    if (this.#head === null) return;
    this.#writeHead();
    this.#exchange.flush();
  };
}
