// The resolver on the gateway address, UDP and TCP: who asks is known by address, what is told is decided in decide.ts. What waits,
// and what is open, is shared by project.

import { createSocket, type RemoteInfo, type Socket as Datagrams } from "node:dgram";
import { createServer, type Server, type Socket } from "node:net";
import { errnoOf } from "#lib/errno.ts";
import { Shares } from "#lib/shares.ts";
import { Tally } from "#lib/tally.ts";
import type { Clock } from "#model/clock.ts";
import { resolverLimits } from "#model/limits.ts";
import { AnswerCache, keyOf, type CachedAnswer } from "./cache.ts";
import {
  decideAnswer,
  decideQuery,
  keepSeconds,
  type Opened,
  type Question,
  type Reply,
  type Rules,
} from "./decide.ts";
import { FrameReader, framed, type AskUpstream, type Fetched } from "./upstream.ts";
import { readQuery, writeRefusal, writeReply, type Query } from "./wire.ts";

export interface ResolverOptions {
  readonly address: string;
  /** Taken when it is free on this address; another one otherwise (the host may run a resolver on all addresses). */
  readonly preferredPort: number;
  /** What holds for the sandbox at this address; null: there is none, and it is told nothing. */
  readonly rulesOf: (address: string) => Rules | null;
  /** Opens what a list opens of an answer, before it is told. */
  readonly opened: (source: string, name: string, opened: readonly Opened[]) => Promise<void>;
  /** Something was not told, or not asked. */
  readonly withheld: (source: string, name: string, reasons: readonly string[]) => void;
  /** Whose code runs in the sandbox at this address; null: nobody's yet, or nobody's any more. */
  readonly projectAt: (address: string) => string | null;
  readonly ask: AskUpstream;
  readonly clock: Clock;
  /** A defect: something threw. The question goes unanswered. */
  readonly defect: (error: unknown) => void;
}

const unspecific: Reply = { rcode: "SERVFAIL", records: [], authority: [], blocked: null };
const refused: Reply = { ...unspecific, rcode: "REFUSED" };
const plainDatagramBytes = 512; // RFC 1035, 4.2.1

/** A question that is being asked upstream, once for all who wait for it. */
interface Flight {
  readonly fetched: Promise<Fetched | null>;
  readonly giveUp: AbortController;
  waiting: number;
}

export class Resolver {
  readonly #options: ResolverOptions;
  readonly #cache = new AnswerCache();
  readonly #inFlight = new Map<string, Flight>();
  /** Who waits for an answer from upstream, and what is called when somebody else has the place. */
  readonly #waiting = new Shares<() => void>({ inAll: resolverLimits.waiting, each: 0 });
  readonly #waitingPerSource = new Tally();
  readonly #streams = new Shares<Socket>({ inAll: resolverLimits.tcpConnections, each: 0 });
  readonly #streamsPerSource = new Tally();
  readonly #open = new Set<Socket>();
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
    for (const socket of this.#open) socket.destroy();
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
      if (decision.kind === "reply" && decision.reply.blocked !== null)
        this.#options.withheld(source, query.question.name, decision.reasons);
      const reply = decision.kind === "reply" ? decision.reply : await this.#fetch(query.question, source);
      return writeReply(query, reply, limitOf(query));
    } catch (error) {
      this.#options.defect(error);
      return writeRefusal(query.id, "SERVFAIL");
    }
  }

  /** Questions that wait for an answer from upstream, for tests and metrics. */
  get waiting(): number {
    return this.#waiting.count;
  }

  async #fetch(question: Question, source: string): Promise<Reply> {
    const { clock } = this.#options;
    const cached = this.#cache.get(question, clock.monotonicUs());
    if (cached) return this.#tell(question, source, cached);
    if (this.#waitingPerSource.of(source) >= resolverLimits.waitingPerSource) return unspecific;
    const { promise, resolve, reject } = Promise.withResolvers<Fetched | null>();
    const taken = this.#waiting.take(this.#partyOf(source), () => resolve(null));
    if (taken === null) return unspecific;
    taken.displaced?.();
    this.#waitingPerSource.add(source);
    const flight = this.#flightFor(question);
    flight.waiting++;
    flight.fetched.then(resolve, reject);
    try {
      const fetched = await promise;
      return fetched ? await this.#tell(question, source, { answer: fetched.answer, ageSeconds: 0 }) : unspecific;
    } finally {
      taken.place.leave();
      this.#waitingPerSource.remove(source);
      if (--flight.waiting === 0) this.#land(question, flight);
    }
  }

  /** By the rules of now: while somebody was asked they may have changed. */
  async #tell(question: Question, source: string, { answer, ageSeconds }: CachedAnswer): Promise<Reply> {
    const { rulesOf, withheld, opened } = this.#options;
    const rules = rulesOf(source);
    if (!rules) return refused;
    const decision = decideAnswer(question, rules, answer, ageSeconds);
    if (decision.reply.blocked !== null) withheld(source, question.name, decision.reasons);
    if (decision.opened.length > 0) await opened(source, question.name, decision.opened);
    return decision.reply;
  }

  #flightFor(question: Question): Flight {
    const known = this.#inFlight.get(keyOf(question));
    if (known) return known;
    const giveUp = new AbortController();
    const flight: Flight = { fetched: this.#ask(question, giveUp.signal), giveUp, waiting: 0 };
    this.#inFlight.set(keyOf(question), flight);
    return flight;
  }

  async #ask(question: Question, givenUp: AbortSignal): Promise<Fetched | null> {
    const fetched = await this.#options.ask(question, givenUp);
    if (fetched) {
      this.#cache.put(question, fetched.answer, {
        keepSeconds: keepSeconds(question, fetched.answer),
        bytes: fetched.bytes,
        nowUs: this.#options.clock.monotonicUs(),
      });
    }
    return fetched;
  }

  /** Nobody waits for it any more: it was answered, or all who asked it gave way. */
  #land(question: Question, flight: Flight): void {
    this.#inFlight.delete(keyOf(question));
    flight.giveUp.abort();
  }

  /** What is nobody's is one party: an instance that ends, and whose project is not known any more, wins nothing by it. */
  #partyOf(source: string): string {
    return this.#options.projectAt(source) ?? "";
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
    const taken =
      this.#streamsPerSource.of(source) < resolverLimits.tcpConnectionsPerSource
        ? this.#streams.take(this.#partyOf(source), socket)
        : null;
    if (taken === null) {
      socket.destroy();
      return;
    }
    taken.displaced?.destroy();
    this.#streamsPerSource.add(source);
    this.#open.add(socket);
    socket.on("close", () => {
      taken.place.leave();
      this.#streamsPerSource.remove(source);
      this.#open.delete(socket);
    });
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
