// A fleet, an autoscaler and a meter for tests of the activator: instances are node:http servers on real Unix sockets.

import { mkdtempSync, rmSync } from "node:fs";
import type { RequestListener, Server } from "node:http";
import { createServer as createHttp2Server, type Http2Server } from "node:http2";
import { connect, createServer as createNetServer, type Server as NetServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import type { Autoscaler, Load } from "#autoscaler/door.ts";
import type { Fleet, Instance } from "#fleet/door.ts";
import { createServer } from "#lib/http.ts";
import type { BeginMark, EndMark, Marked, Meter } from "#metering/door.ts";
import { systemClock, type Clock } from "#model/clock.ts";
import { EbbError } from "#model/errors.ts";
import type { Fact } from "#model/fact.ts";
import { newInvocationId } from "#model/ids.ts";
import { functionDefaults } from "#model/limits.ts";
import type { ContainerRevision, FunctionRevision, FunctionSettings, ServingRevision } from "#model/workload.ts";
import { settle } from "#lib/virtual-clock.ts";
import { createActivator, type ActivatorOptions } from "./activator.ts";
import type { Activator, Call, Invocation, ReplyHead, ReplySink, RequestBody } from "./door.ts";

export function testRevision(
  settings: Partial<FunctionSettings> = {},
  number = 1,
  workload = "hello",
): FunctionRevision {
  const filled: FunctionSettings = {
    ...functionDefaults,
    runtime: "node26",
    entry: "index.js",
    handler: "fetch",
    signature: "web",
    command: null,
    cpu: 0.14,
    cpuStrict: false,
    public: true,
    env: {},
    secrets: [],
    egress: "internet",
    isolation: "process",
    ...settings,
  };
  return {
    project: "default",
    workload,
    kind: "function",
    number,
    codeDigest: "c".repeat(64),
    digest: "d".repeat(64),
    settings: filled,
    settingSources: {},
    createdMs: 0,
    createdBy: "test",
    gitCommit: null,
  };
}

/** A container that speaks HTTP/2. */
export function http2Revision(
  workload = "hello",
  settings: Partial<ContainerRevision["settings"]> = {},
): ServingRevision {
  const { settings: filled, codeDigest: _code, ...rest } = testRevision({ concurrency: 80 }, 1, workload);
  const { runtime: _r, entry: _e, handler: _h, signature: _s, ...shared } = filled;
  const own = { image: "x", command: ["x"], port: 1, protocol: "h2c", probe: { tcp: true }, liveness: null } as const;
  return {
    ...rest,
    kind: "container",
    imageDigest: "sha256:x",
    settingSources: {},
    settings: { ...shared, ...own, writableMb: 1, ...settings },
  };
}

/** What happened, in order: "begin ID", "end ID ok 200", "refused ID refused 429", "kill ID", … */
export class World {
  /** Of instances that start from now on. */
  shares = false;
  readonly clock: Clock;
  readonly activator: Activator;
  readonly loads: Load[] = [];
  readonly facts: Fact[] = [];
  readonly log: string[] = [];
  /** Instances that are held still, by their ids. */
  readonly paused = new Set<string>();
  /** Instances that the activator said were idle, and has not used since. */
  readonly idle = new Set<string>();
  readonly marks = { begun: new Map<string, BeginMark>(), ended: new Map<string, EndMark>() };
  readonly revisions = new Map<string, ServingRevision>();
  readonly #directory = mkdtempSync(join(tmpdir(), "ebb-activator-"));
  readonly #servers = new Set<{ server: Pick<NetServer, "close">; sockets: Set<Socket> }>();
  #made = 0;
  starting = 0;
  admitProblem: EbbError | null = null;
  beginProblem: EbbError | null = null;
  /** What the disk says to the next begins. */
  writeProblem: EbbError | null = null;
  #unwritten: (() => () => void)[] = [];
  /** Called with each load that is reported: a test's autoscaler. */
  onLoad: (load: Load) => void = () => {};

  constructor(options: { clock?: Clock } & Pick<Partial<ActivatorOptions>, "waiting" | "defer"> = {}) {
    this.clock = options.clock ?? systemClock;
    const autoscaler: Pick<Autoscaler, "report"> = {
      report: (load) => {
        this.loads.push(load);
        this.onLoad(load);
      },
    };
    this.activator = createActivator({
      ...options,
      clock: this.clock,
      fleet: this.#fleet(),
      autoscaler,
      meter: this.#meter(),
      current: (project, workload) => this.revisions.get(`${project}/${workload}`) ?? null,
      tell: (fact) => this.facts.push(fact),
    });
  }

  deploy(revision: ServingRevision): ServingRevision {
    const key = `${revision.project}/${revision.workload}`;
    const again = this.revisions.has(key);
    this.revisions.set(key, revision);
    if (again) this.activator.changed(revision, revision);
    return revision;
  }

  #fleet(): Pick<Fleet, "idle" | "kill" | "drain" | "workloadState"> {
    return {
      idle: (id) => void this.log.push(`idle ${id}`),
      kill: (id) => void this.log.push(`kill ${id}`),
      drain: (id) => void this.log.push(`drain ${id}`),
      workloadState: () => ({
        ready: 0,
        paused: 0,
        starting: this.starting,
        draining: 0,
        state: "ready",
        lastFailure: null,
        nextStartMs: null,
      }),
    };
  }

  #meter(): Pick<Meter, "admit" | "instance" | "refused" | "flush"> {
    return {
      admit: () => this.admitProblem,
      instance: () => ({
        begin: (mark, marked) => {
          if (this.beginProblem) return this.beginProblem;
          this.#mark(marked, () => {
            if (this.writeProblem) return this.writeProblem;
            this.marks.begun.set(mark.id, mark);
            this.log.push(`begin ${mark.id}`);
            return null;
          });
          const { id } = mark;
          return {
            answered: ({ status }, answered) => this.#mark(answered, () => this.log.push(`answered ${id} ${status}`)),
            end: (end, ended) =>
              this.#mark(ended, () => {
                this.marks.ended.set(id, end);
                this.log.push(`end ${id} ${end.outcome} ${end.status}`);
              }),
          };
        },
        released: () => void this.log.push("released"),
        close: () => {
          this.endTurn();
          this.log.push("close");
        },
      }),
      refused: ({ mark: { id }, end }, marked) =>
        this.#mark(marked, () => {
          this.marks.ended.set(id, end);
          this.log.push(`refused ${id} ${end.outcome} ${end.status}`);
        }),
      flush: () => this.endTurn(),
    };
  }

  /** As the journal does: what a turn marks is written at its end, all together. */
  #mark(marked: Marked | undefined, write: () => unknown): void {
    if (this.#unwritten.length === 0) setImmediate(() => this.endTurn());
    this.#unwritten.push(() => {
      const result = write();
      return () => marked?.marked(result instanceof EbbError ? result : null);
    });
  }

  /** How it ended, as this turn has marked it; undefined: it has not. */
  ended(id: string): EndMark | undefined {
    this.endTurn();
    return this.marks.ended.get(id);
  }

  endTurn(): void {
    const told = this.#unwritten.splice(0).map((write) => write());
    for (const tell of told) tell();
  }

  /** A ready instance behind a node:http server; the activator hears of it. */
  async start(
    revision: ServingRevision,
    handler: RequestListener,
    done: "response" | "told" = "response",
  ): Promise<Instance> {
    const server = createServer({ keepAliveTimeout: 30_000 }, handler);
    server.on("upgrade", (request, socket) => handler(request, socket as never));
    return this.#ready(revision, await this.#listen(server), done);
  }

  /** The same behind a server that speaks bytes. */
  async startRaw(
    revision: ServingRevision,
    serve: (socket: Socket) => void,
    done: "response" | "told" = "response",
  ): Promise<Instance> {
    return this.#ready(revision, await this.#listen(createNetServer({ allowHalfOpen: true }, serve)), done);
  }

  /** The same behind a server of HTTP/2. */
  async startHttp2(revision: ServingRevision, server: Http2Server = createHttp2Server()): Promise<Instance> {
    server.on("sessionError", () => undefined);
    return this.#ready(revision, await this.#listen(server), "response");
  }

  /** A ready instance wherever `open` leads. */
  startAt(revision: ServingRevision, open: () => Socket): Instance {
    return this.#ready(revision, open, "response");
  }

  #ready(revision: ServingRevision, at: string | (() => Socket), done: "response" | "told"): Instance {
    const { paused, idle, log } = this;
    const instance: Instance = {
      id: `i${++this.#made}`,
      revision,
      done,
      shares: this.shares,
      phases: {},
      startUs: 5_000,
      connect: (reader) => {
        if (typeof at !== "string") return at();
        return connect(reader === undefined ? { path: at } : { path: at, onread: reader });
      },
      usage: () => ({ cpuNs: null, memoryPeakBytes: null }),
      get paused() {
        return paused.has(instance.id);
      },
      busy: () => {
        if (paused.delete(instance.id)) log.push(`resume ${instance.id}`);
        idle.delete(instance.id);
      },
      idle: () => void idle.add(instance.id),
    };
    this.activator.ready(instance);
    return instance;
  }

  async #listen(server: Server | NetServer | Http2Server): Promise<string> {
    const path = join(this.#directory, `s${this.#servers.size}`);
    const sockets = new Set<Socket>();
    server.on("connection", (socket: Socket) => {
      sockets.add(socket);
      socket.on("close", () => sockets.delete(socket));
      socket.on("error", () => socket.destroy());
    });
    await new Promise<void>((resolve) => void server.listen(path, resolve));
    this.#servers.add({ server, sockets });
    return path;
  }

  /** Ends every server as a kill does: connections break. */
  async stop(): Promise<void> {
    for (const { server, sockets } of this.#servers) {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => void server.close(resolve));
    }
    rmSync(this.#directory, { recursive: true, force: true });
  }

  call(options: Partial<Call> = {}): CallUnderway {
    const call: Call = {
      id: newInvocationId(this.clock.wallMs()),
      project: "default",
      workload: "hello",
      trigger: "http",
      method: "GET",
      target: "/",
      headers: ["host", "hello.localhost"],
      body: null,
      depth: 0,
      arrivedUs: this.clock.monotonicUs(),
      upgrade: false,
      ...options,
    };
    const sink = new TestSink(this.log, call.id);
    return { id: call.id, sink, invocation: this.activator.invoke(call, sink), answer: sink.answer };
  }
}

export interface CallUnderway {
  readonly id: string;
  readonly sink: TestSink;
  readonly invocation: Invocation;
  readonly answer: Promise<Answer>;
}

export interface Answer {
  readonly head: ReplyHead | null;
  readonly body: string;
  readonly error: Error | null;
  readonly headSent: boolean;
}

export class TestSink implements ReplySink {
  readonly #settled = Promise.withResolvers<Answer>();
  readonly answer = this.#settled.promise;
  readonly headCame = Promise.withResolvers<ReplyHead>();
  readonly #log: string[];
  readonly #id: string;
  #head: ReplyHead | null = null;
  #body = "";
  #over = false;
  bytes = 0;
  /** Answers false to `data`, as a client that does not read. */
  full = false;
  upgradedTo: import("node:stream").Duplex | null = null;

  constructor(log: string[], id: string) {
    this.#log = log;
    this.#id = id;
  }

  head(head: ReplyHead): void {
    this.#head = head;
    this.headCame.resolve(head);
  }

  data(chunk: Uint8Array): boolean {
    this.bytes += chunk.length;
    if (this.#body.length < 1_000_000) this.#body += Buffer.from(chunk).toString("latin1");
    return !this.full;
  }

  end(): void {
    this.#settle(null, false);
  }

  failed(error: Error, headSent: boolean): void {
    this.#settle(error, headSent);
  }

  upgraded(head: ReplyHead, socket: import("node:stream").Duplex): void {
    this.upgradedTo = socket;
    this.#head = head;
    this.#settle(null, true);
  }

  #settle(error: Error | null, headSent: boolean): void {
    if (this.#over) throw new Error("the sink was ended twice");
    this.#over = true;
    this.#log.push(`answer ${this.#id}`);
    this.#settled.resolve({ head: this.#head, body: this.#body, error, headSent });
  }
}

/** A body of these chunks; null length: chunked. */
export function bodyOf(
  chunks: readonly string[],
  lengthBytes: number | null = null,
): RequestBody & { discarded: boolean } {
  const stream = new PassThrough();
  for (const chunk of chunks) stream.write(chunk);
  stream.end();
  return {
    lengthBytes,
    discarded: false,
    read(sink) {
      stream.on("data", (chunk: Buffer) => {
        if (!sink.data(chunk)) stream.pause();
      });
      stream.on("end", () => sink.end());
      stream.on("error", (error) => sink.failed(error));
    },
    resume: () => void stream.resume(),
    discard() {
      this.discarded = true;
    },
  };
}

/** A body that is here already. */
export function wholeBodyOf(text: string): RequestBody {
  const bytes = Buffer.from(text, "latin1");
  return {
    ...bodyOf([text], bytes.length),
    takeWhole: (mostBytes) => (bytes.length <= mostBytes ? bytes : null),
  };
}

export function codeOf(answer: Answer): string | null {
  return answer.error instanceof EbbError ? answer.error.code : null;
}

/** Waits for a condition that events bring about. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  for (let turn = 0; turn < 20_000; turn++) {
    if (condition()) return;
    await settle();
  }
  throw new Error(`never: ${what}`);
}
