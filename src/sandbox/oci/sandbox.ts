// One sandbox of the oci driver, from its launch until nothing of it is left.

import { connect, type Socket } from "node:net";
import { EbbError } from "#model/errors.ts";
import { randomHex, type SandboxId } from "#model/ids.ts";
import type { StartPhases } from "#model/instance.ts";
import { sandboxLimits } from "#model/limits.ts";
import type { Link } from "#network/door.ts";
import type { LaunchSpec, Make, ProcessExit, Spawner } from "#spawner/door.ts";
import type { Exit, Failed, KeptExit, PoolKey, Ready, SandboxListener, SandboxUsage, SocketReader } from "../door.ts";
import { exitOf } from "../end.ts";
import { listens } from "../listens.ts";
import type { RuntimeLink } from "../runtime-link.ts";
import type { Cgroups, FileValue } from "./cgroups.ts";
import { Counters } from "./counters.ts";
import { EarlyConnection } from "./early.ts";
import { becameProgram, engineError, engineMade, settledPauseMs, type GivesUp } from "./engine.ts";
import { Freezer } from "./freezer.ts";
import { shimPort, showCredential } from "./gvisor.ts";
import type { ImageStart } from "./images.ts";
import { writeOrder } from "./program.ts";
import type { Start, StartPlan } from "./start.ts";

interface End {
  readonly how: ProcessExit;
  readonly exit: Exit;
}

const MiB = 1024 * 1024;
/** Longer is not waited for an engine's end to be seen. */
const engineMs = 1_000;
/** Before there is anything of it. */
const nothingUsed: SandboxUsage = { cpuNs: 0, memoryPeakBytes: 0 };

/** What its program can be said to have done wrong at its start. */
export interface ProgramWords {
  late(withinMs: number): { readonly message: string; readonly hint: string | null };
  /** null: nothing better than its exit code. */
  exited(code: number | null): string | null;
}

/** What the supervisor keeps of one. */
export interface KeptSandbox {
  readonly folder: string;
  begun(sandbox: SandboxId): void;
  /** After its end. */
  exit(): KeptExit | null;
}

/** What gives up says so, as an error that is made once: to note where it was takes longer than most that is given up. */
const givenUp = new Error("It is not waited for any more.");

/** A start that somebody waits for. */
export class Starting {
  readonly #asked: AbortController[] = [];
  over = false;

  /** Made for whoever asks for one: a start from the pool does not, and is done before that would be. */
  signal(): AbortSignal {
    if (this.over) return AbortSignal.abort(givenUp);
    const controller = new AbortController();
    this.#asked.push(controller);
    return controller.signal;
  }

  end(): void {
    this.over = true;
    for (const controller of this.#asked) controller.abort(givenUp);
  }
}

export interface OciSandboxOptions {
  readonly id: SandboxId;
  readonly start: Start;
  readonly spawner: Pick<Spawner, "make" | "unmake" | "launch" | "exited" | "signal">;
  readonly cgroups: Cgroups;
  /** It is to live on when ebb dies, and what it stands on is made when it is launched. */
  readonly kept?: KeptSandbox | null;
  readonly listener: SandboxListener | null;
  readonly plan: StartPlan;
  /** Gives back what it held; called once, at its end. `left`: something of it may be there still. */
  readonly release: (left: boolean) => void;
}

export class OciSandbox {
  readonly id: SandboxId;
  /** What its cgroups are called. */
  readonly cgroup: string;
  readonly pool: PoolKey;
  readonly image: ImageStart | null;
  readonly listener: SandboxListener | null;
  readonly link: Link | null;
  readonly kept: KeptSandbox | null;
  /** Where its listener is; null: it listens itself. */
  readonly socketPath: string | null;
  /** Where its shim listens on the link, and what that is shown first; null: no shim does. */
  readonly shim: { readonly credential: string; readonly credentialPath: string } | null;
  /** FIFO of its stdin; null: /dev/null. */
  readonly orderPath: string | null;
  readonly fifos: LaunchSpec["output"];
  readonly engineLog: string;
  readonly codeTarget: string;
  phases: StartPhases = {};
  runtimeLink: RuntimeLink | null = null;
  /** Or about to be. */
  assigned = false;
  programPort = 0;
  programWords: ProgramWords | null = null;
  readonly #options: OciSandboxOptions;
  readonly #freezer: Freezer;
  readonly #over = Promise.withResolvers<End>();
  #soon: NodeJS.Immediate | null = null;
  #launching: Promise<void> | null = null;
  /** Its process is the runtime's, no longer the engine's. */
  #program = false;
  #sent: "SIGTERM" | "SIGKILL" | null = null;
  #ended = false;
  #early: EarlyConnection | null = null;
  /** Only those of class gvisor. */
  readonly #connections = new Set<Socket>();
  readonly #gone = new AbortController();
  readonly #counters: Counters;

  constructor(options: OciSandboxOptions) {
    const { launch, cgroup, engineLog, codeTarget, image } = options.plan;
    this.#options = options;
    this.#freezer = new Freezer(options.cgroups, cgroup);
    this.#counters = new Counters(options.cgroups, cgroup);
    this.id = options.id;
    this.cgroup = cgroup;
    this.pool = options.start.pool;
    this.image = image;
    this.listener = options.listener;
    this.link = options.start.link;
    this.kept = options.kept ?? null;
    this.socketPath = launch.listen;
    const { credentialPath } = options.plan;
    this.shim = credentialPath === null ? null : { credential: randomHex(32), credentialPath };
    this.orderPath = this.shim === null ? (launch.input ?? null) : null;
    this.fifos = launch.output;
    this.engineLog = engineLog;
    this.codeTarget = codeTarget;
    this.#over.promise.catch(() => {});
  }

  /** Launches it without code, unless something else does it in this turn of the loop. `up`: it is its program now. */
  launchSoon(up: () => void): void {
    this.#soon = setImmediate(() => void this.#launchAhead(up).catch(() => {}));
  }

  async #launchAhead(up: () => void): Promise<void> {
    await this.launch([]);
    if (!(await this.#becameProgram(settledPauseMs.ahead, () => this.#ended))) return;
    if (await this.shimListens(this.#gone.signal)) up();
  }

  /** The engine is started, at most once; `things` are made before. */
  launch(things: readonly Make[]): Promise<void> {
    this.#launching ??= this.#launch(things);
    return this.#launching;
  }

  async #launch(things: readonly Make[]): Promise<void> {
    const { spawner, plan } = this.#options;
    if (this.#soon) clearImmediate(this.#soon);
    const all =
      this.kept === null
        ? { before: things }
        : { before: [...unchanged(plan.things, things), ...things], undo: plan.undo };
    try {
      await spawner.launch({ ...plan.launch, ...all });
    } catch (error) {
      const words = error instanceof Error ? error.message : String(error);
      await this.#lost(words);
      throw error;
    }
    if (this.shim !== null) await writeOrder(this.shim.credentialPath, `${this.shim.credential}\n`, () => {});
    this.#follow();
  }

  #follow(): void {
    this.#options.spawner.exited(this.id).then(
      (how) => (how.lost === true ? this.#lost() : this.#end(how)),
      () => this.#lost(),
    );
  }

  /** A launch that failed is undone by the spawner, and what a dead one had by the next: whether all of it is, that one is asked. */
  async #lost(words?: string): Promise<void> {
    this.#end({ code: null, signal: null, lost: true, ...(await this.#leftOver()) }, words);
  }

  async #leftOver(): Promise<Pick<ProcessExit, "left">> {
    return this.#options.spawner.unmake(this.id).then(
      () => ({}),
      () => ({ left: true }),
    );
  }

  /** It was launched by an earlier daemon, and may have ended since. */
  adopted(ended: ProcessExit | null): void {
    this.#launching = Promise.resolve();
    this.#program = true;
    if (ended === null) this.#follow();
    else this.#end(ended);
  }

  /** It has been told what to do. */
  begun(): void {
    this.kept?.begun(this.id);
  }

  /** Limits and code of its revision: before the process where that is still possible, or into the running sandbox. */
  async give(limits: readonly FileValue[], code: readonly Make[], starting: Starting): Promise<void> {
    if (!this.#launching) return this.launch([...limits, ...code]);
    const { spawner } = this.#options;
    let things = [...limits, ...code];
    if (!this.#program) {
      await this.#launching;
      // It is still on its way, and not with what is left over any more.
      await spawner.make({ owner: this.id, things: limits, undo: [] });
      if (!(await this.#becameProgram(settledPauseMs.waitedFor, () => starting.over))) throw givenUp;
      things = [...code];
    }
    // What undoes it was told when the sandbox was made.
    await spawner.make({ owner: this.id, things, undo: [] });
  }

  /** Resolves when it runs what it was started for, and not the engine any more, or when that cannot be seen: a program may have an engine's name. */
  async isProgram(pauseMs: number, starting: Starting): Promise<void> {
    const latestMs = performance.now() + engineMs;
    await this.#becameProgram(pauseMs, () => starting.over || performance.now() > latestMs);
  }

  /** While an engine sets up, its copy of the slot hears of no new mount: it must have become the program first. False: it was given up. */
  async #becameProgram(pauseMs: number, givesUp: GivesUp): Promise<boolean> {
    if (this.#program) return true;
    const { pidFile, launch } = this.#options.plan;
    const seen = await (launch.ownPids ? engineMade : becameProgram)(pidFile, pauseMs, givesUp);
    this.#program ||= seen;
    return seen;
  }

  /** A connection to its shim. */
  toShim(onread: { readonly onread?: SocketReader }): Socket {
    if (this.shim === null) return connect({ path: this.socketPath!, ...onread });
    const { address } = this.link!;
    const socket = connect({ host: address, port: shimPort, noDelay: true, ...onread });
    return showCredential(this.leftLine(socket), this.shim.credential);
  }

  /** A network stack that is killed says no goodbye: what is connected to gVisor's ends with the sandbox here. */
  leftLine(socket: Socket): Socket {
    if (this.#options.plan.launch.ownPids !== true) return socket;
    this.#connections.add(socket);
    return socket.once("close", () => this.#connections.delete(socket));
  }

  /** Resolves when its shim can be connected to; false: the signal came first. */
  async shimListens(signal: AbortSignal): Promise<boolean> {
    return this.shim === null || listens(this.link!.address, shimPort, signal);
  }

  /** What its first call needs, a connection and open counters, before anybody calls; `soon`: that call is about to come. */
  expectCall(soon: boolean): void {
    this.usage();
    // Which of two is the first, and so the control connection, is sure in a queue of connections alone.
    if (this.shim !== null) return;
    this.#early ??= new EarlyConnection((onread) => this.toShim(onread));
    if (soon) this.#early.dropSoon();
  }

  takeEarly(reader?: SocketReader): Socket | null {
    const early = this.#early;
    this.#early = null;
    return early?.take(reader) ?? null;
  }

  /** What was sent a signal is not held back from it any more. */
  async freeze(frozen: boolean): Promise<void> {
    if (!this.#ended && this.#sent === null) return this.#freezer.set(frozen);
  }

  get over(): Promise<End> {
    return this.#over.promise;
  }

  #end(how: ProcessExit, words?: string): void {
    if (this.#ended) return;
    const { cgroups, plan } = this.#options;
    const { launch } = plan;
    const { memoryMb } = this.pool;
    const memory = how.files ? cgroups.memoryReport(this.cgroup, how.files, memoryMb * MiB) : null;
    const kept = this.kept?.exit() ?? null;
    // Its supervisor has asked it, and then made it.
    const sent = this.#sent ?? (kept?.expired ? "SIGTERM" : null);
    // Nor is one killed for its memory that was killed for its result.
    const forResult = launch.ownPids === true && kept?.resultTooLarge === true;
    // Read of class gvisor alone.
    const crowdOf = cgroups.pidsRefused(how.files?.[cgroups.pidsFile(this.cgroup)]) ? sandboxLimits.pids : null;
    const ended = exitOf({ how, sent, memoryMb, memory: forResult ? null : memory, crowdOf });
    const cpu = how.files?.[cgroups.cpuFile(this.cgroup)];
    const usage = cpu === undefined ? null : { cpuNs: cgroups.cpuNs(cpu), memoryPeakBytes: memory?.peakBytes ?? null };
    const exit = {
      ...(kept === null ? {} : { kept }),
      ...ended,
      ...(words === undefined ? {} : { message: words }),
      ...(usage === null ? {} : { usage }),
    };
    this.#counters.close();
    this.#freezer.close();
    this.#ended = true;
    this.#gone.abort(givenUp);
    this.runtimeLink?.close();
    this.#early?.drop();
    for (const socket of this.#connections) socket.destroy();
    this.#options.release(how.left === true);
    this.#over.resolve({ how, exit });
    this.listener?.exited(exit);
  }

  /** SIGTERM, then SIGKILL after `graceMs`; resolves when nothing is left. */
  async stop(graceMs: number): Promise<void> {
    if (this.#ended) return;
    if (!this.#launching) {
      if (this.#soon) clearImmediate(this.#soon);
      this.#sent = "SIGTERM";
      this.#launching = Promise.reject(new EbbError("internal", "The sandbox was stopped before it was started."));
      this.#launching.catch(() => {});
      this.#end({ code: null, signal: null, ...(this.kept === null ? await this.#leftOver() : {}) });
      return;
    }
    await this.#launching.catch(() => {});
    // What follows lets it go on, and nothing may hold it still again behind that.
    await this.#freezer.written;
    if (graceMs <= 0) {
      this.#signal("SIGKILL");
      await this.over;
      return;
    }
    if (this.#sent === null) this.#signal("SIGTERM");
    const timer = setTimeout(() => this.#signal("SIGKILL"), graceMs);
    await this.over;
    clearTimeout(timer);
  }

  #signal(signal: "SIGTERM" | "SIGKILL"): void {
    if (this.#ended) return;
    this.#sent = signal;
    void this.#options.spawner.signal(this.id, signal);
  }

  /** Waits for what makes it ready: until it answers, ends, or its time is up. null from `start` means "look at its end". */
  async within(
    timeoutMs: number,
    start: (starting: Starting) => Promise<Ready | Failed | null>,
  ): Promise<Ready | Failed> {
    const starting = new Starting();
    const late = Promise.withResolvers<Failed>();
    const timer = setTimeout(() => {
      const words = this.programWords?.late(timeoutMs);
      late.resolve(failed(words?.message ?? `It did not start to serve within ${timeoutMs / 1000} s.`, words?.hint));
    }, timeoutMs);
    const ended = this.over.then((end) => this.#failedToStart(end));
    ended.catch(() => {});
    const answered = start(starting).catch((error: unknown) => {
      // Steps that fail because it has just ended are told by its end.
      if (this.#ended) return null;
      throw error;
    });
    try {
      return await Promise.race([answered.then((answer) => answer ?? ended), ended, late.promise]);
    } finally {
      clearTimeout(timer);
      starting.end();
    }
  }

  #failedToStart({ how, exit }: End): Failed {
    const words = engineError(how.files?.[this.engineLog]);
    if (words !== null && exit.reason === "exited")
      throw new EbbError("internal", `The sandbox cannot be started: ${words}`);
    if (exit.reason === "lost") throw new EbbError("internal", exit.message);
    if (exit.reason !== "exited") return failed(exit.message);
    return failed(this.programWords?.exited(exit.code) ?? `It ended before it could serve. ${exit.message}`);
  }

  usage(): SandboxUsage {
    return this.#launching === null ? nothingUsed : this.#counters.usage();
  }
}

/** Without the files that are written again right away. */
function unchanged(things: readonly Make[], next: readonly Make[]): Make[] {
  const written = new Set(next.flatMap((thing) => (thing.kind === "write" ? [thing.path] : [])));
  return things.filter((thing) => thing.kind !== "write" || !written.has(thing.path));
}

function failed(message: string, hint: string | null = null): Failed {
  return { ok: false, failure: { fault: "function", message, stack: null, hint } };
}
