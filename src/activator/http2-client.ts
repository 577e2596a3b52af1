// The connections to an instance that speaks HTTP/2 without TLS: one that carries all calls, and more only where the instance takes
// fewer at a time on one than ebb has for it.

import type { ClientHttp2Session, ClientHttp2Stream } from "node:http2";
import type { Duplex } from "node:stream";
import { Allowance } from "#lib/allowance.ts";
import { http2Module } from "#lib/http2.ts";
import type { Clock } from "#model/clock.ts";
import { http2Limits, httpLimits } from "#model/limits.ts";
import type { Call } from "./door.ts";
import { http2RequestHead } from "./http2-head.ts";
import { Http2InstanceStream, type Http2Opener } from "./http2-stream.ts";
import type { InstanceClient, InstanceStream } from "./instance-client.ts";
import type { InstanceExchange } from "./instance-connection.ts";
import type { InstanceRequest } from "./request-head.ts";

/** One connection. */
interface Line {
  readonly session: ClientHttp2Session;
  readonly socket: Duplex;
  open: number;
  /** What the instance takes at a time; what it has not said yet is taken for the usual. */
  most: number;
  /** It has said so, and so speaks HTTP/2. */
  speaks: boolean;
  /** It has carried a call before. */
  used: boolean;
  /** Nothing new goes by it. */
  ending: boolean;
}

const usualMost = 100;
/** Beside one that carries nothing any more: as many with room are enough for what comes next. */
const spareLines = 4;

export class Http2Client implements InstanceClient, Http2Opener {
  readonly #connect: () => Duplex;
  readonly #clock: Clock;
  readonly #lines: Line[] = [];
  /** Which take nothing new, and still carry something. */
  readonly #leaving = new Set<Line>();

  constructor(connect: () => Duplex, clock: Clock) {
    this.#connect = connect;
    this.#clock = clock;
  }

  requestOf(call: Call, deadlineMs: number): InstanceRequest {
    return http2RequestHead(call, deadlineMs);
  }

  send(exchange: InstanceExchange, call: Call, head: InstanceRequest, _nowUs: number, fresh: boolean): InstanceStream {
    return new Http2InstanceStream(this, exchange, call, head, fresh);
  }

  open(
    head: InstanceRequest,
    endStream: boolean,
    fresh: boolean,
  ): { readonly stream: ClientHttp2Stream; readonly reused: boolean; readonly speaks: () => boolean } {
    const line = (fresh ? undefined : this.#lines.find(hasRoom)) ?? this.#addLine();
    const stream = line.session.request(head.fields!, { endStream, waitForTrailers: !endStream });
    const reused = line.used;
    line.used = true;
    line.open++;
    stream.once("close", () => this.#left(line));
    return { stream, reused, speaks: () => line.speaks };
  }

  closeIdle(): void {
    for (const line of this.#lines.slice()) this.#retire(line);
  }

  close(): void {
    for (const line of [...this.#lines.splice(0), ...this.#leaving]) this.#end(line);
  }

  /** One call less. An instance decides by its answers how many there are: what carries nothing must not add up. */
  #left(line: Line): void {
    if (--line.open > 0) return;
    if (line.ending) return this.#end(line);
    let spare = 0;
    for (const other of this.#lines) if (other !== line && hasRoom(other)) spare++;
    if (line.most === 0 || spare >= spareLines) this.#retire(line);
  }

  /** Takes nothing new. */
  #retire(line: Line): void {
    if (line.ending) return;
    line.ending = true;
    const at = this.#lines.indexOf(line);
    if (at >= 0) this.#lines.splice(at, 1);
    if (line.open === 0) return this.#end(line);
    this.#leaving.add(line);
    line.session.close();
  }

  /** The socket too: a session that was told to close only half-closes it, and waits for the instance to do the rest. */
  #end(line: Line): void {
    line.ending = true;
    this.#leaving.delete(line);
    line.session.destroy();
    line.socket.destroy();
  }

  #addLine(): Line {
    const socket = this.#connect();
    const session = http2Module().connect("http://instance", {
      createConnection: () => socket,
      maxSessionMemory: http2Limits.sessionMemoryMb,
      maxHeaderListPairs: httpLimits.responseHeaderCount + 1,
      maxSettings: http2Limits.settingsPerFrame,
      maxSessionInvalidFrames: http2Limits.invalidFrames,
      maxReservedRemoteStreams: 0,
      peerMaxConcurrentStreams: usualMost,
      strictSingleValueFields: false,
      settings: {
        enablePush: false,
        initialWindowSize: http2Limits.instanceWindowBytes,
        maxHeaderListSize: httpLimits.responseHeadBytes,
      },
    } as Parameters<ReturnType<typeof http2Module>["connect"]>[1]);
    const line: Line = { session, socket, open: 0, most: usualMost, speaks: false, used: false, ending: false };
    this.#lines.push(line);
    session.on("remoteSettings", ({ maxConcurrentStreams }) => {
      line.speaks = true;
      line.most = Math.min(maxConcurrentStreams ?? http2Limits.instanceStreams, http2Limits.instanceStreams);
    });
    const { controlFramesPerSecond, controlFramesBurst } = http2Limits;
    const controls = new Allowance(controlFramesPerSecond, controlFramesBurst, this.#clock.monotonicUs());
    const count = (): void => {
      if (!controls.take(this.#clock.monotonicUs())) session.destroy();
    };
    session.on("remoteSettings", count).on("ping", count).on("altsvc", count).on("origin", count);
    session.once("connect", () => {
      if (!session.destroyed) session.setLocalWindowSize(http2Limits.connectionWindowBytes);
    });
    const gone = (): void => this.#retire(line);
    // Its streams say what became of the calls.
    session.on("goaway", gone).on("error", gone).on("close", gone);
    return line;
  }
}

function hasRoom({ session, open, most, ending }: Line): boolean {
  return !ending && !session.closed && !session.destroyed && open < most;
}
