// Undoing what dead daemons left on this machine. Living ones are never touched.

import { existsSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { freeNumbersOf, freeStaleNumbers, makerOf, reservedEntries } from "./allocator.ts";
import type { LedgerEntry } from "./ledger.ts";
import { groundOwner, readLedger } from "./ledger.ts";
import { formatOwner, isAlive, type Owner, ownerOf, readOwner, signalOwner } from "./owners.ts";
import type { Syscalls } from "./syscalls.ts";
import { killMarked, removeTree, thaw, undoAll } from "./undo.ts";

/** How long a spawner whose daemon is dead may go on cleaning by itself (it promises 2 s). */
const cleaningMs = 3_000;
/** How often it is looked whether another spawner has finished what it undoes. */
const heldLookMs = 250;
/** Rounds of killing: a process that forks while it is looked for needs a second one. */
const killRounds = 20;

const claimName = "reclaim";

/** In the environment of every launched process; the rest of the value names it. */
export const markName = "EBB_LAUNCH";

export function markOf(runDir: string): string {
  return `${markName}=${markValue(runDir, "")}`;
}

export function markValue(runDir: string, id: string): string {
  return `${basename(runDir)}/${id}`;
}

/** Of what the supervisor launches: the spawner's mark is no part of it, and so its orphans are others. */
export function keptMarkOf(runDir: string): string {
  return `${markName}=${keptMarkValue(runDir, "")}`;
}

export function keptMarkValue(runDir: string, id: string): string {
  return `${basename(runDir)}.kept/${id}`;
}

/** Every run directory of a dead daemon; returns what could not be undone, for the operator. */
export async function reclaimDead(runDir: string, system: Syscalls): Promise<string[]> {
  const boot = dirname(runDir);
  const problems: string[] = [];
  for (const name of readdirSync(boot)) {
    const path = join(boot, name);
    if (path === runDir || reservedEntries.has(name)) continue;
    const maker = makerOf(name);
    const owner = maker ?? readOwner(join(path, "owner"));
    if ((owner && isAlive(owner)) || isSupervised(path)) continue;
    // Whoever made it died in doing so: nothing but files is in it.
    if (maker !== null) {
      rmSync(path, { recursive: true, force: true });
      continue;
    }
    await letItsSpawnerFinish(path);
    if (existsSync(path) && claim(path)) problems.push(...(await undoClaimed(path, system)));
  }
  freeStaleNumbers(boot, null);
  return problems;
}

/** What a living supervisor keeps is no orphan, whoever owned it: it goes with the last of its processes. */
export function isSupervised(runDir: string): boolean {
  const supervisor = readOwner(join(runDir, "supervisor"));
  return supervisor !== null && isAlive(supervisor);
}

export async function undoClaimed(path: string, system: Syscalls): Promise<string[]> {
  // What stands on the ground goes before it.
  const all = readLedger(path);
  const ground = all.filter(({ id }) => id === groundOwner);
  const rest = all.filter(({ id }) => id !== groundOwner);
  const left = [
    ...(await undoLaunches(keptMarkOf(path), readLedger(path, "kept"), system)),
    ...(await undoLaunches(markOf(path), rest, system)),
    ...(await undoLaunches(null, ground, system)),
  ];
  // What is left the next start tries again, for which it needs this ledger: without it nobody ever would.
  const failed = left.length > 0 ? left.map(({ id, words }) => `${id}: ${words}`) : removeRunDir(path, system);
  if (failed.length > 0) rmSync(join(path, claimName), { force: true });
  return failed;
}

/**
 * What other spawners are undoing at this moment; where one dies in the middle of it this one goes on. Nobody waits for it; resolves
 * when there is nothing of that kind.
 */
export async function takeOver(runDir: string, system: Syscalls, problem: (words: string) => void): Promise<void> {
  const boot = dirname(runDir);
  let held = readdirSync(boot)
    .map((name) => join(boot, name))
    .filter((path) => path !== runDir && holderOf(path) !== null);
  while (held.length > 0) {
    await sleep(heldLookMs, undefined, { ref: false });
    const over = new Set(held.filter((path) => holderOf(path) === null));
    held = held.filter((path) => !over.has(path));
    for (const path of over) {
      // Whoever let go of it has said why.
      if (!existsSync(join(path, claimName)) || !claim(path)) continue;
      for (const words of await undoClaimed(path, system)) problem(words);
    }
  }
}

/** Another living process that undoes this; null: nobody does. */
function holderOf(path: string): Owner | null {
  const holder = readOwner(join(path, claimName));
  return holder && holder.pid !== process.pid && isAlive(holder) ? holder : null;
}

export async function letItsSpawnerFinish(path: string): Promise<void> {
  const spawner = readOwner(join(path, "spawner"));
  if (!spawner) return;
  const deadline = Date.now() + cleaningMs;
  while (isAlive(spawner) && existsSync(path) && Date.now() < deadline) await sleep(25);
  signalOwner(spawner, "SIGKILL");
}

/** Two daemons that start together do not undo the same: harmless, but loud. Whoever fails lets go of it. */
function claim(path: string): boolean {
  const file = join(path, claimName);
  if (holderOf(path) !== null) return false;
  try {
    writeFileSync(file, formatOwner(ownerOf(process.pid)!), { mode: 0o600 });
    return true;
  } catch {
    return false;
  }
}

/** What could not be undone. */
interface Left {
  readonly id: string;
  readonly words: string;
}

/** Ends all processes with this mark, then undoes the entries; returns what is left. */
export async function undoLaunches(
  mark: string | null,
  entries: readonly LedgerEntry[],
  system: Syscalls,
): Promise<Left[]> {
  for (let round = 0; mark !== null && round < killRounds && killMarked(mark); round++) {
    for (const { undo } of entries) thaw(undo);
    await sleep(5);
  }
  const undone = entries.map(async ({ id, undo }) => (await undoAll(undo, system)).map((words) => ({ id, words })));
  return (await Promise.all(undone)).flat();
}

export function removeRunDir(runDir: string, system: Syscalls): string[] {
  try {
    removeTree(runDir, system);
    freeNumbersOf(dirname(runDir), basename(runDir));
    return [];
  } catch (error) {
    return [`${runDir}: ${error instanceof Error ? error.message : String(error)}`];
  }
}
