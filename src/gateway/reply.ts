// A workload's answer on its way to the client: node:http's response as the activator's sink.

import type { ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import type { Invocation, ReplyHead, ReplySink } from "#activator/door.ts";
import { EbbError } from "#model/errors.ts";
import { canWriteOnce, oneWriteBytes, writeOnce } from "./one-write.ts";
import { type ProblemOptions, sendProblem } from "./problem.ts";
import { responseHeaders, type ResponseRules } from "./response-headers.ts";
import { pauseMs, smallBytes } from "./small-chunks.ts";
import { join, switchingHead } from "./upgrade.ts";

export interface ReplyOptions extends ResponseRules {
  readonly anyOrigin: boolean;
  /** The connection ends with the answer, whatever the client would like. */
  readonly mustClose: () => boolean;
  /** Something that is no EbbError: the caller gets what this makes of it. */
  readonly defect: (error: Error) => EbbError;
  /** Upgrades: what the client sent behind its head. */
  readonly early: Buffer | null;
}

const noBytes = new Uint8Array(0);

export class Reply implements ReplySink {
  readonly #response: ServerResponse;
  readonly #options: ReplyOptions;
  #invocation: Invocation | null = null;
  #over = false;
  /** Held back for a moment, so that head and body can go out as one. */
  #head: { readonly status: number; readonly headers: string[]; readonly lengthBytes: number | null } | null = null;
  /** All of the body. */
  #whole: Uint8Array | null = null;
  /** Small chunks of this turn, to go out as one; a turn brings at most what one read of a socket does. */
  #small: Uint8Array[] = [];

  constructor(response: ServerResponse, options: ReplyOptions) {
    this.#response = response;
    this.#options = options;
    response.on("close", this.#onClose);
  }

  /** Known only when `invoke` has returned; the answer may be over by then. */
  carry(invocation: Invocation): void {
    if (!this.#over) this.#invocation = invocation;
  }

  head(head: ReplyHead): void {
    this.#head = { status: head.status, headers: responseHeaders(head, this.#options), lengthBytes: head.lengthBytes };
    // It waits for the first bytes, which have mostly come along with it, but not beyond this turn.
    queueMicrotask(this.#flush);
  }

  data(chunk: Uint8Array): boolean {
    if (this.#head !== null && chunk.length === this.#head.lengthBytes && chunk.length <= oneWriteBytes) {
      this.#whole = chunk;
      return true;
    }
    this.#writeHead();
    if (chunk.length >= smallBytes) {
      this.#writeSmall();
      return this.#write(chunk);
    }
    if (this.#small.push(chunk) === 1) queueMicrotask(this.#writeSmall);
    return !this.#response.writableNeedDrain && pauseMs(this.#small.length) === 0;
  }

  end(): void {
    this.#over = true;
    this.#writeSmall();
    const head = this.#head;
    const whole = this.#whole;
    if (
      head !== null &&
      (whole !== null || head.lengthBytes === 0) &&
      canWriteOnce(this.#response) &&
      !this.#mustClose
    ) {
      this.#head = null;
      this.#whole = null;
      return writeOnce(this.#response, head.status, head.headers, whole ?? noBytes);
    }
    this.#flush();
    this.#response.end();
  }

  failed(error: Error, headSent: boolean): void {
    this.#over = true;
    if (headSent) return void this.#response.destroy();
    const known = error instanceof EbbError ? error : this.#options.defect(error);
    const { anyOrigin, invocation, mustClose } = this.#options;
    const options: ProblemOptions = { anyOrigin, invocation, close: mustClose() };
    sendProblem(this.#response, known, options);
  }

  upgraded(head: ReplyHead, instance: Duplex): void {
    this.#over = true;
    const client = this.#response.socket;
    if (client === null) return void instance.destroy();
    this.#response.detachSocket(client);
    client.write(switchingHead(responseHeaders({ ...head, lengthBytes: null }, this.#options)), "latin1");
    if (this.#options.early !== null && this.#options.early.length > 0) client.unshift(this.#options.early);
    join(client, instance);
  }

  get #mustClose(): boolean {
    return this.#options.mustClose();
  }

  #writeHead(): void {
    const head = this.#head;
    if (head === null) return;
    this.#head = null;
    if (this.#mustClose) head.headers.push("connection", "close");
    this.#response.writeHead(head.status, head.headers);
  }

  #write(chunk: Uint8Array): boolean {
    if (this.#response.write(chunk)) return true;
    if (this.#response.listenerCount("drain") === 0) this.#response.on("drain", this.#onDrain);
    return false;
  }

  readonly #writeSmall = (): void => {
    const small = this.#small;
    if (small.length === 0) return;
    this.#small = [];
    if (this.#response.destroyed) return;
    const more = this.#write(small.length === 1 ? small[0]! : Buffer.concat(small));
    const restMs = pauseMs(small.length);
    if (restMs > 0 && more) setTimeout(this.#onDrain, restMs);
  };

  readonly #flush = (): void => {
    if (this.#head === null) return;
    const whole = this.#whole;
    this.#whole = null;
    this.#writeHead();
    if (whole !== null) this.#write(whole);
    else if (!this.#over) this.#response.flushHeaders();
  };

  readonly #onDrain = (): void => {
    this.#invocation?.drained();
  };

  readonly #onClose = (): void => {
    if (this.#over) return;
    this.#over = true;
    this.#invocation?.abort();
  };
}
