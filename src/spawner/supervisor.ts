// Entry of the supervisor: launches what lives on when ebb dies, reads what it writes into bounded files, and writes down how it ended.
// Started with the run directory and the folder of what it keeps, and a socket pair to the daemon as fd 3; a later daemon comes by the
// socket in the run directory. Without a daemon it stays as long as one of its processes does, and takes the run directory away behind it.

import { existsSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { flushCompileCache } from "node:module";
import { createServer, Socket } from "node:net";
import { join } from "node:path";
import { findKeptCgroups, leaveCgroups } from "./kept-cgroups.ts";
import type { Kept, LaunchSpec, ProcessExit } from "./door.ts";
import { KeptFolders } from "./kept-folders.ts";
import { Keeping } from "./kept.ts";
import { Launcher } from "./launch.ts";
import { Ledger } from "./ledger.ts";
import { formatOwner, isAlive, ownerOf, readOwner } from "./owners.ts";
import { createLineReader, type Hello, type KeptRequest, type Reply } from "./protocol.ts";
import { keptMarkOf, keptMarkValue, letItsSpawnerFinish, undoClaimed, undoLaunches } from "./reclaim.ts";
import { createSyscalls } from "./syscalls.ts";

/** How often one without a daemon looks whether what it keeps is anybody's still. */
const lookMs = 60_000;
/** More than these do not end at once, or take turns. */
const spareFolders = 32;

const [, , runDir = "", directory = ""] = process.argv;
if (directory === "") throw new Error("the supervisor is started by the daemon, not by hand");
const system = createSyscalls();
system.closeOnExec();
// A system that shuts down signals everybody at once: whoever is kept is asked to end by its own daemon.
for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => {});

writeFileSync(join(runDir, "supervisor"), formatOwner(ownerOf(process.pid)!), { mode: 0o600 });
const ledger = new Ledger(runDir, "kept");
const folders = new KeptFolders(directory, spareFolders);
const keepings = new Map<string, Keeping>();
const launcher = new Launcher({
  ledger,
  system,
  sealed: join(runDir, "sealed-supervisor"),
  mark: (id) => keptMarkValue(runDir, id),
  over,
  ended,
  exec: notHere,
  problem,
  // No call waits for this process: to ask a thread takes longer than the kernel does, mostly.
  removeCgroup: rmdirSync,
});
const address = join(runDir, "supervisor.sock");
let client: Socket | null = null;
let leaving = false;
/** What was asked and is not done yet. */
const pending = new Set<Promise<void>>();

// What an earlier supervisor of this daemon left: nobody has read its output since, or knows how it goes.
const reclaimed = undoLaunches(keptMarkOf(runDir), ledger.entries(), system).then((left) => {
  for (const { id, words } of left) problem(`${id}: ${words}`);
  for (const { id } of ledger.entries()) if (!left.some((one) => one.id === id)) ledger.forget(id);
  flushCompileCache();
  return undefined;
});

rmSync(address, { force: true });
const server = createServer((socket) => serve(socket)).listen(address);
server.on("error", (error) => problem(`${address}: ${error.message}`));
serve(new Socket({ fd: 3, readable: true, writable: true }));
setInterval(lookAfterThem, lookMs).unref();

/** The latest is the daemon: the data directory has one at a time. */
function serve(socket: Socket): void {
  client = socket;
  socket.on(
    "data",
    createLineReader((line) => void handle(socket, JSON.parse(line))),
  );
  socket.on("error", () => {});
  socket.on("close", () => {
    if (client !== socket) return;
    client = null;
    void left();
  });
}

/** The daemon has died, or has gone: what was not told what to do never will be. */
async function left(): Promise<void> {
  await Promise.all(pending);
  if (client !== null) return;
  for (const [id, { begunMs }] of keepings) if (begunMs === null) launcher.signal(id, "SIGKILL");
  await leaveUnneeded();
}

async function handle(socket: Socket, request: KeptRequest): Promise<void> {
  const done = Promise.withResolvers<void>();
  const before = [...pending];
  pending.add(done.promise);
  try {
    await reclaimed;
    if (leaving) throw new Error("the supervisor is leaving");
    if (request.op === "hello") await Promise.all(before);
    const value = await perform(request);
    if ("n" in request) send(socket, { n: request.n, ok: true, ...(value === undefined ? {} : { value }) });
  } catch (error) {
    const words = error instanceof Error ? error.message : String(error);
    if ("n" in request) send(socket, { n: request.n, ok: false, words });
  } finally {
    pending.delete(done.promise);
    done.resolve();
  }
}

async function perform(request: KeptRequest): Promise<unknown> {
  switch (request.op) {
    case "hello":
      return hello();
    case "launch":
      return launch(request.spec);
    case "begun": {
      const keeping = keepings.get(request.id);
      // One that has ended already tells that by its end.
      if (keeping) keeping.begunMs = Date.now();
      return undefined;
    }
    case "forget":
      return folders.forget(request.name);
    case "signal":
      return launcher.signal(request.id, request.signal);
    case "make":
      return launcher.make(request.owner, request.things, request.undo);
    case "unmake":
      return launcher.unmake(request.owner);
    default:
      leaving = true;
      await launcher.killAll();
      letGo();
      server.close();
      setImmediate(() => process.exit(0));
      return undefined;
  }
}

function hello(): Hello {
  const running = [...keepings].map(([id, { kept, begunMs }]) => ({ id, name: kept.name, begunMs }));
  return { runDir, running };
}

async function launch(spec: LaunchSpec): Promise<void> {
  const { kept } = spec;
  if (kept === undefined) throw new Error("what is not kept is the spawner's to launch");
  let keeping: Keeping | null = null;
  const { id } = spec;
  const keep = (): void => {
    keeping = new Keeping(folders, kept, spec.output, id, () => {
      if (kept.killedAtBound === true) launcher.signal(id, "SIGKILL");
    });
    keepings.set(id, keeping);
    keeping.expiry = setTimeout(() => expire(id, kept), kept.endsMs).unref();
  };
  try {
    await launcher.launch(spec, keep);
  } catch (error) {
    if (keeping !== null) discard(id, keeping);
    throw error;
  }
}

/** It was not launched after all. */
function discard(id: string, keeping: Keeping): void {
  keepings.delete(id);
  clearTimeout(keeping.expiry);
  keeping.drop();
}

/** A daemon that is there ends it by itself, and knows better when. */
function expire(id: string, kept: Kept): void {
  const keeping = keepings.get(id);
  if (!keeping) return;
  if (client !== null) {
    keeping.expiry = setTimeout(() => expire(id, kept), lookMs).unref();
    return;
  }
  keeping.expired = true;
  launcher.signal(id, "SIGTERM");
  keeping.expiry = setTimeout(() => launcher.signal(id, "SIGKILL"), kept.graceMs);
}

/** Its data directory is gone, and so is whoever might ask for it. */
function lookAfterThem(): void {
  if (client !== null) return;
  for (const [id, { folder }] of keepings) if (!existsSync(folder)) launcher.signal(id, "SIGKILL");
}

function notHere(): Promise<never> {
  return Promise.reject(new Error("steps of builds are the spawner's"));
}

async function over(id: string, how: ProcessExit): Promise<void> {
  try {
    // A daemon that is there has it in its store in a moment, durably; one that dies before that leaves the file all the same.
    await keepings.get(id)?.end(how, client === null);
  } catch (error) {
    problem(`the end of ${id} cannot be kept: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function ended(id: string, how: ProcessExit): void {
  // Thousands that end before their time would be held until then.
  clearTimeout(keepings.get(id)?.expiry);
  keepings.delete(id);
  if (client !== null) send(client, { exit: id, how });
  else void leaveUnneeded();
}

function send(socket: Socket, reply: Reply): void {
  if (!socket.destroyed) socket.write(`${JSON.stringify(reply)}\n`);
}

function problem(words: string): void {
  if (client !== null) send(client, { problem: words });
}

/** Nothing is kept here any more: whoever sees the channel's end, which comes before the process's, takes the run directory for nobody's. */
function letGo(): void {
  rmSync(join(runDir, "supervisor"), { force: true });
}

/** Nobody is there, and nothing runs: all that the dead daemon has left goes. */
async function leaveUnneeded(): Promise<void> {
  await Promise.all(pending);
  if (client !== null || leaving || launcher.ids.length > 0) return;
  leaving = true;
  server.close();
  const owner = readOwner(join(runDir, "owner"));
  // Its daemon lives, and has let go of this process.
  if (owner !== null && isAlive(owner)) {
    letGo();
    process.exit(0);
  }
  await letItsSpawnerFinish(runDir);
  leaveCgroups(findKeptCgroups(runDir));
  await undoClaimed(runDir, system);
  process.exit(0);
}
