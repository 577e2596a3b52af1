// The resolver on the gateway address, UDP and TCP: who asks is known by address, what is told is decided in decide.ts.

import { createSocket, type RemoteInfo, type Socket as Datagrams } from "node:dgram";
import { createServer, type Server, type Socket } from "node:net";
import { errnoOf } from "#lib/errno.ts";
import type { Clock } from "#model/clock.ts";
import { resolverLimits } from "#model/limits.ts";
import { AnswerCache, keyOf } from "./cache.ts";
import { decideAnswer, decideQuery, keepSeconds, type Question, type Reply, type Rules } from "./decide.ts";
import { FrameReader, framed, type AskUpstream, type Fetched } from "./upstream.ts";
import { readQuery, writeRefusal, writeReply, type Query } from "./wire.ts";

export interface ResolverOptions {
  readonly address: string;
  /** Taken when it is free on this address; another one otherwise (the host may run a resolver on all addresses). */
  readonly preferredPort: number;
  /** What holds for the sandbox at this address; null: there is none, and it is told nothing. */
  readonly rulesOf: (address: string) => Rules | null;
  readonly ask: AskUpstream;
  readonly clock: Clock;
  /** A defect: something threw. The question goes unanswered. */
  readonly defect: (error: unknown) => void;
}

const unspecific: Reply = { rcode: "SERVFAIL", records: [], authority: [], blocked: null };
const plainDatagramBytes = 512; // RFC 1035, 4.2.1

export class Resolver {
  readonly #options: ResolverOptions;
  readonly #cache = new AnswerCache();
  readonly #inFlight = new Map<string, { readonly fetched: Promise<Fetched | null>; waiting: number }>();
  readonly #perSource = new Map<string, number>();
  readonly #streams = new Map<Socket, string>();
  #datagrams: Datagrams | null = null;
  #server: Server | null = null;

  constructor(options: ResolverOptions) {
    this.#options = options;
  }

  /** The port, the same for UDP and TCP. */
  async start(): Promise<number> {
    const { address, preferredPort } = this.#options;
    const ports = [preferredPort, 0, 0, 0, 0];
    for (const [at, wanted] of ports.entries()) {
      try {
        const port = await this.#listenDatagrams(address, wanted);
        await this.#listenStreams(address, port);
        return port;
      } catch (error) {
        await this.stop();
        if (errnoOf(error) !== "EADDRINUSE" || at === ports.length - 1) throw error;
      }
    }
    throw new Error("unreachable");
  }

  async stop(): Promise<void> {
    for (const socket of this.#streams.keys()) socket.destroy();
    const datagrams = this.#datagrams;
    const server = this.#server;
    this.#datagrams = null;
    this.#server = null;
    if (datagrams) await new Promise<void>((resolve) => datagrams.close(() => resolve()));
    if (server?.listening) await new Promise<void>((resolve) => server.close(() => resolve()));
  }

  /** One question; null: nothing is answered. Never rejects. */
  async answer(bytes: Uint8Array, source: string, limitOf: (query: Query) => number): Promise<Buffer | null> {
    const read = readQuery(bytes);
    if (read.ok === null) return null;
    const rules = this.#options.rulesOf(source);
    if (!read.ok) return writeRefusal(read.id, read.rcode);
    const { query } = read;
    if (!rules) return writeRefusal(query.id, "REFUSED");
    try {
      const decision = decideQuery(query.question, rules);
      const reply = decision.kind === "reply" ? decision.reply : await this.#fetch(query.question, rules, source);
      return writeReply(query, reply, limitOf(query));
    } catch (error) {
      this.#options.defect(error);
      return writeRefusal(query.id, "SERVFAIL");
    }
  }

  /** Questions that wait for an answer from upstream, for tests and metrics. */
  get waiting(): number {
    let sum = 0;
    for (const count of this.#perSource.values()) sum += count;
    return sum;
  }

  async #fetch(question: Question, rules: Rules, source: string): Promise<Reply> {
    const { clock } = this.#options;
    const cached = this.#cache.get(question, clock.monotonicUs());
    if (cached) return decideAnswer(question, rules, cached.answer, cached.ageSeconds).reply;
    const mine = this.#perSource.get(source) ?? 0;
    if (mine >= resolverLimits.inFlightPerSource) return unspecific;
    const key = keyOf(question);
    let flight = this.#inFlight.get(key);
    if (flight ? flight.waiting >= resolverLimits.waitingPerQuestion : this.#inFlight.size >= resolverLimits.inFlight)
      return unspecific;
    if (!flight) {
      flight = { fetched: this.#ask(question), waiting: 0 };
      this.#inFlight.set(key, flight);
    }
    flight.waiting++;
    this.#perSource.set(source, mine + 1);
    try {
      const fetched = await flight.fetched;
      return fetched ? decideAnswer(question, rules, fetched.answer, 0).reply : unspecific;
    } finally {
      const left = this.#perSource.get(source)! - 1;
      if (left === 0) this.#perSource.delete(source);
      else this.#perSource.set(source, left);
    }
  }

  async #ask(question: Question): Promise<Fetched | null> {
    try {
      const fetched = await this.#options.ask(question);
      if (fetched) {
        this.#cache.put(question, fetched.answer, {
          keepSeconds: keepSeconds(question, fetched.answer),
          bytes: fetched.bytes,
          nowUs: this.#options.clock.monotonicUs(),
        });
      }
      return fetched;
    } finally {
      this.#inFlight.delete(keyOf(question));
    }
  }

  async #listenDatagrams(address: string, port: number): Promise<number> {
    const socket = createSocket({ type: "udp4" });
    this.#datagrams = socket;
    await new Promise<void>((resolve, reject) => {
      socket.once("error", reject);
      socket.bind({ port, address, exclusive: true }, () => {
        socket.off("error", reject);
        resolve();
      });
    });
    // ICMP errors of askers that are gone; there is nobody to tell
    socket.on("error", () => {});
    socket.on("message", (bytes, from) => void this.#datagram(socket, bytes, from));
    return socket.address().port;
  }

  async #datagram(socket: Datagrams, bytes: Uint8Array, from: RemoteInfo): Promise<void> {
    const answer = await this.answer(bytes, from.address, (query) =>
      Math.min(query.datagramBytes ?? plainDatagramBytes, resolverLimits.datagramBytes),
    );
    if (answer && this.#datagrams === socket) socket.send(answer, from.port, from.address, () => {});
  }

  async #listenStreams(address: string, port: number): Promise<void> {
    const server = createServer((socket) => this.#stream(socket));
    server.maxConnections = resolverLimits.tcpConnections;
    this.#server = server;
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ host: address, port, exclusive: true }, () => {
        server.off("error", reject);
        resolve();
      });
    });
    server.on("error", (error) => this.#options.defect(error));
  }

  #stream(socket: Socket): void {
    const source = socket.remoteAddress ?? "";
    socket.on("error", () => {});
    const sameSource = [...this.#streams.values()].filter((one) => one === source).length;
    if (sameSource >= resolverLimits.tcpConnectionsPerSource) {
      socket.destroy();
      return;
    }
    this.#streams.set(socket, source);
    socket.on("close", () => this.#streams.delete(socket));
    socket.setTimeout(resolverLimits.tcpIdleMs, () => socket.destroy());
    const reader = new FrameReader(resolverLimits.queryBytes);
    let asked = 0;
    let turn: Promise<void> = Promise.resolve();
    socket.on("data", (chunk: Buffer) => {
      const frames = reader.push(chunk);
      asked += frames?.length ?? 0;
      if (!frames || asked > resolverLimits.tcpQueriesPerConnection) {
        socket.destroy();
        return;
      }
      // one after the other; what comes meanwhile stays in the asker's own buffer
      socket.pause();
      turn = turn.then(() => this.#answerFrames(socket, frames, source)).then(() => void socket.resume());
    });
  }

  async #answerFrames(socket: Socket, frames: readonly Buffer[], source: string): Promise<void> {
    for (const frame of frames) {
      const answer = await this.answer(frame, source, () => 0xffff);
      if (!answer) socket.destroy();
      if (socket.destroyed) return;
      if (answer) socket.write(framed(answer));
    }
  }
}
