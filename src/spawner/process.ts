// Entry of the spawner process. Started with the run directory as its argument and a socket pair to the daemon as fd 3.
// It ends with its daemon, whichever way that goes, and leaves nothing.

import { execFile, type ChildProcess } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { flushCompileCache, getCompileCacheDir } from "node:module";
import { Socket } from "node:net";
import { dirname, join } from "node:path";
import { giveBack } from "#lib/give-back.ts";
import type { ExecResult, LaunchSpec, ProcessExit, Undo } from "./door.ts";
import { Launcher, writeExisting } from "./launch.ts";
import { daemonOwner, groundOwner, Ledger } from "./ledger.ts";
import { changeNetworks, isUntouched, unpin } from "./network-namespaces.ts";
import { NftSession } from "./nft.ts";
import { formatOwner, ownerOf } from "./owners.ts";
import { createLineReader, type Reply, type Request } from "./protocol.ts";
import {
  isSupervised,
  markName,
  markOf,
  markValue,
  reclaimDead,
  removeRunDir,
  takeOver,
  undoLaunches,
} from "./reclaim.ts";
import { createSyscalls, mountsBelow } from "./syscalls.ts";
import { undoAll } from "./undo.ts";

const execOutputBytes = 1024 * 1024;
/** From the daemon's death to this process's end. */
const lastMs = 2_000;

const runDir = process.argv[2] ?? startedByHand();
const system = createSyscalls();
system.closeOnExec();
// A system that shuts down signals everybody at once: the daemon drains first, and its end is ours.
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => {});

writeFileSync(join(runDir, "spawner"), formatOwner(ownerOf(process.pid)!), { mode: 0o600 });
const channel = new Socket({ fd: 3, readable: true, writable: true });
const ledger = new Ledger(runDir);
const cache = getCompileCacheDir();
const commandEnv = {
  PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
  LC_ALL: "C",
  [markName]: markValue(runDir, "command"),
  // Programs of ebb's own are compiled once: 0.1 instead of 0.25 CPU-seconds each.
  ...(cache === undefined ? {} : { NODE_COMPILE_CACHE: dirname(cache) }),
};
const nft = new NftSession(commandEnv);
const launcher = new Launcher({
  ledger,
  system,
  sealed: join(runDir, "sealed-spawner"),
  mark: (id) => markValue(runDir, id),
  ended: tellExit,
  exec: async (atEnd, signal) => runAtEnd(atEnd, signal),
  problem,
});
/** Commands by the number of their request. */
const running = new Map<number, ChildProcess>();
let ending = false;

// Orphans of an earlier spawner of this daemon first, then what dead daemons left; requests wait for both.
const reclaimed = (async () => {
  const inherits = process.argv[3] === "inherits";
  if (inherits) forgetSecrets();
  const orphans = ledger.entries().filter(({ id }) => id !== groundOwner && (inherits || id !== daemonOwner));
  const left = await undoLaunches(markOf(runDir), orphans, system);
  for (const { id, words } of left) problem(`${id}: ${words}`);
  // The rest is tried again at the end, or by the next start.
  for (const { id } of orphans) if (!left.some((one) => one.id === id)) ledger.forget(id);
  for (const words of await reclaimDead(runDir, system)) problem(words);
})();

void reclaimed.then(() => takeOver(runDir, system, problem)).catch((error: unknown) => problem(String(error)));

// Now, and not at the end, which may be a kill: with it the next start needs no type stripper (18 MB).
void reclaimed.then(() => flushCompileCache());

channel.on(
  "data",
  createLineReader((line) => void handle(JSON.parse(line))),
);
channel.on("error", () => {});
channel.on("close", () => void end());

/** Logins to registries live no longer than their daemon, also where the run directory does. */
function forgetSecrets(): void {
  rmSync(join(runDir, "logins"), { recursive: true, force: true });
}

function startedByHand(): never {
  throw new Error("the spawner is started by the daemon, not by hand");
}

async function handle(request: Request): Promise<void> {
  try {
    await reclaimed;
    if (ending) throw new Error("the spawner is ending");
    const value = await perform(request);
    send({ n: request.n, ok: true, ...(value === undefined ? {} : { value }) });
  } catch (error) {
    send({ n: request.n, ok: false, words: error instanceof Error ? error.message : String(error) });
  }
}

async function perform(request: Request): Promise<unknown> {
  switch (request.op) {
    case "ready":
      return { syscalls: system.by };
    case "launch":
      return launcher.launch(request.spec);
    case "signal":
      return launcher.signal(request.id, request.signal);
    case "exec":
      return run(request.argv, request.stdin, request.timeoutMs, (child) => running.set(request.n, child)).finally(() =>
        running.delete(request.n),
      );
    case "cancel":
      running.get(request.exec)?.kill("SIGKILL");
      return undefined;
    case "fifos":
      for (const path of request.paths) system.makeFifo(path);
      return undefined;
    case "share":
      // An earlier daemon's stays as it is: what is mounted below is seen by its kept processes.
      return mounting(request.owner, request.path, () => {
        if (!mountsBelow(request.path).includes(request.path)) system.share(request.path);
      });
    case "make":
      return launcher.make(request.owner, request.things, request.undo);
    case "unmake":
      return launcher.unmake(request.owner);
    case "bind":
      return mounting(request.owner, request.target, () =>
        system.bind(request.source, request.target, request.readOnly),
      );
    case "tmpfs":
      return mounting(request.owner, request.target, () => system.tmpfs(request.target, request.bytes, request.mode));
    case "unmount":
      system.unmount(request.path);
      return undefined;
    case "cgroup":
      owe(request.owner, [{ kind: "cgroup", paths: request.paths }]);
      for (const path of request.paths) mkdirSync(path, { recursive: true });
      for (const limit of request.limits) writeExisting(limit.path, limit.value);
      return undefined;
    case "network":
      return changeNetworks(request.changes, system);
    case "unpin":
      return unpin(request.paths, system);
    case "untouched":
      return isUntouched(request.path, system);
    case "nft":
      return nft.run(request.script);
    case "owe":
      return owe(request.owner, request.undo);
    case "rest":
      return giveBack({ thoroughly: true });
    case "stop":
      await end();
      return undefined;
    default:
      throw new Error("an unknown operation");
  }
}

function mounting(owner: string, target: string, mount: () => void): void {
  owe(owner, [{ kind: "unmount", path: target }]);
  mount();
}

function owe(owner: string, undo: readonly Undo[]): void {
  // What it belonged to has ended while the request was on its way: it must not be made any more.
  if (owner !== daemonOwner && owner !== groundOwner && !ledger.has(owner)) throw new Error(`${owner} is not running`);
  ledger.add(owner, undo);
}

function run(
  argv: readonly string[],
  stdin: string | null,
  timeoutMs: number,
  started: (child: ChildProcess) => void,
): Promise<ExecResult> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      argv[0]!,
      argv.slice(1),
      { timeout: timeoutMs, killSignal: "SIGKILL", maxBuffer: execOutputBytes, env: commandEnv, cwd: "/" },
      (error, stdout, stderr) => {
        const failure: unknown = error?.code;
        if (error?.killed || failure === "ERR_CHILD_PROCESS_STDIO_MAXBUFFER")
          reject(new Error(`${argv[0]} took longer than ${timeoutMs} ms, or said more than 1 MiB`));
        else if (typeof failure === "string") reject(error);
        else resolve({ code: error ? Number(error.code ?? 128) : 0, stdout, stderr });
      },
    );
    started(child);
    child.stdin!.on("error", () => {});
    child.stdin!.end(stdin ?? "");
  });
}

function runAtEnd(
  { argv, stdin, timeoutMs }: NonNullable<LaunchSpec["atEnd"]>,
  signal: AbortSignal,
): Promise<ExecResult> {
  signal.throwIfAborted();
  return run(argv, stdin, timeoutMs, (child) => {
    const kill = (): void => void child.kill("SIGKILL");
    signal.addEventListener("abort", kill);
    child.once("exit", () => signal.removeEventListener("abort", kill));
  });
}

function send(reply: Reply): void {
  if (!channel.destroyed) channel.write(`${JSON.stringify(reply)}\n`);
}

function tellExit(id: string, how: ProcessExit): void {
  send({ exit: id, how });
}

function problem(words: string): void {
  process.stderr.write(`ebb spawner: ${words}\n`);
}

async function end(): Promise<void> {
  if (ending) return;
  ending = true;
  // Past this the next daemon undoes the rest: the ledger has it.
  setTimeout(() => process.exit(1), lastMs).unref();
  try {
    await reclaimed;
    nft.close();
    await launcher.killAll();
    const left = await undoLaunches(markOf(runDir), ledger.launches(), system);
    const problems = left.map(({ id, words }) => `${id}: ${words}`);
    problems.push(...(await undoAll(ledger.undoOf(daemonOwner), system)));
    if (problems.length === 0) ledger.forget(daemonOwner);
    forgetSecrets();
    // A supervisor that has outlived the daemon removes the rest behind its last process.
    if (!isSupervised(runDir)) {
      problems.push(...(await undoAll(ledger.undoOf(groundOwner), system)));
      if (problems.length === 0) problems.push(...removeRunDir(runDir, system));
    }
    for (const words of problems) problem(words);
  } catch (error) {
    problem(error instanceof Error ? (error.stack ?? error.message) : String(error));
  }
  process.exit(0);
}
