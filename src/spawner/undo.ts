// Undoing: each step is harmless when there is nothing to undo, and is tried again until it holds or its time is up.

import { execFile } from "node:child_process";
import { existsSync, readFileSync, readdirSync, rmdirSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { readdir, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { errnoOf } from "#lib/errno.ts";
import type { Undo } from "./door.ts";
import { mountsBelow, type Syscalls } from "./syscalls.ts";

const cgroupMs = 5_000;
const commandMs = 10_000;
/** Mounts can be stacked on one point; more of them than this is a defect. */
const stackedMounts = 16;

const commandEnv = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C" };

/** Removes an empty folder, or rejects. */
export type RemoveFolder = (path: string) => void | Promise<void>;

/**
 * Undoes in order. One step that fails does not keep the others; the words of what failed are returned. A cgroup's folder may be waited
 * for: in a thread, unless `removeCgroup` does it in this one.
 */
export async function undoAll(
  steps: readonly Undo[],
  system: Syscalls,
  removeCgroup: RemoveFolder = rmdir,
): Promise<string[]> {
  const failed: string[] = [];
  for (const step of steps) {
    try {
      await undoOne(step, system, removeCgroup);
    } catch (error) {
      failed.push(`${step.kind}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return failed;
}

async function undoOne(step: Undo, system: Syscalls, removeCgroup: RemoveFolder): Promise<void> {
  switch (step.kind) {
    case "unmount":
      unmountAll(step.path, system);
      return;
    case "remove":
      removeTree(step.path, system);
      return;
    case "cgroup":
      await removeCgroups(step.paths, removeCgroup);
      return;
    case "command":
      await runCommand(step.argv);
  }
}

function unmountAll(path: string, system: Syscalls): void {
  for (let i = 0; i < stackedMounts; i++) if (!system.unmount(path)) return;
}

/** Never deletes through a mount: what is mounted below (tenants' code!) is taken off first, or nothing is removed. */
export function removeTree(path: string, system: Syscalls): void {
  try {
    removeUnmounted(path, system);
    return;
  } catch (error) {
    if (errnoOf(error) === "ENOENT" && !existsSync(path)) return;
  }
  // Something else is in the way: a mount on a file, or more than a sandbox's own.
  const mounted = mountsBelow(path);
  for (const point of mounted) system.unmount(point);
  const left = mounted.length > 0 ? mountsBelow(path) : [];
  if (left.length > 0) throw new Error(`${left.join(", ")} is still mounted`);
  rmSync(path, { recursive: true, force: true });
}

/**
 * A sandbox's own are some twenty small files. Each folder is taken off before it is read, which says at once whether anything was
 * mounted there: the table of mounts is a line for each of the machine's.
 */
function removeUnmounted(folder: string, system: Syscalls): void {
  unmountAll(folder, system);
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) removeUnmounted(path, system);
    else unlinkSync(path);
  }
  rmdirSync(folder);
}

/** The same cgroup under several controllers (cgroup v1), or its one folder (v2). */
async function removeCgroups(paths: readonly string[], remove: RemoveFolder): Promise<void> {
  const deadline = Date.now() + cgroupMs;
  for (let waitMs = 1; ; waitMs = Math.min(waitMs * 2, 50)) {
    const left: string[] = [];
    // One after the other: the kernel serialises them, and a spawner's other work goes between.
    for (const path of paths) if (!(await removeCgroupTree(path, remove))) left.push(path);
    // Mostly there was nobody in it any more, which is known when it is gone.
    if (left.length === 0) return;
    for (const path of left) killTree(path);
    if (Date.now() > deadline) throw new Error(`${left.join(", ")} is still in use`);
    await sleep(waitMs);
  }
}

/** What is frozen hears no signal; version 1 of cgroups keeps even SIGKILL from it. To be called after the signal: nothing runs in between. */
export function thaw(steps: readonly Undo[]): void {
  for (const step of steps) if (step.kind === "cgroup") step.paths.forEach(thawOne);
}

function thawOne(path: string): void {
  for (const [file, value] of thawing) if (existsSync(join(path, file))) tryWrite(join(path, file), value);
}

/** Of version 1 and 2. */
const thawing = [
  ["freezer.state", "THAWED"],
  ["cgroup.freeze", "0"],
] as const;

function killTree(path: string): void {
  let children: string[];
  try {
    children = readdirSync(path, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => join(path, entry.name));
  } catch {
    return;
  }
  for (const child of children) killTree(child);
  tryWrite(join(path, "cgroup.kill"), "1"); // v2, Linux 5.14
  for (const pid of readWords(join(path, "cgroup.procs"))) {
    if (Number(pid) === process.pid) continue;
    try {
      process.kill(Number(pid), "SIGKILL");
    } catch {
      // It ended by itself.
    }
  }
  // Also where no process is in it itself: it holds those that are in its children.
  thawOne(path);
}

async function removeCgroupTree(path: string, remove: RemoveFolder): Promise<boolean> {
  try {
    await remove(path);
    return true;
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return true;
  }
  try {
    for (const entry of await readdir(path, { withFileTypes: true }))
      if (entry.isDirectory() && !(await removeCgroupTree(join(path, entry.name), remove))) return false;
    await remove(path);
    return true;
  } catch (error) {
    return errnoOf(error) === "ENOENT";
  }
}

function runCommand(argv: readonly string[]): Promise<void> {
  const options = { timeout: commandMs, killSignal: "SIGKILL", env: commandEnv } as const;
  return new Promise((resolve, reject) => {
    execFile(argv[0]!, argv.slice(1), options, (error, _, words) => {
      if (error) reject(new Error(words.trim() || error.message));
      else resolve();
    });
  });
}

/** Kills every process that carries this mark in its environment; true: there were some. */
export function killMarked(mark: string): boolean {
  let found = false;
  for (const entry of readdirSync("/proc")) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    try {
      if (!`\0${readFileSync(`/proc/${pid}/environ`, "latin1")}`.includes(`\0${mark}`)) continue;
      process.kill(pid, "SIGKILL");
      found = true;
    } catch {
      // It ended, or it is a kernel thread.
    }
  }
  return found;
}

function readWords(path: string): string[] {
  try {
    return readFileSync(path, "latin1").split("\n").filter(Boolean);
  } catch {
    return [];
  }
}

function tryWrite(path: string, value: string): void {
  try {
    writeFileSync(path, value, { flag: "r+" });
  } catch {
    // There is no such file, or nothing to do.
  }
}
