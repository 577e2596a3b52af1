// Inside the spawner: starting processes, knowing their ends, and undoing what belonged to them.

import { chownSync, closeSync, mkdirSync, openSync, readFileSync, readSync, renameSync, writeFileSync } from "node:fs";
import { BlankCgroups } from "./blank-cgroups.ts";
import { Children, type Child, type Program } from "./children.ts";
import type { ExecResult, LaunchSpec, Make, ProcessExit, Undo } from "./door.ts";
import { GracePeriod } from "./grace-period.ts";
import type { Ledger } from "./ledger.ts";
import { childrenOf, numberInside, statOf } from "./owners.ts";
import { makeImageRoot } from "./image-root.ts";
import { markName } from "./reclaim.ts";
import { Sealed } from "./sealed.ts";
import type { Syscalls } from "./syscalls.ts";
import { thaw, undoAll, type RemoveFolder } from "./undo.ts";
import { UserNamespaces } from "./user-namespaces.ts";

const readAtEndBytes = 4_096;
/** An engine whose container has been killed ends by itself; past this it is killed as well. */
const engineEndMs = 1_000;

type AskedSignal = "SIGTERM" | "SIGKILL" | "SIGSTOP" | "SIGCONT";

interface Launched {
  readonly spec: LaunchSpec;
  readonly child: Child;
  /** Aborted when it is killed: what is run at its end is given up as well. */
  readonly killed: AbortController;
  /** Resolves when it has ended and all of it is undone. */
  readonly over: Promise<void>;
}

export class Launcher {
  readonly #launched = new Map<string, Launched>();
  readonly #ledger: Ledger;
  readonly #system: Syscalls;
  readonly #namespaces = new UserNamespaces();
  readonly #children = new Children();
  readonly #gracePeriod = new GracePeriod();
  readonly #blank = new BlankCgroups();
  readonly #sealed: Sealed;
  readonly #ended: (id: string, how: ProcessExit) => void;
  readonly #exec: (atEnd: NonNullable<LaunchSpec["atEnd"]>, signal: AbortSignal) => Promise<ExecResult>;
  readonly #problem: (words: string) => void;
  readonly #removeCgroup: RemoveFolder | undefined;
  readonly #mark: (id: string) => string;
  readonly #over: (id: string, how: ProcessExit) => Promise<void>;

  constructor(options: {
    ledger: Ledger;
    system: Syscalls;
    /** Of this process alone: names of engines that are in memory. */
    sealed: string;
    /** In the environment of what is launched. */
    mark: (id: string) => string;
    /** It has ended, and nothing of it is undone yet. */
    over?: (id: string, how: ProcessExit) => Promise<void>;
    ended: (id: string, how: ProcessExit) => void;
    exec: (atEnd: NonNullable<LaunchSpec["atEnd"]>, signal: AbortSignal) => Promise<ExecResult>;
    problem: (words: string) => void;
    /** As of `undoAll`. */
    removeCgroup?: RemoveFolder;
  }) {
    this.#mark = options.mark;
    this.#over = options.over ?? (async () => undefined);
    this.#ledger = options.ledger;
    this.#system = options.system;
    this.#sealed = new Sealed(options.sealed, options.system);
    this.#ended = options.ended;
    this.#exec = options.exec;
    this.#problem = options.problem;
    this.#removeCgroup = options.removeCgroup;
  }

  /** Things for a process that comes later, or that runs. What fails is undone with the rest of its owner's. */
  async make(owner: string, things: readonly Make[], undo: readonly Undo[]): Promise<void> {
    const isNew = undo.length > 0;
    if (isNew) this.#ledger.add(owner, undo);
    else if (!this.#ledger.has(owner)) throw new Error(`${owner} has gone`);
    for (const thing of things) makeThing(thing, this.#system, this.#namespaces);
    // Behind its cgroups: the kernel makes none while somebody waits.
    if (isNew) this.#gracePeriod.begin();
  }

  async unmake(owner: string): Promise<void> {
    if (this.#launched.has(owner)) throw new Error(`${owner} is running`);
    const left = await this.#undo(owner);
    if (left.length > 0) throw new Error(left.map((words) => `${owner}: ${words}`).join("; "));
  }

  /** `made`: called when its things are there, and before it is; what it throws fails the launch. */
  async launch(spec: LaunchSpec, made?: () => void): Promise<void> {
    if (this.#launched.has(spec.id)) throw new Error(`${spec.id} is already launched`);
    const undo = [...spec.undo, ...(spec.listen ? [{ kind: "remove" as const, path: spec.listen }] : [])];
    if (undo.length > 0 || !this.#ledger.has(spec.id)) this.#ledger.add(spec.id, undo);
    const opened: Array<() => void> = [];
    try {
      for (const thing of spec.before ?? []) makeThing(thing, this.#system, this.#namespaces);
      this.#gracePeriod.begin();
      made?.();
      const child = await this.#spawn(spec, opened);
      const killed = new AbortController();
      // What was made for it is not remembered for as long as it runs.
      const launched = { ...spec, before: [] };
      const over = child.exit.then((how) => this.#end(launched, child, how, killed.signal));
      this.#launched.set(spec.id, { spec: launched, child, killed, over });
    } catch (error) {
      await this.#undo(spec.id);
      throw error;
    } finally {
      for (const close of opened) close();
    }
  }

  async #spawn(spec: LaunchSpec, opened: Array<() => void>): Promise<Child> {
    // Opened for reading too: opening then never waits for a reader, and a reader that dies and comes back costs no SIGPIPE.
    const open = (path: string): number => {
      const fd = openSync(path, "r+");
      opened.push(() => closeSync(fd));
      return fd;
    };
    const stdio: Array<"ignore" | number> = [
      spec.input === undefined ? "ignore" : open(spec.input),
      open(spec.output.stdout),
      open(spec.output.stderr),
    ];
    if (spec.listen !== null) {
      // Listened on under another name: closing our copy must not unlink what the outside connects to.
      const listening = await this.#system.listen(`${spec.listen}.tmp`);
      opened.push(() => listening.close());
      renameSync(`${spec.listen}.tmp`, spec.listen);
      stdio.push(listening.fd);
    } else if (spec.output.frames !== null) stdio.push("ignore");
    if (spec.output.frames !== null) stdio.push(open(spec.output.frames));
    // A session of its own: a terminal's interrupt goes to the daemon alone, and a signal here reaches all of it.
    return this.#start(
      {
        path: spec.argv[0]!,
        argv: spec.argv,
        env: { ...spec.env, [markName]: this.#mark(spec.id) },
        cwd: spec.cwd,
        stdio,
      },
      spec.sealed === true,
    );
  }

  async #start(program: Program, sealed: boolean): Promise<Child> {
    const path = sealed ? this.#sealed.of(program.path) : program.path;
    if (path === program.path) return this.#children.start(program);
    try {
      return await this.#children.start({ ...program, path });
    } catch {
      // A machine may forbid to start anything from memory.
      const child = await this.#children.start(program);
      this.#sealed.refuse();
      return child;
    }
  }

  async #end(spec: LaunchSpec, child: Child, ended: ProcessExit, killed: AbortSignal): Promise<void> {
    // What it left behind in its group; a sandbox's processes have died with their pid namespace.
    killGroup(child.pid, "SIGKILL");
    const files = spec.readAtEnd ? readFiles(spec.readAtEnd) : undefined;
    const atEnd = ended.code === 0 && spec.atEnd ? await this.#runAtEnd(spec.atEnd, killed) : undefined;
    const how = { ...ended, ...(files ? { files } : {}), ...(atEnd ? { atEnd } : {}) };
    await this.#over(spec.id, how);
    const left = (await this.#undo(spec.id)).length > 0;
    this.#launched.delete(spec.id);
    if (this.#launched.size === 0) this.#blank.removeSoon(() => this.#ledger.launches());
    this.#ended(spec.id, { ...how, ...(left ? { left } : {}) });
  }

  /** Launched, and not undone yet. */
  get ids(): readonly string[] {
    return [...this.#launched.keys()];
  }

  async #runAtEnd(atEnd: NonNullable<LaunchSpec["atEnd"]>, killed: AbortSignal): Promise<ExecResult> {
    try {
      return await this.#exec(atEnd, killed);
    } catch (error) {
      return { code: 1, stdout: "", stderr: error instanceof Error ? error.message : String(error) };
    }
  }

  /** The words of what failed. */
  async #undo(id: string): Promise<readonly string[]> {
    const undo = this.#ledger.undoOf(id).map((step) => this.#blank.leave(step));
    const problems = await undoAll(undo, this.#system, this.#removeCgroup);
    for (const words of problems) this.#problem(`${id}: ${words}`);
    // What could not be undone stays in the ledger: the next start tries again.
    if (problems.length === 0) this.#ledger.forget(id);
    return problems;
  }

  signal(id: string, asked: AskedSignal): void {
    const launched = this.#launched.get(id);
    if (asked === "SIGKILL") launched?.killed.abort(new Error(`${id} was killed`));
    if (!launched || launched.child.gone) return;
    const { spec, child } = launched;
    const signal = asked === "SIGTERM" ? (spec.endSignal ?? asked) : asked;
    const inner = spec.signalPidFile === null ? null : innerPid(spec.signalPidFile, child.pid, spec.ownPids === true);
    if (inner !== null) {
      tryKill(inner, signal);
      if (signal === "SIGKILL") setTimeout(() => this.#killEngine(id, child), engineEndMs).unref();
    } else if (spec.signalPidFile === null) killGroup(child.pid, signal);
    // An engine still at work: there is nobody inside yet who could be asked.
    else if (asked === "SIGTERM" || asked === "SIGKILL") killGroup(child.pid, "SIGKILL");
    thaw(this.#ledger.undoOf(id));
  }

  #killEngine(id: string, child: Child): void {
    if (this.#launched.get(id)?.child === child) killGroup(child.pid, "SIGKILL");
  }

  /** Ends everything at once; resolves when all of it is undone. */
  async killAll(): Promise<void> {
    for (const id of this.#launched.keys()) this.signal(id, "SIGKILL");
    await Promise.all([...this.#launched.values()].map((launched) => launched.over));
    this.#blank.remove(this.#ledger.launches());
  }
}

/** The process that the file names, if it is this engine's child: a number that was reused is nobody's. */
function innerPid(file: string, engine: number, ownPids: boolean): number | null {
  let pid: number;
  try {
    pid = Number(readFileSync(file, "latin1").trim());
  } catch {
    return null;
  }
  if (!Number.isInteger(pid) || pid <= 1) return null;
  if (ownPids)
    return (
      childrenOf(engine)
        .flatMap(childrenOf)
        .find((child) => numberInside(child) === pid) ?? null
    );
  return statOf(pid)?.parent === engine ? pid : null;
}

function killGroup(leader: number, signal: NodeJS.Signals): void {
  tryKill(-leader, signal);
}

function tryKill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended.
  }
}

export function makeThing(thing: Make, system: Syscalls, namespaces: UserNamespaces): void {
  switch (thing.kind) {
    case "folder":
      mkdirSync(thing.path, { mode: thing.mode, recursive: true });
      return;
    case "fifo":
      system.makeFifo(thing.path);
      if (thing.uid !== undefined) chownSync(thing.path, thing.uid, thing.uid);
      return;
    case "file":
      writeFileSync(thing.path, thing.text, { mode: thing.mode });
      return;
    case "bind":
      system.bind(thing.source, thing.target, thing.readOnly);
      return;
    case "overlay":
      try {
        system.overlay(thing.base, thing.lower, thing.target);
      } catch {
        system.bind(thing.source, thing.target, true);
      }
      return;
    case "image":
      makeImageRoot(thing, system, namespaces);
      return;
    case "write":
      writeExisting(thing.path, thing.value);
  }
}

/** Writes a cgroup's file; its words name the file, which the system's error alone would not. */
export function writeExisting(path: string, value: string): void {
  try {
    writeFileSync(path, value, { flag: "r+" });
  } catch (error) {
    throw new Error(`cannot set ${path} to ${value}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}

function readFiles(paths: readonly string[]): Record<string, string> {
  const files: Record<string, string> = {};
  const buffer = Buffer.alloc(readAtEndBytes);
  for (const path of paths) {
    let fd: number | null = null;
    try {
      fd = openSync(path, "r");
      files[path] = buffer.toString("utf8", 0, readSync(fd, buffer, 0, readAtEndBytes, 0));
    } catch {
      // Never made, or gone.
    } finally {
      if (fd !== null) closeSync(fd);
    }
  }
  return files;
}
