// Asks the host's own resolvers: a socket and a random id for each attempt, the next resolver after a failure, TCP for what is long.

import { createSocket, type Socket as Datagrams } from "node:dgram";
import { connect, isIPv4, isIPv6 } from "node:net";
import type { Clock } from "#model/clock.ts";
import { resolverLimits } from "#model/limits.ts";
import type { Question, UpstreamAnswer } from "./decide.ts";
import { readUpstreamAnswer, writeUpstreamQuery } from "./wire.ts";

export interface Fetched {
  readonly answer: UpstreamAnswer;
  /** On the wire. */
  readonly bytes: number;
}

export interface UpstreamOptions {
  /** Addresses, best first; read at each question, because a laptop changes networks. */
  readonly resolvers: () => readonly string[];
  readonly clock: Clock;
  /** Of a resolver; 53 but in tests. */
  readonly port?: number;
}

/** Answers null when nobody answers in time, or as soon as it is given up. Never throws, never rejects. */
export type AskUpstream = (question: Question, givenUp: AbortSignal) => Promise<Fetched | null>;

/**
 * An off-path attacker must guess the id and the port together (each attempt has a new socket, connected: the kernel drops
 * what comes from elsewhere), within the attempt, for a question that is not cached and asked once however many wait.
 */
export function createUpstream(options: UpstreamOptions): AskUpstream {
  const port = options.port ?? 53;
  /** The resolver that answered last is asked first: a dead one costs its timeout once, not with every question. */
  let preferred = 0;
  return async (question, givenUp) => {
    const resolvers = options.resolvers().filter((address) => isIPv4(address) || isIPv6(address.split("%")[0]!));
    const attempts = resolvers.length === 0 ? 0 : resolverLimits.attempts;
    let refused: Fetched | null = null;
    for (let attempt = 0; attempt < attempts && !givenUp.aborted; attempt++) {
      const index = (preferred + attempt) % resolvers.length;
      const server = { address: resolvers[index]!, port };
      const attemptBy = (carry: Carry): Promise<Fetched | null> =>
        askOnce(question, server, { clock: options.clock, givenUp, carry });
      let fetched = await attemptBy(overDatagram);
      if (fetched?.answer.truncated) fetched = await attemptBy(overStream);
      if (!fetched) continue;
      if (fetched.answer.rcode === "NOERROR" || fetched.answer.rcode === "NXDOMAIN") {
        preferred = index;
        return fetched;
      }
      refused = fetched;
      if (attempt + 1 >= resolvers.length) break; // every one was asked, and the last says no
    }
    return refused;
  };
}

interface Server {
  readonly address: string;
  readonly port: number;
}

/** Sends `bytes`; calls `message` for whatever comes back, `failed` when nothing more will. Answers how to close it. */
type Carry = (server: Server, bytes: Buffer, message: (bytes: Buffer) => void, failed: () => void) => () => void;

interface Attempt {
  readonly clock: Clock;
  readonly givenUp: AbortSignal;
  readonly carry: Carry;
}

function askOnce(question: Question, server: Server, { clock, givenUp, carry }: Attempt): Promise<Fetched | null> {
  return new Promise((resolve) => {
    const query = writeUpstreamQuery(question);
    let close: (() => void) | null = null;
    let ended = false;
    const end = (fetched: Fetched | null): void => {
      if (ended) return;
      ended = true;
      cancel();
      givenUp.removeEventListener("abort", giveUp);
      close?.();
      resolve(fetched);
    };
    const giveUp = (): void => end(null);
    const cancel = clock.after(resolverLimits.attemptMs, giveUp);
    givenUp.addEventListener("abort", giveUp);
    close = carry(
      server,
      query.bytes,
      (bytes) => {
        // what does not match is somebody else's guess: the right answer may still come
        const answer = readUpstreamAnswer(bytes, query.id, question);
        if (answer) end({ answer, bytes: bytes.length });
      },
      () => end(null),
    );
    if (ended) close();
  });
}

const overDatagram: Carry = (server, bytes, message, failed) => {
  const socket: Datagrams = createSocket({
    type: isIPv4(server.address) ? "udp4" : "udp6",
    // it is an address: no look-up, and no waiting for the thread pool
    lookup: (host, _options, done) => done(null, host, isIPv4(host) ? 4 : 6),
  });
  let open = true;
  const fail = (): void => {
    if (open) failed();
  };
  socket.on("error", fail);
  socket.on("message", message);
  socket.connect(server.port, server.address, () => {
    if (open) socket.send(bytes, (error) => error && fail());
  });
  return () => {
    if (!open) return;
    open = false;
    socket.close();
  };
};

const overStream: Carry = (server, bytes, message, failed) => {
  const socket = connect({ host: server.address, port: server.port });
  const reader = new FrameReader(resolverLimits.upstreamBytes);
  socket.on("error", failed);
  socket.on("close", failed);
  socket.on("connect", () => socket.write(framed(bytes)));
  socket.on("data", (chunk: Buffer) => {
    const frames = reader.push(chunk);
    if (!frames) return socket.destroy();
    for (const frame of frames) message(frame);
    return undefined;
  });
  return () => socket.destroy();
};

/** A message as TCP carries it: two bytes of length first (RFC 1035, 4.2.2). */
export function framed(bytes: Uint8Array): Buffer {
  const frame = Buffer.alloc(2 + bytes.length);
  frame.writeUInt16BE(bytes.length);
  frame.set(bytes, 2);
  return frame;
}

/** Cuts a stream into messages. Holds at most one message and one chunk. */
export class FrameReader {
  #rest: Buffer = Buffer.alloc(0);
  readonly #limitBytes: number;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  /** Null: a message is longer than the limit. */
  push(chunk: Buffer): Buffer[] | null {
    let bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    const frames: Buffer[] = [];
    while (bytes.length >= 2) {
      const length = bytes.readUInt16BE();
      if (length > this.#limitBytes) return null;
      if (bytes.length < 2 + length) break;
      frames.push(bytes.subarray(2, 2 + length));
      bytes = bytes.subarray(2 + length);
    }
    this.#rest = Buffer.from(bytes);
    return frames;
  }
}
