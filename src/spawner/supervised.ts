// The main thread's side of the supervisor: starts it with the first process that is kept, lets it go after the last, and finds an earlier daemon's.

import { spawn } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { Duplex } from "node:stream";
import { fileURLToPath } from "node:url";
import type { Cancel, Clock } from "#model/clock.ts";
import { EbbError } from "#model/errors.ts";
import { jobLimits } from "#model/limits.ts";
import { bootDir } from "./allocator.ts";
import type { KeptEnd, LaunchSpec, Left, ProcessExit, Spawner, Supervisor } from "./door.ts";
import { findKeptCgroups } from "./kept-cgroups.ts";
import { writeDurably } from "./kept-folders.ts";
import { bootId, namesIn, pointerName, readEnd, readNote } from "./kept.ts";
import { createLineReader, type Hello, type KeptNotice, type KeptOperation, type Reply } from "./protocol.ts";
import { isSupervised, letItsSpawnerFinish } from "./reclaim.ts";
import { defaultRunRoot } from "./run-root.ts";
import { environmentOf, smallNode } from "./spawner.ts";

export interface SupervisorOptions {
  readonly node: string;
  /** Of all that is kept, in the data directory: it outlives a boot. */
  readonly directory: string;
  readonly clock: Clock;
  readonly problem: (words: string) => void;
  readonly root?: string;
  readonly idleMs?: number;
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** One that does not answer is none. */
const helloMs = 10_000;
const rememberedEnds = 1_024;

export function createSupervisor(options: SupervisorOptions): SupervisorClient {
  return new SupervisorClient(options);
}

export class SupervisorClient implements Supervisor {
  readonly bootId = bootId();
  readonly #options: SupervisorOptions;
  readonly #launched = new Map<string, PromiseWithResolvers<ProcessExit>>();
  /** The latest that ended, for whoever asks late. */
  readonly #ended = new Map<string, ProcessExit>();
  /** What things were made for, and has not gone. */
  readonly #owners = new Set<string>();
  #ground: { readonly runDir: string; readonly spawner: Pick<Spawner, "cgroup"> } | null = null;
  #left: readonly Left[] = [];
  #channel: Duplex | null = null;
  #opening: Promise<void> | null = null;
  /** One that was told to go. */
  #going: Promise<void> = Promise.resolve();
  #waiting = new Map<number, Waiting>();
  #count = 0;
  #idle: Cancel | null = null;
  #closed = false;

  constructor(options: SupervisorOptions) {
    this.#options = options;
  }

  get left(): readonly Left[] {
    return this.#left;
  }

  get holds(): boolean {
    return this.#launched.size > 0;
  }

  /** Before anything else of this daemon: the run directory that live processes of an earlier one stand in; null: there are none. */
  async find(): Promise<string | null> {
    const { directory, root = defaultRunRoot() } = this.#options;
    const runDir = await readFile(join(directory, pointerName), "utf8").catch(() => "");
    const running = runDir === "" || dirname(runDir) !== bootDir(root) ? null : await this.#meet(runDir);
    for (const { id } of running ?? []) this.#expect(id);
    const left: Left[] = [];
    for (const name of namesIn(directory)) {
      const folder = this.folderOf(name);
      const known = readNote(folder);
      const alive = running?.find((one) => one.name === name) ?? null;
      const end = alive ? null : readEnd(folder);
      // One that has neither has died with its supervisor.
      if (known === null || (alive === null && end === null)) rmSync(folder, { recursive: true, force: true });
      else left.push({ name, ...known, end, begunMs: alive ? alive.begunMs : end!.begunMs });
    }
    this.#left = left;
    return running === null ? null : runDir;
  }

  async #meet(runDir: string): Promise<Hello["running"] | null> {
    if (!isSupervised(runDir)) return null;
    const socket = connect(join(runDir, "supervisor.sock"));
    this.#use(socket);
    const late = setTimeout(() => socket.destroy(), helloMs);
    try {
      const hello = (await this.#send({ op: "hello" })) as Hello;
      if (hello.running.length > 0) {
        await letItsSpawnerFinish(runDir);
        return hello.running;
      }
    } catch {
      // It has gone, or is about to.
    } finally {
      clearTimeout(late);
    }
    this.#channel = null;
    socket.destroy();
    return null;
  }

  /** What it stands on, once that is there. */
  begin(ground: { readonly runDir: string; readonly spawner: Pick<Spawner, "cgroup"> }): void {
    this.#ground = ground;
  }

  /** What is still kept lives on; where there is nothing, the process goes. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#idle?.();
    if (this.holds) this.#channel?.destroy();
    else this.#letGo();
    await this.#going;
  }

  folderOf(name: string): string {
    return join(this.#options.directory, name);
  }

  async make(options: Parameters<Spawner["make"]>[0]): Promise<void> {
    this.#owners.add(options.owner);
    await this.#ask({ op: "make", ...options });
  }

  async unmake(owner: string): Promise<void> {
    try {
      await this.#ask({ op: "unmake", owner });
    } finally {
      this.#owners.delete(owner);
      this.#restSoon();
    }
  }

  async launch(spec: LaunchSpec): Promise<void> {
    this.#expect(spec.id);
    try {
      await this.#ask({ op: "launch", spec });
    } catch (error) {
      this.#launched.delete(spec.id);
      this.#owners.delete(spec.id);
      throw error;
    }
  }

  async exited(id: string): Promise<ProcessExit> {
    const ended = this.#ended.get(id);
    if (ended) return ended;
    const launched = this.#launched.get(id);
    if (!launched) throw new EbbError("internal", `${id} was never launched.`);
    return launched.promise;
  }

  async signal(id: string, signal: Parameters<Spawner["signal"]>[1]): Promise<void> {
    // A supervisor that dies meanwhile ends the process as well.
    if (this.#launched.has(id)) await this.#ask({ op: "signal", id, signal }).catch(() => {});
  }

  begun(id: string): void {
    this.#tell({ op: "begun", id });
  }

  endOf(name: string): KeptEnd | null {
    return readEnd(this.folderOf(name));
  }

  async forget(name: string): Promise<void> {
    // It makes the next one of it. One that dies first leaves it to the next start.
    if (this.#channel !== null) this.#tell({ op: "forget", name });
    else await rm(this.folderOf(name), { recursive: true, force: true });
  }

  #expect(id: string): void {
    this.#owners.add(id);
    this.#launched.set(id, Promise.withResolvers());
  }

  async #ask(operation: KeptOperation): Promise<unknown> {
    this.#idle?.();
    this.#idle = null;
    if (this.#channel === null) await (this.#opening ??= this.#open().finally(() => (this.#opening = null)));
    try {
      return await this.#send(operation);
    } finally {
      this.#restSoon();
    }
  }

  #send(operation: KeptOperation): Promise<unknown> {
    const channel = this.#channel;
    if (!channel) return Promise.reject(new EbbError("internal", "The supervisor is not running."));
    const n = ++this.#count;
    return new Promise((resolve, reject) => {
      this.#waiting.set(n, { resolve, reject });
      channel.write(`${JSON.stringify({ ...operation, n })}\n`);
    });
  }

  #tell(notice: KeptNotice): void {
    this.#channel?.write(`${JSON.stringify(notice)}\n`);
  }

  async #open(): Promise<void> {
    await this.#going;
    const { node, directory } = this.#options;
    if (this.#ground === null || this.#closed) throw new EbbError("internal", "The supervisor cannot be started now.");
    const { runDir, spawner } = this.#ground;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    await writeDurably(join(directory, pointerName), runDir);
    const program = fileURLToPath(new URL("./supervisor.ts", import.meta.url));
    const child = spawn(node, [...smallNode, program, runDir, directory], {
      env: environmentOf(runDir),
      cwd: "/",
      detached: true,
      stdio: ["ignore", "ignore", "ignore", "pipe"],
    });
    child.unref();
    const channel = child.stdio[3];
    if (!(channel instanceof Duplex)) throw new EbbError("internal", "The supervisor cannot be spoken to.");
    child.once("error", () => channel.destroy());
    this.#use(channel);
    const paths = findKeptCgroups(runDir);
    const limits = paths.map((path) => ({ path: join(path, "cgroup.procs"), value: String(child.pid) }));
    await spawner.cgroup({ paths, limits, owner: "ground" });
    await this.#send({ op: "hello" });
  }

  #use(channel: Duplex): void {
    this.#channel = channel;
    channel.on("error", () => {});
    channel.on(
      "data",
      createLineReader((line) => this.#hear(JSON.parse(line))),
    );
    channel.once("close", () => this.#died(channel));
  }

  #hear(reply: Reply): void {
    if ("problem" in reply) return this.#options.problem(reply.problem);
    if ("exit" in reply) return this.#end(reply.exit, reply.how);
    const waiting = this.#waiting.get(reply.n);
    this.#waiting.delete(reply.n);
    if (reply.ok) waiting?.resolve(reply.value);
    else waiting?.reject(new EbbError("internal", `The supervisor failed: ${reply.words}`));
  }

  #end(id: string, how: ProcessExit): void {
    this.#launched.get(id)?.resolve(how);
    if (this.#launched.delete(id)) this.#ended.set(id, how);
    if (this.#ended.size > rememberedEnds) this.#ended.delete(this.#ended.keys().next().value!);
    this.#owners.delete(id);
    this.#restSoon();
  }

  #died(channel: Duplex): void {
    const lost = this.#waiting;
    this.#waiting = new Map();
    for (const waiting of lost.values()) waiting.reject(new EbbError("internal", "The supervisor died."));
    if (this.#channel !== channel) return;
    this.#channel = null;
    if (this.#closed || this.#owners.size === 0) return;
    const orphans = [...this.#launched.keys()];
    this.#owners.clear();
    for (const id of orphans) this.#owners.add(id);
    // The new one undoes what the old one left before it says that it is ready.
    this.#opening ??= this.#open().finally(() => (this.#opening = null));
    const over = (): void => {
      for (const id of orphans) this.#end(id, { code: null, signal: null, lost: true });
    };
    void this.#opening.then(over, over);
  }

  #restSoon(): void {
    if (this.#owners.size > 0 || this.#waiting.size > 0 || this.#channel === null || this.#idle !== null) return;
    this.#idle = this.#options.clock.after(this.#options.idleMs ?? jobLimits.supervisorIdleMs, () => {
      this.#idle = null;
      if (this.#owners.size === 0 && this.#waiting.size === 0) this.#letGo();
    });
  }

  #letGo(): void {
    const channel = this.#channel;
    if (channel === null) return;
    const gone = new Promise<void>((resolve) => void channel.once("close", () => resolve()));
    this.#send({ op: "stop" }).catch(() => {});
    this.#channel = null;
    this.#going = gone;
  }
}
