// The main thread's side of the spawner: starts the process, speaks to it, and starts another when it dies.

import { spawn, type ChildProcess } from "node:child_process";
import { getCompileCacheDir } from "node:module";
import { Duplex } from "node:stream";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { EbbError } from "#model/errors.ts";
import { lifecycle } from "#model/limits.ts";
import type { ExecResult, LaunchSpec, ProcessExit, Spawner, Undo } from "./door.ts";
import { createLineReader, type Operation, type Reply } from "./protocol.ts";

const execTimeoutMs = 10_000;
const minuteMs = 60_000;

export interface SpawnerOptions {
  /** The Node that runs it: the pinned one. */
  readonly node: string;
  /** The allocator's run directory. */
  readonly runDir: string;
  /** An earlier daemon's, whose kept processes live on: what else it left is undone first. */
  readonly inherits?: boolean;
  /** Told of every death of the process, before another is started. */
  readonly died?: (reason: string) => void;
  /** It died too often: nothing can be started any more. */
  readonly gaveUp: (reason: string) => void;
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

interface Exiting {
  readonly exit: Promise<ProcessExit>;
  readonly resolve: (how: ProcessExit) => void;
  over: boolean;
}

/** Ends that nobody asked for yet are remembered for so many processes. */
const rememberedEnds = 1_024;

export function createSpawner(options: SpawnerOptions): Spawner {
  return new SpawnerClient(options);
}

/** Of a process of ebb's own beside the daemon. */
export const smallNode = [
  "--experimental-ffi",
  "--disable-warning=ExperimentalWarning",
  "--max-semi-space-size=1",
  "--v8-pool-size=1",
];

export function environmentOf(runDir: string): Record<string, string> {
  return {
    // The cache spares it the type stripper: 18 MB and 80 ms.
    NODE_COMPILE_CACHE: cacheOf(runDir),
    MALLOC_ARENA_MAX: "1",
    PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
  };
}

/** The daemon's own, where it has one: there the spawner's code is compiled already. */
function cacheOf(runDir: string): string {
  const own = getCompileCacheDir();
  return own === undefined ? join(dirname(runDir), "cache") : dirname(own);
}

class SpawnerClient implements Spawner {
  readonly #options: SpawnerOptions;
  readonly #launched = new Map<string, Exiting>();
  readonly #ended = new Map<string, ProcessExit>();
  readonly #listeners: Array<() => void> = [];
  #waiting = new Map<number, Waiting>();
  #process: ChildProcess | null = null;
  #channel: Duplex | null = null;
  #count = 0;
  /** The process has said that it is ready, and whoever waited for that has asked. */
  #serving = false;
  #stopping = false;
  #deathsMs: number[] = [];
  /** Resolves with the process that now serves; replaced at a death. */
  #ready: Promise<void> = Promise.reject(new EbbError("internal", "The spawner was not started."));

  constructor(options: SpawnerOptions) {
    this.#options = options;
    this.#ready.catch(() => {});
  }

  start(): Promise<void> {
    this.#ready = this.#begin();
    return this.#ready;
  }

  async #begin(): Promise<void> {
    const { node, runDir } = this.#options;
    const inherits = this.#options.inherits === true && this.#deathsMs.length === 0;
    const child = spawn(
      node,
      [
        ...smallNode,
        fileURLToPath(new URL("./process.ts", import.meta.url)),
        runDir,
        ...(inherits ? ["inherits"] : []),
      ],
      {
        env: environmentOf(runDir),
        cwd: "/",
        detached: true,
        stdio: ["ignore", "ignore", "inherit", "pipe"],
      },
    );
    this.#process = child;
    // The fourth of stdio: a socket pair, so it reads as well as it writes.
    const channel = child.stdio[3];
    if (!(channel instanceof Duplex)) throw new EbbError("internal", "The spawner cannot be spoken to.");
    this.#channel = channel;
    channel.on("error", () => {});
    channel.on(
      "data",
      createLineReader((line) => this.#hear(JSON.parse(line))),
    );
    child.once("error", (error) => this.#died(child, `it cannot be started: ${error.message}`));
    child.once("exit", (code, signal) => this.#died(child, `it ended (${signal ?? code})`));
    await this.#send({ op: "ready" });
    // Behind those who waited for it, so that the order is kept.
    setImmediate(() => (this.#serving = this.#process === child));
  }

  #hear(reply: Reply): void {
    if ("problem" in reply) return;
    if ("exit" in reply) {
      this.#end(reply.exit, reply.how);
      return;
    }
    const waiting = this.#waiting.get(reply.n);
    this.#waiting.delete(reply.n);
    if (reply.ok) waiting?.resolve(reply.value);
    else waiting?.reject(new EbbError("internal", `The spawner failed: ${reply.words}`));
  }

  #end(id: string, how: ProcessExit): void {
    const launched = this.#launched.get(id);
    if (!launched) return;
    this.#launched.delete(id);
    this.#ended.set(id, how);
    if (this.#ended.size > rememberedEnds) this.#ended.delete(this.#ended.keys().next().value!);
    launched.resolve(how);
  }

  #died(child: ChildProcess, reason: string): void {
    if (this.#process !== child) return;
    this.#process = null;
    this.#serving = false;
    this.#channel?.destroy();
    this.#channel = null;
    const lost = this.#waiting;
    this.#waiting = new Map();
    for (const waiting of lost.values()) waiting.reject(new EbbError("internal", `The spawner died: ${reason}.`));
    if (this.#stopping) return;
    this.#options.died?.(reason);
    const now = performance.now();
    this.#deathsMs = [...this.#deathsMs.filter((at) => now - at < minuteMs), now];
    if (this.#deathsMs.length >= lifecycle.workerRestartsPerMinute) {
      this.#ready = Promise.reject(new EbbError("internal", "The spawner keeps dying."));
      this.#ready.catch(() => {});
      this.#options.gaveUp(reason);
      return;
    }
    const orphans = [...this.#launched.keys()];
    this.#ready = this.#begin();
    void this.#ready.then(
      () => {
        // The new one has undone what the old one left before it said that it is ready.
        for (const id of orphans) this.#end(id, { code: null, signal: null, lost: true });
        for (const listener of this.#listeners) listener();
        return undefined;
      },
      () => {},
    );
    // Whoever calls next hears it; another death is counted on its own.
    this.#ready.catch(() => {});
  }

  // The answer's shape is the operation's: both ends are this room.
  // oxlint-disable-next-line typescript/no-explicit-any
  #send(operation: Operation): Promise<any> {
    const channel = this.#channel;
    if (!channel) return Promise.reject(new EbbError("internal", "The spawner is not running."));
    const n = ++this.#count;
    return new Promise((resolve, reject) => {
      this.#waiting.set(n, { resolve, reject });
      channel.write(`${JSON.stringify({ ...operation, n })}\n`);
    });
  }

  // oxlint-disable-next-line typescript/no-explicit-any
  #ask(operation: Operation): Promise<any> {
    // A living process is asked within the call: on the path of a cold start it works while the caller does the rest of this turn.
    if (this.#serving) return this.#send(operation);
    return this.#ready.then(() => this.#send(operation));
  }

  async stop(): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    await this.#ready.catch(() => {});
    const child = this.#process;
    if (!child) return;
    const gone = new Promise<void>((resolve) => void child.once("exit", () => resolve()));
    // Rejected by its end, which is the answer.
    this.#send({ op: "stop" }).catch(() => {});
    await gone;
    for (const id of this.#launched.keys()) this.#end(id, { code: null, signal: null, lost: true });
  }

  async launch(spec: LaunchSpec): Promise<void> {
    if (this.#launched.has(spec.id)) throw new EbbError("internal", `${spec.id} is already launched.`);
    const { promise, resolve } = Promise.withResolvers<ProcessExit>();
    this.#launched.set(spec.id, { exit: promise, resolve, over: false });
    try {
      await this.#ask({ op: "launch", spec });
    } catch (error) {
      this.#launched.delete(spec.id);
      throw error;
    }
  }

  exited(id: string): Promise<ProcessExit> {
    const ended = this.#ended.get(id);
    if (ended) return Promise.resolve(ended);
    const launched = this.#launched.get(id);
    return launched ? launched.exit : Promise.reject(new EbbError("internal", `${id} was never launched.`));
  }

  async signal(id: string, signal: "SIGTERM" | "SIGKILL" | "SIGSTOP" | "SIGCONT"): Promise<void> {
    // A spawner that dies meanwhile ends the process as well.
    if (this.#launched.has(id)) await this.#ask({ op: "signal", id, signal }).catch(() => {});
  }

  async exec(
    argv: readonly string[],
    options: { readonly stdin?: string; readonly timeoutMs?: number; readonly signal?: AbortSignal } = {},
  ): Promise<ExecResult> {
    const { stdin = null, timeoutMs = execTimeoutMs, signal } = options;
    await this.#ready;
    signal?.throwIfAborted();
    const answer: Promise<ExecResult> = this.#send({ op: "exec", argv, stdin, timeoutMs });
    const exec = this.#count;
    const cancel = (): void => void this.#send({ op: "cancel", exec }).catch(() => {});
    signal?.addEventListener("abort", cancel);
    try {
      return await answer;
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    } finally {
      signal?.removeEventListener("abort", cancel);
    }
  }

  async fifos(paths: readonly string[]): Promise<void> {
    await this.#ask({ op: "fifos", paths });
  }

  async share(options: Parameters<Spawner["share"]>[0]): Promise<void> {
    await this.#ask({ op: "share", ...options });
  }

  async make(options: Parameters<Spawner["make"]>[0]): Promise<void> {
    await this.#ask({ op: "make", ...options });
  }

  async unmake(owner: string): Promise<void> {
    await this.#ask({ op: "unmake", owner });
  }

  async bind(options: Parameters<Spawner["bind"]>[0]): Promise<void> {
    await this.#ask({ op: "bind", ...options });
  }

  async unmount(path: string): Promise<void> {
    await this.#ask({ op: "unmount", path });
  }

  async tmpfs(options: Parameters<Spawner["tmpfs"]>[0]): Promise<void> {
    await this.#ask({ op: "tmpfs", ...options });
  }

  async cgroup(options: Parameters<Spawner["cgroup"]>[0]): Promise<void> {
    await this.#ask({ op: "cgroup", ...options });
  }

  async network(changes: Parameters<Spawner["network"]>[0]): Promise<void> {
    await this.#ask({ op: "network", changes });
  }

  async unpin(paths: readonly string[]): Promise<void> {
    await this.#ask({ op: "unpin", paths });
  }

  async untouched(path: string): Promise<boolean> {
    return this.#ask({ op: "untouched", path });
  }

  async nft(script: string): Promise<void> {
    await this.#ask({ op: "nft", script });
  }

  async owe(undo: readonly Undo[], owner: "spawner" | "ground" = "spawner"): Promise<void> {
    await this.#ask({ op: "owe", undo, owner });
  }

  async rest(): Promise<void> {
    // A spawner that dies meanwhile gives back all it has.
    await this.#ask({ op: "rest" }).catch(() => {});
  }

  onReplaced(listener: () => void): void {
    this.#listeners.push(listener);
  }
}
