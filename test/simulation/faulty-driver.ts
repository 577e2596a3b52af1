// A sandbox driver that only keeps time and books: slow, failing, crashing and lost sandboxes by a seeded chance, all limits checked.
// Not the fake of src/sandbox/: that one carries HTTP by a script, and ends by itself a sandbox that failed. This one leaves that to
// the fleet, decides each call by chance, and its books (memory, starts, who is stopping) are the second opinion on the fleet's own.

import { PassThrough, type Duplex } from "node:stream";
import type { Clock } from "#model/clock.ts";
import { newSandboxId, type SandboxId } from "#model/ids.ts";
import { machineLimits } from "#model/limits.ts";
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
} from "#sandbox/door.ts";
import { nothingLeft } from "#sandbox/nothing-left.ts";

/** Longer than the fleet waits. */
const slowStartMs = 45_000;

export interface Faults {
  /** Of a thousand each. */
  readonly prepareThrows: number;
  readonly assignThrows: number;
  readonly assignFails: number;
  /** Of those that were started ahead. */
  readonly deaf: number;
  readonly diesAssigning: number;
  readonly stopThrows: number;
  readonly pauseThrows: number;
  readonly resumeThrows: number;
  readonly startMs: readonly [number, number];
  readonly slowStart: number;
  readonly stopMs: readonly [number, number];
}

export interface FakeSandbox {
  readonly id: SandboxId;
  readonly pool: PoolKey;
  readonly listener: SandboxListener;
  assignment: Assignment | null;
  ready: boolean;
  stopping: boolean;
  gone: boolean;
  paused: boolean;
  /** Its start, counted among those that run where it is there. */
  begun: { readonly atUs: number };
  readonly left: PromiseWithResolvers<void>;
}

export class FaultyDriver implements SandboxDriver {
  readonly name = "faulty";
  readonly sandboxes = new Map<SandboxId, FakeSandbox>();
  readonly byInstance = new Map<string, FakeSandbox>();
  memoryMb = 0;
  memoryMbMost = 0;
  prepared = 0;
  /** Pauses, ever. */
  paused = 0;
  /** When each start that runs began. */
  readonly #begun = new Set<{ readonly atUs: number }>();
  readonly #clock: Clock;
  readonly #chance: () => number;
  readonly #faults: Faults;
  readonly #canPause: boolean;

  constructor(clock: Clock, chance: () => number, faults: Faults, canPause = true) {
    this.#clock = clock;
    this.#chance = chance;
    this.#faults = faults;
    this.#canPause = canPause;
  }

  readonly left = nothingLeft.left;
  readonly adopt = nothingLeft.adopt;
  readonly forget = nothingLeft.forget;
  readonly keep = nothingLeft.keep;

  /** Those on their way out. */
  get stopping(): number {
    return [...this.sandboxes.values()].filter(({ stopping }) => stopping).length;
  }

  /** Those that have their turn still. */
  get starting(): number {
    let starting = 0;
    const sinceUs = this.#clock.monotonicUs() - machineLimits.startTurnMs * 1_000;
    for (const { atUs } of this.#begun) if (atUs > sinceUs) starting++;
    return starting;
  }

  capabilities(): Capabilities {
    return {
      isolation: "container",
      listener: "fd",
      pause: this.#canPause,
      snapshot: false,
      egress: ["none", "internet", "list"],
      cpuStrict: true,
      usage: "exact",
    };
  }

  async start(): Promise<void> {}
  async stop(): Promise<void> {}

  async prepare(pool: PoolKey, listener: SandboxListener): Promise<SandboxId> {
    this.prepared++;
    const begun = { atUs: this.#clock.monotonicUs() };
    this.#begun.add(begun);
    await this.#pause(1 + 4 * this.#chance());
    this.#begun.delete(begun);
    if (this.#hits(this.#faults.prepareThrows)) throw new Error("no sandbox today");
    const sandbox: FakeSandbox = {
      id: newSandboxId(),
      pool,
      listener,
      assignment: null,
      ready: false,
      stopping: false,
      gone: false,
      paused: false,
      begun,
      left: Promise.withResolvers(),
    };
    this.sandboxes.set(sandbox.id, sandbox);
    return sandbox.id;
  }

  async assign(id: SandboxId, assignment: Assignment): Promise<Ready | Failed> {
    const sandbox = this.#of(id);
    if (sandbox.assignment) throw new Error("assigned twice");
    sandbox.assignment = assignment;
    if (assignment.takeWithinMs !== null) sandbox.begun = { atUs: this.#clock.monotonicUs() };
    this.#begun.add(sandbox.begun);
    // One that was started ahead counts for little until here.
    this.memoryMb += sandbox.pool.memoryMb;
    this.memoryMbMost = Math.max(this.memoryMbMost, this.memoryMb);
    this.byInstance.set(assignment.instance, sandbox);
    const { startMs, slowStart, diesAssigning, assignThrows, assignFails, deaf } = this.#faults;
    if (assignment.takeWithinMs !== null && this.#hits(deaf)) {
      await this.#pause(assignment.takeWithinMs, sandbox);
      this.#notStarting(sandbox);
      return { ...failed("it took no code"), untouched: true };
    }
    await this.#pause(this.#hits(slowStart) ? slowStartMs : between(startMs, this.#chance()), sandbox);
    this.#notStarting(sandbox);
    if (sandbox.gone || sandbox.stopping) return failed("it went away");
    if (this.#hits(diesAssigning)) this.exit(sandbox, { reason: "exited", code: 1, message: "exited with 1" });
    else if (this.#hits(assignThrows)) throw new Error("the engine answered nonsense");
    else if (this.#hits(assignFails)) return failed("SyntaxError: Unexpected token (index.js:3)");
    else {
      sandbox.ready = true;
      return {
        ok: true,
        entry: "index.js",
        handler: "handle",
        signature: "web",
        done: "response",
        shares: false,
        phases: {},
      };
    }
    return failed("exited with 1");
  }

  /** The sandbox ends by itself. */
  exit(sandbox: FakeSandbox, exit: Exit): void {
    if (sandbox.gone) return;
    sandbox.gone = true;
    this.sandboxes.delete(sandbox.id);
    if (sandbox.assignment) this.byInstance.delete(sandbox.assignment.instance);
    this.#notStarting(sandbox);
    if (sandbox.assignment) this.memoryMb -= sandbox.pool.memoryMb;
    sandbox.left.resolve();
    sandbox.listener.exited(exit);
  }

  async stopSandbox(id: SandboxId, graceMs: number): Promise<void> {
    const sandbox = this.sandboxes.get(id);
    if (!sandbox) return;
    sandbox.stopping = true;
    this.#notStarting(sandbox);
    sandbox.ready = false;
    if (this.#hits(this.#faults.stopThrows)) throw new Error("the engine is busy");
    await this.#pause(graceMs === 0 ? 1 : between(this.#faults.stopMs, this.#chance()), sandbox);
    this.exit(sandbox, { reason: graceMs === 0 ? "killed" : "stopped", code: 0, message: "stopped" });
  }

  connect(_id: SandboxId): Duplex {
    return new PassThrough();
  }

  output(_id: SandboxId): OutputSource {
    return { kind: "none" };
  }

  async pause(id: SandboxId): Promise<void> {
    const sandbox = this.#of(id);
    if (sandbox.paused || !sandbox.ready) throw new Error("paused what is paused, or not ready");
    if (this.#hits(this.#faults.pauseThrows)) throw new Error("the freezer is busy");
    sandbox.paused = true;
    this.paused++;
  }

  async resume(id: SandboxId): Promise<void> {
    const sandbox = this.#of(id);
    if (this.#hits(this.#faults.resumeThrows)) throw new Error("the freezer is busy");
    sandbox.paused = false;
  }

  usage(_id: SandboxId): SandboxUsage {
    return { cpuNs: null, memoryPeakBytes: null };
  }

  credentialAt(): null {
    return null;
  }

  async run(spec: OneOff): Promise<OneOffResult> {
    this.memoryMb += spec.pool.memoryMb;
    this.memoryMbMost = Math.max(this.memoryMbMost, this.memoryMb);
    await this.#pause(20);
    this.memoryMb -= spec.pool.memoryMb;
    return { ok: true, stdout: new Uint8Array(), stderr: "" };
  }

  #notStarting(sandbox: FakeSandbox): void {
    this.#begun.delete(sandbox.begun);
  }

  #of(id: SandboxId): FakeSandbox {
    const sandbox = this.sandboxes.get(id);
    if (!sandbox) throw new Error(`no sandbox ${id}`);
    return sandbox;
  }

  #hits(perThousand: number): boolean {
    return this.#chance() * 1000 < perThousand;
  }

  /** So long, or until the sandbox is gone. */
  async #pause(ms: number, sandbox?: FakeSandbox): Promise<void> {
    const over = Promise.withResolvers<void>();
    const cancel = this.#clock.after(ms, over.resolve);
    await Promise.race([over.promise, ...(sandbox ? [sandbox.left.promise] : [])]);
    cancel();
  }
}

function failed(message: string): Failed {
  return { ok: false, failure: { fault: "function", message, stack: null, hint: null } };
}

function between([low, high]: readonly [number, number], chance: number): number {
  return low + (high - low) * chance;
}
