// The driver without isolation, for development: the same contract, as plain processes of the machine. Loopback only, and said so.

import { closeSync, constants, openSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { EbbError } from "#model/errors.ts";
import { newSandboxId, type SandboxId } from "#model/ids.ts";
import { sandboxLimits } from "#model/limits.ts";
import type { RuntimeName } from "#model/workload.ts";
import type { LaunchSpec, ProcessExit, Spawner } from "#spawner/door.ts";
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
  SocketReader,
} from "../door.ts";
import { nothingLeft } from "../nothing-left.ts";
import { exitOf } from "../end.ts";
import { listens } from "../listens.ts";
import { oneOffResult, readFifo } from "../one-off.ts";
import { requirePython } from "../python.ts";
import { lostConnection, noSandbox } from "../lost-connection.ts";
import { assignBody, readyProgram, RuntimeLink } from "../runtime-link.ts";
import { baseEnv, readShims } from "../shims.ts";

const loopback = "127.0.0.1";

export interface ProcessOptions {
  readonly spawner: Spawner;
  readonly runDir: string;
  readonly folderOf: (digest: string) => string;
  readonly node: (runtime: "node22" | "node24" | "node26") => Promise<string>;
  /** The project's runtimes/ folder. */
  readonly runtimes: string;
}

interface End {
  readonly how: ProcessExit;
  readonly exit: Exit;
}

interface Running {
  readonly id: SandboxId;
  readonly pool: PoolKey;
  readonly listener: SandboxListener | null;
  readonly output: LaunchSpec["output"];
  readonly socketPath: string | null;
  readonly over: PromiseWithResolvers<End>;
  launched: boolean;
  sent: "SIGTERM" | "SIGKILL" | null;
  link: RuntimeLink | null;
  port: number;
}

export function createProcessDriver(options: ProcessOptions): SandboxDriver {
  return new ProcessDriver(options);
}

class ProcessDriver implements SandboxDriver {
  readonly name = "process";
  readonly #options: ProcessOptions;
  readonly #shims: ReturnType<typeof readShims>;
  readonly #running = new Map<SandboxId, Running>();

  constructor(options: ProcessOptions) {
    this.#options = options;
    this.#shims = readShims(options.runtimes);
  }

  capabilities(): Capabilities {
    // Any egress is taken and none is held: that is what "not isolated" means.
    const egress = ["none", "internet", "list"] as const;
    return {
      isolation: "none",
      listener: "fd",
      pause: true,
      snapshot: false,
      egress,
      cpuStrict: false,
      usage: "none",
    };
  }

  async start(): Promise<void> {}

  readonly left = nothingLeft.left;
  readonly adopt = nothingLeft.adopt;
  readonly forget = nothingLeft.forget;
  readonly keep = nothingLeft.keep;

  async stop(): Promise<void> {
    await Promise.all([...this.#running.keys()].map((id) => this.stopSandbox(id, 0)));
  }

  async prepare(pool: PoolKey, listener: SandboxListener): Promise<SandboxId> {
    if ("image" in pool) throw new EbbError("internal", "Images need isolation: ebb runs with --isolation none.");
    const custom = pool.runtime === "custom" || pool.toEnd === true;
    const interpreter = await this.#interpreter(pool.runtime);
    const running = await this.#make(pool, listener, !custom);
    // A program cannot be told later what it is: it is started with its assignment.
    if (pool.runtime !== "custom" && !pool.toEnd) {
      const argv = this.#shims.outside(this.#shims.argvOf(pool.runtime, pool.memoryMb), interpreter);
      try {
        await this.#launch(running, { argv, env: baseEnv, cwd: "/" });
      } catch (error) {
        this.#running.delete(running.id);
        throw error;
      }
    }
    return running.id;
  }

  async #interpreter(runtime: RuntimeName): Promise<string> {
    if (runtime === "python3") return requirePython();
    return this.#options.node(runtime === "node22" || runtime === "node24" ? runtime : "node26");
  }

  async #make(pool: PoolKey, listener: SandboxListener | null, listen: boolean): Promise<Running> {
    const { runDir, spawner } = this.#options;
    const id = newSandboxId();
    const folder = join(runDir, "output", id);
    const output = {
      stdout: join(folder, "1"),
      stderr: join(folder, "2"),
      frames: listen ? join(folder, "4") : null,
      ...(pool.toEnd ? { result: join(folder, "5") } : {}),
    };
    const running: Running = {
      id,
      pool,
      listener,
      output,
      socketPath: listen ? join(runDir, "sockets", id) : null,
      over: Promise.withResolvers(),
      launched: false,
      sent: null,
      link: null,
      port: 0,
    };
    running.over.promise.catch(() => {});
    await spawner.make({
      owner: id,
      things: [
        { kind: "folder", path: folder, mode: 0o700 },
        ...Object.values(output)
          .filter((path) => path !== null)
          .map((path) => ({ kind: "fifo" as const, path })),
      ],
      undo: [{ kind: "remove", path: folder }],
    });
    this.#running.set(id, running);
    return running;
  }

  async #launch(
    running: Running,
    { argv, env, cwd }: { argv: readonly string[]; env: Readonly<Record<string, string>>; cwd: string },
  ): Promise<void> {
    const { spawner } = this.#options;
    const { id, output, socketPath } = running;
    await spawner.launch({ id, argv, env, cwd, listen: socketPath, output, signalPidFile: null, undo: [] });
    running.launched = true;
    void spawner.exited(id).then((how) => this.#end(running, how));
  }

  #end(running: Running, how: ProcessExit): void {
    if (!this.#running.delete(running.id)) return;
    running.link?.close();
    const exit = exitOf({ how, sent: running.sent, memoryMb: running.pool.memoryMb, memory: null });
    running.over.resolve({ how, exit });
    running.listener?.exited(exit);
  }

  async assign(id: SandboxId, assignment: Assignment): Promise<Ready | Failed> {
    const running = this.#get(id);
    const startedMs = performance.now();
    const giveUp = new AbortController();
    const late = Promise.withResolvers<Failed>();
    const timer = setTimeout(
      () => late.resolve(failed(`It did not start to serve within ${sandboxLimits.startMs / 1000} s.`)),
      sandboxLimits.startMs,
    );
    const ended = running.over.promise.then(({ exit }) => {
      if (exit.reason === "lost") throw new EbbError("internal", exit.message);
      return failed(`It ended before it could serve. ${exit.message}`);
    });
    ended.catch(() => {});
    try {
      const work =
        running.socketPath === null
          ? this.#program(running, assignment, giveUp.signal)
          : this.#load(running, assignment);
      // How a program that runs to its end has ended, its exit tells.
      const answer = await (assignment.probe === null
        ? work.then((said) => said ?? ended)
        : Promise.race([work.then((said) => said ?? ended), ended, late.promise]));
      if (answer.ok) return { ...answer, phases: { start: performance.now() - startedMs, ...answer.phases } };
      void this.stopSandbox(id, 0);
      return running.link?.taken === false ? { ...answer, untouched: true } : answer;
    } finally {
      clearTimeout(timer);
      giveUp.abort();
    }
  }

  #load(running: Running, assignment: Assignment): Promise<Ready | Failed | null> {
    running.link = new RuntimeLink({
      connect: () => this.connect(running.id),
      done: (invocation) => running.listener?.done(invocation),
    });
    // Code is where it is stored here, and nothing is laid over it.
    const plain = { ...assignment, loadCache: null, makeLoadCache: false };
    const body = assignBody(plain, this.#folderOf(assignment), running.pool.memoryMb);
    return running.link.assign(body, assignment.takeWithinMs);
  }

  async #program(running: Running, assignment: Assignment, signal: AbortSignal): Promise<Ready | Failed | null> {
    const [program = "", ...rest] = assignment.command ?? [];
    const { toEnd } = running.pool;
    const cwd = this.#folderOf(assignment);
    running.port = await freePort();
    // Relative to the code, as execve does it in the sandbox; a bare name is looked up in PATH.
    const named = program.includes("/") ? join(cwd, program) : program;
    const path = toEnd && program === "node" ? await this.#nodeOf(running.pool) : named;
    const port = assignment.probe === null ? {} : { PORT: String(running.port) };
    const result = running.output.result === undefined ? {} : { EBB_RESULT: running.output.result };
    try {
      await this.#launch(running, {
        argv: [path, ...rest],
        env: { ...baseEnv, ...assignment.env, ...port, ...result },
        cwd,
      });
    } catch (error) {
      return failed(`${program} cannot be started: ${error instanceof Error ? error.message : String(error)}`);
    }
    if (assignment.probe !== null && !(await listens(loopback, running.port, signal))) return null;
    return readyProgram;
  }

  #nodeOf(pool: PoolKey): Promise<string> {
    const runtime = "runtime" in pool ? pool.runtime : "node26";
    return this.#options.node(runtime === "node22" || runtime === "node24" ? runtime : "node26");
  }

  #folderOf({ codeDigest }: Assignment): string {
    return codeDigest === null ? "/" : this.#options.folderOf(codeDigest);
  }

  connect(id: SandboxId, reader?: SocketReader): Duplex {
    const running = this.#running.get(id);
    if (running === undefined) return lostConnection(id);
    const onread = reader === undefined ? {} : { onread: reader };
    if (running.socketPath !== null) return connect({ path: running.socketPath, ...onread });
    return connect({ host: loopback, port: running.port, noDelay: true, ...onread });
  }

  output(id: SandboxId): OutputSource {
    return { kind: "fifo", ...this.#get(id).output };
  }

  async stopSandbox(id: SandboxId, graceMs: number): Promise<void> {
    const running = this.#running.get(id);
    if (!running) return;
    if (!running.launched) {
      running.sent = "SIGTERM";
      await this.#options.spawner.unmake(id).catch(() => {});
      this.#end(running, { code: null, signal: null });
      return;
    }
    const send = (signal: "SIGTERM" | "SIGKILL"): void => {
      running.sent = signal;
      void this.#options.spawner.signal(id, signal);
      // What is stopped hears SIGTERM only when it goes on.
      void this.#options.spawner.signal(id, "SIGCONT");
    };
    if (graceMs <= 0) send("SIGKILL");
    else if (running.sent === null) send("SIGTERM");
    const timer = graceMs > 0 ? setTimeout(() => send("SIGKILL"), graceMs) : undefined;
    await running.over.promise;
    clearTimeout(timer);
  }

  async pause(id: SandboxId): Promise<void> {
    await this.#options.spawner.signal(this.#get(id).id, "SIGSTOP");
  }

  async resume(id: SandboxId): Promise<void> {
    await this.#options.spawner.signal(this.#get(id).id, "SIGCONT");
  }

  usage(): SandboxUsage {
    return { cpuNs: null, memoryPeakBytes: null };
  }

  /** Paths that a sandbox would have at the mounts' targets become the folders themselves. */
  credentialAt(): string | null {
    return null; // no links: an instance shows its credential
  }

  async run(spec: OneOff): Promise<OneOffResult> {
    const node = await this.#interpreter(spec.pool.runtime);
    const outside = (text: string): string => {
      let mapped = text;
      for (const { source, target } of spec.mounts)
        if (mapped === target || mapped.startsWith(`${target}/`)) mapped = source + mapped.slice(target.length);
      return mapped;
    };
    const [program = "", ...rest] = spec.argv;
    const env = Object.fromEntries(Object.entries(spec.env).map(([name, value]) => [name, outside(value)]));
    const running = await this.#make(spec.pool, null, false);
    const readers = {
      stdout: readFifo(running.output.stdout, spec.outputBytes),
      stderr: readFifo(running.output.stderr, spec.outputBytes),
    };
    const held = [running.output.stdout, running.output.stderr].map((path) => openSync(path, constants.O_WRONLY));
    try {
      const argv = [program === "/usr/bin/node" ? node : outside(program), ...rest.map(outside)];
      await this.#launch(running, { argv, env: { ...baseEnv, ...env }, cwd: "/" });
    } finally {
      held.forEach((fd) => closeSync(fd));
    }
    return oneOffResult(spec, running.over.promise, readers, () => void this.stopSandbox(running.id, 0));
  }

  #get(id: SandboxId): Running {
    return this.#running.get(id) ?? noSandbox(id);
  }
}

function failed(message: string): Failed {
  return { ok: false, failure: { fault: "function", message, stack: null, hint: null } };
}

/** Free at this moment: another process may take it, and then the program says so. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen({ host: loopback, port: 0 }, () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });
}
