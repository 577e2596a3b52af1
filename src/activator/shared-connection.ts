// The connection that the invocations of an instance share (runtimes/CONTRACT.md, 10): a frame for each request and each answer. What goes out
// in one turn is one write, and what came in meanwhile is one read.

import type { Duplex } from "node:stream";
import { httpLimits } from "#model/limits.ts";
import type { SocketReader } from "#sandbox/door.ts";
import type { InstanceStream } from "./instance-client.ts";
import { readBuffer, type Breakage, type InstanceExchange } from "./instance-connection.ts";
import { BadResponse, type ResponseHead } from "./response-head.ts";
import { ResponseParser, type ResponseEvents } from "./response-parser.ts";

/** Of the runtime: its length and the number of its invocation, each a u32, little endian. */
const frameHeadBytes = 8;
const frameBytes = httpLimits.responseHeadBytes + 64 * 1024;
/** As the runtime accepts them. */
const numbers = 4_096;

const asked = "GET /ebb/v1/shared HTTP/1.1\r\nhost: runtime\r\nconnection: upgrade\r\nupgrade: ebb-frames\r\n\r\n";
const accepted = Buffer.from("HTTP/1.1 101 ");
const acceptedBytes = 1_024;
const headEnd = Buffer.from("\r\n\r\n");

/** Who keeps it. */
export interface SharedKeeper {
  /** The answer comes in pieces: it is to be fetched by a connection of its own. */
  moved(invocation: FramedExchange): InstanceStream;
  /** It is gone, or was never there. `refused`: the runtime does not keep to what was agreed. */
  sharedClosed(refused: boolean): void;
}

/** latin1. */
function frameHead(length: number, number: number): string {
  return String.fromCharCode(
    length & 0xff,
    (length >> 8) & 0xff,
    (length >> 16) & 0xff,
    length >>> 24,
    number & 0xff,
    (number >> 8) & 0xff,
    0,
    0,
  );
}

export class SharedConnection implements ResponseEvents {
  readonly #socket: Duplex;
  readonly #keeper: SharedKeeper;
  #parser = new ResponseParser(this);
  #state: "asked" | "open" | "closed" = "asked";
  /** By their numbers; null: the number is free. */
  readonly #exchanges: (FramedExchange | null)[] = [];
  readonly #free: number[] = [];
  #active = 0;
  /** The beginning of a frame, so many bytes of it. */
  #rest: Buffer = Buffer.alloc(0);
  #restBytes = 0;
  /** What goes out with this turn. */
  #out = "";
  /** Whose frame is being read. */
  #current: FramedExchange | null = null;

  constructor(connect: (reader: SocketReader) => Duplex, keeper: SharedKeeper) {
    this.#keeper = keeper;
    const socket = connect({ buffer: readBuffer, callback: this.#onRead });
    this.#socket = socket;
    socket.on("data", this.#received);
    socket.on("error", () => undefined);
    socket.on("end", () => socket.destroy());
    socket.on("close", () => this.#close(false, "it closed the connection before its answer was complete"));
    socket.write(asked, "latin1");
  }

  /** Takes another one. */
  get usable(): boolean {
    return this.#state === "open" && this.#active < numbers;
  }

  /** Exchanges under way. */
  get active(): number {
    return this.#active;
  }

  /** `request`: latin1, all of it. */
  send(exchange: InstanceExchange, id: string, method: string, request: string): InstanceStream {
    const number = this.#free.pop() ?? this.#exchanges.length;
    const framed = new FramedExchange(this, { exchange, id, method, number });
    this.#exchanges[number] = framed;
    this.#active++;
    this.#write(frameHead(request.length, number) + request);
    return framed;
  }

  /** Nobody wants the answer to this number any more; the frame that ends it comes all the same. */
  drop(number: number): void {
    if (this.#state === "open") this.#write(frameHead(0, number));
  }

  /** The number is free for another one. */
  release(number: number): void {
    if (this.#state !== "open") return;
    this.#exchanges[number] = null;
    this.#free.push(number);
    this.#active--;
  }

  /** Nothing of the instance is left; nobody hears of it. */
  close(): void {
    this.#state = "closed";
    this.#socket.destroy();
  }

  #write(frame: string): void {
    // Those whose begin is marked in one write are handed over in one turn.
    if (this.#out === "") queueMicrotask(this.#flush);
    this.#out += frame;
  }

  readonly #flush = (): void => {
    const out = this.#out;
    this.#out = "";
    if (this.#state === "open") this.#socket.write(out, "latin1");
  };

  readonly #onRead = (bytes: number, buffer: Buffer): boolean => {
    this.#received(Buffer.from(buffer.subarray(0, bytes)));
    return true;
  };

  readonly #received = (chunk: Buffer): void => {
    if (this.#state === "closed") return;
    const bytes = this.#restBytes === 0 ? chunk : this.#joined(chunk);
    const at = this.#frames(bytes, this.#state === "asked" ? this.#accepted(bytes) : 0);
    // Where nothing was read it is still in the buffer that grows.
    if (at === 0 && this.#restBytes > 0) return;
    this.#rest = bytes.subarray(at);
    this.#restBytes = bytes.length - at;
  };

  /** Behind the beginning of a frame. The buffer doubles: a runtime that sends byte by byte has each copied twice, not as often as it sends. */
  #joined(chunk: Buffer): Buffer {
    const length = this.#restBytes + chunk.length;
    if (this.#rest.length < length) {
      const grown = Buffer.allocUnsafe(2 * length);
      this.#rest.copy(grown, 0, 0, this.#restBytes);
      this.#rest = grown;
    }
    chunk.copy(this.#rest, this.#restBytes);
    this.#restBytes = length;
    return this.#rest.subarray(0, length);
  }

  /** Where the frames begin; 0: not yet. */
  #accepted(bytes: Buffer): number {
    const end = bytes.indexOf(headEnd);
    const known = Math.min(bytes.length, accepted.length);
    if (bytes.compare(accepted, 0, known, 0, known) !== 0 || (end < 0 && bytes.length > acceptedBytes))
      this.#close(true, "it does not share a connection, as it said it would");
    if (end < 0 || this.#state === "closed") return 0;
    this.#state = "open";
    return end + headEnd.length;
  }

  /** Where what is left of them begins. */
  #frames(bytes: Buffer, from: number): number {
    let at = from;
    while (bytes.length - at >= frameHeadBytes && this.#state === "open") {
      const length = bytes.readUInt32LE(at);
      const number = bytes.readUInt32LE(at + 4);
      const framed = this.#exchanges[number] ?? null;
      if (length > frameBytes || framed === null || framed.moved) {
        this.#close(true, "it sent a frame that answers nothing, or is too long");
        return bytes.length;
      }
      const start = at + frameHeadBytes;
      if (bytes.length - start < length) break;
      at = start + length;
      // Its number stays with one that moves: until the runtime has taken it up there it can only be dropped here.
      if (length === 0 && framed.moves(this.#keeper)) continue;
      this.release(number);
      if (length > 0) this.#answer(framed, bytes.subarray(start, at));
    }
    return at;
  }

  #answer(framed: FramedExchange, frame: Buffer): void {
    this.#current = framed;
    try {
      this.#parser.expect(framed.method, false);
      this.#parser.feed(frame);
      // Heard already where it was complete.
      framed.fails("malformed", "its answer is shorter than it says");
    } catch (error) {
      if (!(error instanceof BadResponse)) throw error;
      framed.fails("malformed", error.message);
    } finally {
      if (this.#current !== null) {
        this.#parser = new ResponseParser(this);
        // Where its head, which nobody could read, said that it is done, the runtime says so again.
        this.drop(framed.number);
      }
      this.#current = null;
    }
  }

  #close(refused: boolean, message: string): void {
    if (this.#state === "closed") return;
    this.close();
    this.#keeper.sharedClosed(refused);
    for (const framed of this.#exchanges.splice(0)) framed?.fails(refused ? "malformed" : "closed", message);
  }

  // --- what the parser finds in a frame

  head(head: ResponseHead, whole: boolean): void {
    this.#current!.head(head, whole);
  }
  data(chunk: Buffer): void {
    this.#current!.data(chunk);
  }
  end(last: Buffer | null, done: boolean): void {
    const framed = this.#current!;
    this.#current = null;
    framed.end(last, done);
  }
  upgrade(): void {
    throw new BadResponse("it switched protocols without being asked");
  }
}

interface Framed {
  readonly exchange: InstanceExchange;
  readonly id: string;
  readonly method: string;
  readonly number: number;
}

/** One exchange of a shared connection: answered there, or by a connection of its own to which it moves, and then between that and its invocation. */
export class FramedExchange implements InstanceStream, InstanceExchange {
  readonly #shared: SharedConnection;
  readonly #of: Framed;
  /** Null: it is over, or nobody wants it. */
  #exchange: InstanceExchange | null;
  /** What it has moved to. */
  #moved: InstanceStream | null = null;
  /** The runtime may not have taken it up there yet. */
  #moving = false;

  constructor(shared: SharedConnection, of: Framed) {
    this.#shared = shared;
    this.#of = of;
    this.#exchange = of.exchange;
  }

  get id(): string {
    return this.#of.id;
  }
  get method(): string {
    return this.#of.method;
  }
  get number(): number {
    return this.#of.number;
  }
  get moved(): boolean {
    return this.#moved !== null;
  }

  // --- from the invocation

  resume(): void {
    this.#moved?.resume();
  }

  cut(): void {
    const wanted = this.#exchange !== null;
    this.#exchange = null;
    this.#moved?.cut();
    if (this.#moving) this.#leave();
    else if (wanted && this.#moved === null) this.#shared.drop(this.#of.number);
  }

  halfClose(): void {
    if (this.#moved !== null) this.#moved.halfClose();
    else this.cut();
  }

  // --- from the connection

  /** False: nobody wants it any more. */
  moves(keeper: SharedKeeper): boolean {
    if (this.#exchange === null) return false;
    this.#moving = true;
    this.#moved = keeper.moved(this);
    return true;
  }

  /** The shared connection has failed it, or has ended: what has moved has one of its own. */
  fails(kind: "closed" | "malformed", message: string): void {
    if (this.#moved !== null) return;
    this.broken({ kind, message, silent: kind === "closed", unsent: false, whole: true, reused: true });
  }

  // --- from whichever connection brings the answer

  head(head: ResponseHead, whole: boolean): void {
    if (this.#moving) {
      this.#moving = false;
      this.#shared.release(this.#of.number);
    }
    this.#exchange?.head(head, whole);
  }

  data(chunk: Buffer): boolean {
    return this.#exchange?.data(chunk) ?? true;
  }

  end(last: Buffer | null, done: boolean): void {
    const exchange = this.#exchange;
    this.#exchange = null;
    exchange?.end(last, done);
  }

  upgraded(_head: ResponseHead, socket: Duplex): void {
    socket.destroy();
  }

  broken(breakage: Breakage): void {
    const exchange = this.#exchange;
    this.#exchange = null;
    if (this.#moving) this.#leave();
    // What has moved has begun, whatever its connection carried before: it is not tried again.
    exchange?.broken(this.#moved === null ? breakage : { ...breakage, reused: false });
  }

  bodyFailed(): void {}
  sent(): void {}

  /** The runtime still has it here, and hears here that nobody wants it. */
  #leave(): void {
    this.#moving = false;
    this.#shared.drop(this.#of.number);
    this.#shared.release(this.#of.number);
  }
}
