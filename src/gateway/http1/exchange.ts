// One request of a client and the answer to it: the body as it comes, and the answer's framing. Answers go out in the requests' order.

import { STATUS_CODES } from "#lib/http.ts";
import { httpLimits } from "#model/limits.ts";
import type { Answerer, BodyReceiver, ClientExchange } from "../client-exchange.ts";
import type { RequestHead } from "./request-parser.ts";

/** What an exchange asks of its connection. */
export interface ExchangeOwner {
  /** Of the client. */
  readonly peer: string;
  /** Nothing is answered on this connection after this exchange. */
  isLast(exchange: Exchange): boolean;
  /** False: more than the client takes is under way; `drained` of the exchange follows. */
  write(bytes: string | Uint8Array): boolean;
  /** What is written until `uncork` goes out together. */
  cork(): void;
  uncork(): void;
  /** What is held or wanted of the exchange's body, which is asked after each read, has changed. */
  flowChanged(): void;
  /** No more should be held of bodies that nobody takes yet. */
  readonly crowded: boolean;
  /** Nothing more comes of the answer; `close`: it was the connection's last, or is not complete. */
  answered(exchange: Exchange, close: boolean): void;
  /** Breaks the connection off in a way that nobody takes for its end. */
  reset(): void;
}

const keepAlive = `keep-alive: timeout=${Math.floor(httpLimits.keepAliveTimeoutMs / 1_000)}\r\n`;
const crlf = "\r\n";

export class Exchange implements ClientExchange {
  readonly head: RequestHead;
  readonly #owner: ExchangeOwner;
  // --- the request's body
  #receiver: BodyReceiver | null = null;
  #discarded = false;
  /** Its receiver takes no more for now. */
  #bodyPaused = false;
  /** Came before anybody wanted it. */
  #early: Buffer[] = [];
  #earlyBytes = 0;
  #complete = false;
  #bodyError: Error | null = null;
  // --- the answer
  #answerer: Answerer | null = null;
  /** It is this exchange's turn to answer; what is written before that waits here. */
  #turn = false;
  #waiting: (string | Uint8Array)[] = [];
  #head = "";
  #framing: "length" | "chunked" | "close" | "none" = "none";
  #state: "open" | "started" | "over" = "open";
  #onTurn: (() => void) | null = null;
  #close = false;
  #full = false;

  constructor(head: RequestHead, owner: ExchangeOwner) {
    this.head = head;
    this.#owner = owner;
  }

  get peer(): string {
    return this.#owner.peer;
  }
  /** Nothing can be answered any more. */
  get over(): boolean {
    return this.#state === "over";
  }
  /** The answer's head is decided. */
  get started(): boolean {
    return this.#state !== "open";
  }
  get complete(): boolean {
    return this.#complete;
  }
  /** Every request before it is answered. */
  get hasTurn(): boolean {
    return this.#turn;
  }

  // --- the request's body, from the connection

  /** Its receiver wants no more of it for now: it stays in the client's socket. */
  get bodyPaused(): boolean {
    return this.#receiver !== null && this.#bodyPaused;
  }
  /** It is still to come, and nobody has said yet what becomes of it. */
  get untaken(): boolean {
    return this.#receiver === null && !this.#discarded && !this.#complete;
  }
  /** What is held of it for whoever takes it. */
  get aheadBytes(): number {
    return this.#earlyBytes;
  }
  /** So much is held of others that this one should not wait. */
  get crowded(): boolean {
    return this.#owner.crowded;
  }

  arrived(chunk: Buffer): void {
    if (this.#receiver !== null) this.#receiver.data(chunk);
    else if (!this.#discarded) this.#keep(chunk);
  }

  #keep(chunk: Buffer): void {
    this.#early.push(chunk);
    this.#earlyBytes += chunk.length + httpLimits.sentAheadPieceBytes;
  }

  arrivedWhole(): void {
    this.#complete = true;
    if (this.#receiver === null) return;
    const receiver = this.#receiver;
    this.#receiver = null;
    receiver.end();
  }

  /** The rest of the body never comes. */
  bodyFailed(error: Error): void {
    if (this.#complete || this.#bodyError !== null) return;
    this.#bodyError = error;
    const receiver = this.#receiver;
    this.#receiver = null;
    receiver?.failed(error);
  }

  // --- the request's body, to whoever wants it

  receive(receiver: BodyReceiver): void {
    const early = this.#early;
    this.#early = [];
    this.#earlyBytes = 0;
    this.#receiver = receiver;
    this.#bodyPaused = false;
    for (const chunk of early) receiver.data(chunk);
    if (this.#bodyError !== null) {
      this.#receiver = null;
      receiver.failed(this.#bodyError);
    } else if (this.#complete) {
      this.#receiver = null;
      receiver.end();
    }
    this.#owner.flowChanged();
  }

  takeBody(): Buffer | null {
    if (!this.#complete || this.#receiver !== null || this.#discarded) return null;
    const early = this.#early;
    this.discardBody();
    return early.length === 1 ? early[0]! : Buffer.concat(early);
  }

  pauseBody(): void {
    this.#bodyPaused = true;
    this.#owner.flowChanged();
  }
  resumeBody(): void {
    this.#bodyPaused = false;
    this.#owner.flowChanged();
  }

  /** What still comes of it is thrown away. */
  discardBody(): void {
    this.#receiver = null;
    this.#early = [];
    this.#earlyBytes = 0;
    this.#discarded = true;
    this.resumeBody();
  }

  // --- the answer

  answeredBy(answerer: Answerer): void {
    this.#answerer = answerer;
  }

  /** Leave to send the body (RFC 9110, 10.1.1). */
  continue(): void {
    if (this.#state === "open") this.#put("HTTP/1.1 100 Continue\r\n\r\n");
  }

  /** A whole answer. `headers`: names and values in turn, without framing; checked. */
  send(status: number, headers: readonly string[], body: Uint8Array, close: boolean): void {
    if (this.#state !== "open") return;
    this.#start(status, headers, body.length, close);
    const head = this.#takeHead();
    if (this.#framing === "none" || body.length === 0) {
      this.#put(head);
    } else if (body.length <= smallAnswerBytes) {
      // One string is one write; latin1 is byte for byte.
      this.#put(head + Buffer.from(body.buffer, body.byteOffset, body.length).toString("latin1"));
    } else {
      this.#owner.cork();
      this.#put(head);
      this.#put(body);
      this.#owner.uncork();
    }
    this.#finish();
  }

  /** The head of an answer whose body comes in parts; it goes out with the first of them, or with `flush`. `lengthBytes`: null, not known. */
  start(status: number, headers: readonly string[], lengthBytes: number | null, close: boolean): void {
    if (this.#state === "open") this.#start(status, headers, lengthBytes, close);
  }

  flush(): void {
    if (this.#state === "started" && this.#head !== "") this.#put(this.#takeHead());
  }

  /** False: the client takes no more for now; `drained` follows. */
  write(chunk: Uint8Array): boolean {
    if (this.#state !== "started" || chunk.length === 0) return true;
    if (this.#framing === "none") {
      this.flush();
      return true;
    }
    const owner = this.#owner;
    owner.cork();
    const before = this.#takeHead();
    const open = this.#framing === "chunked" ? `${before}${chunk.length.toString(16)}${crlf}` : before;
    if (open !== "") this.#put(open);
    let more = this.#put(chunk);
    if (this.#framing === "chunked") more = this.#put(crlf);
    owner.uncork();
    if (!more) this.#full = true;
    return more;
  }

  end(): void {
    if (this.#state !== "started") return;
    const head = this.#takeHead();
    if (this.#framing === "chunked") this.#put(`${head}0\r\n\r\n`);
    else if (head !== "") this.#put(head);
    this.#finish();
  }

  /** The answer cannot be completed: the client must not take it for whole. */
  destroy(): void {
    if (this.#state === "over") return;
    // The connection's end would complete it.
    if (this.#turn && this.#framing === "close") this.#owner.reset();
    // Where it is not its turn nothing of it has gone out, and nothing will.
    this.#waiting = [];
    this.#onTurn = null;
    this.#close = true;
    this.#finish();
  }

  /** Something else answers over the connection itself when it is this exchange's turn, and says when it is done. */
  answeredElsewhere(answer: () => void): void {
    this.#state = "started";
    if (this.#turn) answer();
    else this.#onTurn = answer;
  }
  doneElsewhere(close: boolean): void {
    this.#close = close;
    if (this.#state === "started") this.#finish();
  }

  // --- from the connection

  /** Every request before this one is answered. */
  takeTurn(): void {
    this.#turn = true;
    const waiting = this.#waiting;
    this.#waiting = [];
    if (waiting.length > 0) {
      this.#owner.cork();
      for (const bytes of waiting) this.#owner.write(bytes);
      this.#owner.uncork();
    }
    this.#onTurn?.();
    this.#onTurn = null;
    if (this.#state === "over") this.#owner.answered(this, this.#close);
    else this.drained();
  }

  drained(): void {
    if (!this.#full) return;
    this.#full = false;
    this.#answerer?.drained();
  }

  /** The connection is gone. */
  gone(): void {
    this.bodyFailed(new Error("the client closed the connection before its body was complete"));
    if (this.#state === "over") return;
    this.#state = "over";
    this.#answerer?.gone();
  }

  #start(status: number, headers: readonly string[], lengthBytes: number | null, close: boolean): void {
    this.#state = "started";
    const { head } = this;
    const http11 = head.versionMajor === 1 && head.versionMinor === 1;
    const bodyless = head.method === "HEAD" || status === 204 || status === 304;
    let text = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\n`;
    let dated = false;
    for (let i = 0; i < headers.length; i += 2) {
      const name = headers[i]!;
      if (name === "date") dated = true;
      text += `${name}: ${headers[i + 1]}\r\n`;
    }
    if (!dated) text += dateLine();
    if (lengthBytes !== null) {
      this.#framing = "length";
      if (status !== 204) text += `content-length: ${lengthBytes}\r\n`;
    } else if (bodyless) {
      this.#framing = "none";
    } else if (http11) {
      this.#framing = "chunked";
      text += "transfer-encoding: chunked\r\n";
    } else {
      this.#framing = "close";
    }
    if (bodyless) this.#framing = "none";
    this.#close = close || !http11 || !head.keepAlive || this.#owner.isLast(this) || this.#framing === "close";
    this.#head = text + (this.#close ? "connection: close\r\n\r\n" : `${keepAlive}\r\n`);
  }

  #takeHead(): string {
    const head = this.#head;
    this.#head = "";
    return head;
  }

  #put(bytes: string | Uint8Array): boolean {
    if (bytes.length === 0) return true;
    if (this.#turn) return this.#owner.write(bytes);
    this.#waiting.push(bytes);
    return false;
  }

  #finish(): void {
    this.#state = "over";
    if (this.#turn) this.#owner.answered(this, this.#close);
  }
}

/** Up to this a body is copied behind its head: cheaper than a second write. */
const smallAnswerBytes = 16 * 1024;

let second = 0;
let line = "";
function dateLine(): string {
  const now = Math.floor(Date.now() / 1_000);
  if (now !== second) {
    second = now;
    line = `date: ${new Date(now * 1_000).toUTCString()}\r\n`;
  }
  return line;
}
