// An in-memory driver on any clock, for tests and simulations: sandboxes that start, serve, fail, stall and die as they are told.

import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { duplexPair, type Duplex } from "node:stream";
import { createServer } from "#lib/http.ts";
import type { Clock } from "#model/clock.ts";
import { EbbError } from "#model/errors.ts";
import { newSandboxId, type InvocationId, type SandboxId } from "#model/ids.ts";
import type { Failure } from "#model/instance.ts";
import { sandboxLimits } from "#model/limits.ts";
import type {
  Assignment,
  Capabilities,
  Exit,
  Failed,
  OneOff,
  OneOffResult,
  OutputSource,
  PoolKey,
  Ready,
  SandboxDriver,
  SandboxListener,
  SandboxUsage,
} from "../door.ts";
import { lostConnection, noSandbox } from "../lost-connection.ts";
import { nothingLeft } from "../nothing-left.ts";
import { exitOf } from "../end.ts";

/** What happens to one sandbox; everything that is left out goes well. All in milliseconds of the clock. */
export interface Script {
  readonly prepareMs?: number;
  /** The platform's failure: prepare, or assign, throws. */
  readonly prepareThrows?: string;
  readonly assignThrows?: string;
  /** From the assignment to ready. */
  readonly startMs?: number;
  /** The function's failure. */
  readonly fails?: Failure;
  /** Neither ready nor failed, until the start's time is up. */
  readonly neverReady?: boolean;
  /** It dies so long after it is ready. */
  readonly dies?: { readonly afterMs: number; readonly exit: Exit };
  /** It takes connections and answers nothing. */
  readonly stalls?: boolean;
  /** It does not end on SIGTERM. */
  readonly ignoresTerm?: boolean;
  /** How long its end takes. */
  readonly stopMs?: number;
  readonly done?: Ready["done"];
  readonly signature?: Ready["signature"];
  readonly serve?: (request: IncomingMessage, response: ServerResponse, sandbox: FakeHandle) => void;
}

/** The inside of a sandbox, as its script's `serve` sees it. */
export interface FakeHandle {
  readonly id: SandboxId;
  readonly assignment: Assignment;
  done(invocation: InvocationId): void;
  exit(code: number): void;
}

export interface FakeOptions {
  readonly clock: Clock;
  /** Chosen at prepare (assignment null) and again at assign, merged over the first. */
  readonly script?: (pool: PoolKey, assignment: Assignment | null) => Script;
  readonly run?: (spec: OneOff) => Promise<OneOffResult>;
}

interface Fake {
  readonly id: SandboxId;
  readonly pool: PoolKey;
  readonly listener: SandboxListener;
  script: Script;
  assignment: Assignment | null;
  readonly over: PromiseWithResolvers<Exit>;
  sent: "SIGTERM" | "SIGKILL" | null;
  paused: boolean;
  cpuNs: number;
  server: Server | null;
  readonly connections: Set<Duplex>;
  /** Connections made while it did not serve, or was paused. */
  readonly held: Duplex[];
  /** Requests that came on others while it was paused. */
  readonly waiting: Array<() => void>;
}

export class FakeDriver implements SandboxDriver {
  readonly name = "fake";
  readonly #options: FakeOptions;
  readonly #fakes = new Map<SandboxId, Fake>();
  /** Most that lived at once, and how many were ever made: for assertions. */
  peak = 0;
  prepared = 0;

  constructor(options: FakeOptions) {
    this.#options = options;
  }

  get living(): number {
    return this.#fakes.size;
  }

  capabilities(): Capabilities {
    return {
      isolation: "container",
      listener: "fd",
      pause: true,
      snapshot: false,
      egress: ["none", "internet", "list"],
      cpuStrict: true,
      usage: "exact",
    };
  }

  async start(): Promise<void> {}

  readonly left = nothingLeft.left;
  readonly adopt = nothingLeft.adopt;
  readonly forget = nothingLeft.forget;
  readonly keep = nothingLeft.keep;

  async stop(): Promise<void> {
    await Promise.all([...this.#fakes.keys()].map((id) => this.stopSandbox(id, 0)));
  }

  async prepare(pool: PoolKey, listener: SandboxListener): Promise<SandboxId> {
    const script = this.#options.script?.(pool, null) ?? {};
    await this.#wait(script.prepareMs ?? 0);
    if (script.prepareThrows !== undefined) throw new EbbError("internal", script.prepareThrows);
    const fake: Fake = {
      id: newSandboxId(),
      pool,
      listener,
      script,
      assignment: null,
      over: Promise.withResolvers(),
      sent: null,
      paused: false,
      cpuNs: 0,
      server: null,
      connections: new Set(),
      held: [],
      waiting: [],
    };
    this.#fakes.set(fake.id, fake);
    this.prepared++;
    this.peak = Math.max(this.peak, this.#fakes.size);
    return fake.id;
  }

  async assign(id: SandboxId, assignment: Assignment): Promise<Ready | Failed> {
    const fake = this.#get(id);
    fake.assignment = assignment;
    fake.script = { ...fake.script, ...this.#options.script?.(fake.pool, assignment) };
    const { script } = fake;
    if (script.assignThrows !== undefined) {
      void this.stopSandbox(id, 0);
      throw new EbbError("internal", script.assignThrows);
    }
    const startMs = script.startMs ?? 0;
    const ended = fake.over.promise.then((exit) => failed(`It ended before it could serve. ${exit.message}`));
    const answer = await Promise.race([ended, this.#outcome(script, startMs)]);
    if (!answer.ok) {
      void this.stopSandbox(id, 0);
      return answer;
    }
    fake.cpuNs += 1_000_000;
    if (!assignment.check && assignment.probe !== null) this.#serve(fake, assignment);
    if (script.dies) {
      const { afterMs, exit } = script.dies;
      this.#options.clock.after(afterMs, () => this.#end(fake, exit));
    }
    return answer;
  }

  async #outcome(script: Script, startMs: number): Promise<Ready | Failed> {
    if (script.neverReady) {
      await this.#wait(sandboxLimits.startMs);
      return failed(`It did not start to serve within ${sandboxLimits.startMs / 1000} s.`);
    }
    await this.#wait(startMs);
    if (script.fails) return { ok: false, failure: script.fails };
    return {
      ok: true,
      entry: "index.js",
      handler: "default",
      signature: script.signature ?? "web",
      done: script.done ?? "response",
      shares: false,
      phases: { load: startMs },
    };
  }

  #serve(fake: Fake, assignment: Assignment): void {
    const handle: FakeHandle = {
      id: fake.id,
      assignment,
      done: (invocation) => fake.listener.done(invocation),
      exit: (code) => this.#end(fake, { reason: "exited", code, message: `It exited with code ${code}.` }),
    };
    fake.server = createServer((request, response) => {
      const serve = (): void => {
        fake.cpuNs += 1_000_000;
        if (fake.script.stalls) return;
        if (fake.script.serve) fake.script.serve(request, response, handle);
        else response.end("ok");
      };
      if (fake.paused) fake.waiting.push(serve);
      else serve();
    });
    for (const socket of fake.held.splice(0)) fake.server.emit("connection", socket);
  }

  connect(id: SandboxId): Duplex {
    const fake = this.#fakes.get(id);
    if (fake === undefined) return lostConnection(id);
    const [outside, inside] = duplexPair();
    fake.connections.add(outside);
    outside.once("close", () => fake.connections.delete(outside));
    inside.on("error", () => {});
    if (fake.server && !fake.paused) fake.server.emit("connection", inside);
    else fake.held.push(inside);
    return outside;
  }

  output(id: SandboxId): OutputSource {
    this.#get(id);
    return { kind: "none" };
  }

  async stopSandbox(id: SandboxId, graceMs: number): Promise<void> {
    const fake = this.#fakes.get(id);
    if (!fake) return;
    if (graceMs <= 0) this.#signal(fake, "SIGKILL");
    else if (fake.sent === null) {
      this.#signal(fake, "SIGTERM");
      this.#options.clock.after(graceMs, () => this.#signal(fake, "SIGKILL"));
    }
    await fake.over.promise;
  }

  #signal(fake: Fake, signal: "SIGTERM" | "SIGKILL"): void {
    if (!this.#fakes.has(fake.id) || fake.sent === "SIGKILL") return;
    fake.sent = signal;
    if (signal === "SIGTERM" && fake.script.ignoresTerm) return;
    const how = signal === "SIGKILL" ? { code: null, signal } : { code: 0, signal: null };
    const exit = exitOf({ how, sent: signal, memoryMb: fake.pool.memoryMb, memory: null });
    void this.#wait(fake.script.stopMs ?? 0).then(() => this.#end(fake, exit));
  }

  /** Ends it now, as whatever happens to real ones: for faults in the middle of something. */
  kill(id: SandboxId, exit: Exit): void {
    const fake = this.#fakes.get(id);
    if (fake) this.#end(fake, exit);
  }

  #end(fake: Fake, exit: Exit): void {
    if (!this.#fakes.delete(fake.id)) return;
    for (const socket of fake.connections) socket.destroy(new Error("socket hang up"));
    fake.over.resolve(exit);
    fake.listener.exited(exit);
  }

  async pause(id: SandboxId): Promise<void> {
    this.#get(id).paused = true;
  }

  async resume(id: SandboxId): Promise<void> {
    const fake = this.#get(id);
    fake.paused = false;
    for (const socket of fake.held.splice(0)) fake.server?.emit("connection", socket);
    for (const serve of fake.waiting.splice(0)) serve();
  }

  usage(id: SandboxId): SandboxUsage {
    const fake = this.#fakes.get(id);
    return {
      cpuNs: fake?.cpuNs ?? null,
      memoryPeakBytes: fake ? 1024 * 1024 : null,
      memoryBytes: fake ? 1024 * 1024 : null,
    };
  }

  credentialAt(): string | null {
    return null;
  }

  async run(spec: OneOff): Promise<OneOffResult> {
    if (!this.#options.run) throw new EbbError("internal", "This fake driver was given no way to run programs.");
    return this.#options.run(spec);
  }

  /** No time is no turn of the clock: a simulation without delays stays in one instant. */
  #wait(ms: number): Promise<void> {
    if (ms <= 0) return Promise.resolve();
    return new Promise((resolve) => void this.#options.clock.after(ms, resolve));
  }

  #get(id: SandboxId): Fake {
    return this.#fakes.get(id) ?? noSandbox(id);
  }
}

export function createFakeDriver(options: FakeOptions): FakeDriver {
  return new FakeDriver(options);
}

function failed(message: string): Failed {
  return { ok: false, failure: { fault: "function", message, stack: null, hint: null } };
}
