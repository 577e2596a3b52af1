// The program that makes the containers: which one this machine has, and its command line.

import { existsSync, readFileSync } from "node:fs";
import { access, constants } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { EbbError } from "#model/errors.ts";

export interface Engine {
  readonly name: "crun" | "runc";
  readonly path: string;
}

const folders = ["/usr/bin", "/usr/local/bin", "/usr/sbin", "/usr/local/sbin", "/bin"];
const names = ["crun", "runc"] as const;

/** In order of preference; crun starts in a third of the time. */
export async function enginesHere(wanted: readonly Engine["name"][] = names): Promise<Engine[]> {
  const found: Engine[] = [];
  for (const name of wanted) {
    for (const folder of folders) {
      const path = join(folder, name);
      const executable = await access(path, constants.X_OK).then(
        () => true,
        () => false,
      );
      if (!executable) continue;
      found.push({ name, path });
      break;
    }
  }
  return found;
}

export interface RunOptions {
  readonly id: string;
  /** Where engines keep their state: ours, so that whoever comes after us can remove it. */
  readonly stateDir: string;
  readonly bundle: string;
  readonly pidFile: string;
  readonly logFile: string;
  /** File descriptors from 3 on that are passed in. */
  readonly preservedFds: number;
}

/** In the foreground: its end is the container's, with its exit code (128 + n for a signal). */
export function engineArgv(engine: Engine, options: RunOptions): string[] {
  return [
    engine.path,
    "--root",
    options.stateDir,
    "--log",
    options.logFile,
    "--log-format",
    "json",
    ...(engine.name === "crun" ? ["--cgroup-manager", "cgroupfs"] : []),
    "run",
    "--bundle",
    options.bundle,
    "--pid-file",
    options.pidFile,
    `--preserve-fds=${options.preservedFds}`,
    options.id,
  ];
}

/** How often one that is waited for is looked at, and one that nobody waits for. */
export const settledPauseMs = { waitedFor: 1, ahead: 20 } as const;
const longestPauseMs = 4;

/** Engines whose order lies ready for the program that they become, and whose time is counted from when that is seen. */
export class Ordered {
  #count = 0;

  /**
   * `look`: for it, so often. One or two are seen within the millisecond; many do not have the processors look for them instead of
   * starting them.
   */
  async settle(look: (pauseMs: number) => Promise<void>): Promise<void> {
    this.#count++;
    try {
      await look(Math.min(longestPauseMs, Math.max(settledPauseMs.waitedFor, this.#count - 1)));
    } finally {
      this.#count--;
    }
  }
}

/** The name of a process until it becomes the program. A program may have an engine's very name; no other is taken for it. */
export function isEngineName(name: string): boolean {
  return /^(crun|runc(:\[.*)?)$/.test(name);
}

/** Asked after each look: true where nobody waits any more. */
export type GivesUp = () => boolean;

/**
 * Resolves when the engine has finished and its process has become the program, with false where it was given up. An engine tells
 * nobody, so this looks, at a sandbox that was started without code.
 */
export async function becameProgram(pidFile: string, pauseMs: number, givesUp: GivesUp): Promise<boolean> {
  let pid: string | null = null;
  for (;;) {
    // Whoever asks has just started it.
    await sleep(pauseMs);
    if (givesUp()) return false;
    pid ??= readPid(pidFile);
    const name = pid === null ? "" : readSmall(`/proc/${pid}/comm`).trim();
    if (name !== "" && !isEngineName(name)) return true;
  }
}

/** Where the engine stays itself (runsc): resolves when it has made the sandbox, whose mounts stand by then. */
export async function engineMade(pidFile: string, pauseMs: number, givesUp: GivesUp): Promise<boolean> {
  for (; readPid(pidFile) === null; await sleep(pauseMs)) if (givesUp()) return false;
  return true;
}

function readPid(pidFile: string): string | null {
  const pid = readSmall(pidFile);
  return /^[0-9]+\s*$/.test(pid) ? pid.trim() : null;
}

/** A few bytes that are in memory: to ask a pool of threads for them takes twenty times as long. "": there is no such file. */
function readSmall(path: string): string {
  try {
    return existsSync(path) ? readFileSync(path, "latin1") : "";
  } catch {
    return "";
  }
}

/** The engine's own error in its log; null: it had none. Nothing inside can write there. */
export function engineError(log: string | undefined): string | null {
  let words: string | null = null;
  // runsc ends no line.
  for (const line of (log ?? "").replaceAll("}{", "}\n{").split("\n")) {
    if (line === "") continue;
    try {
      const { msg, level }: { msg?: unknown; level?: unknown } = JSON.parse(line);
      if (typeof msg === "string" && level !== "debug" && level !== "info" && level !== "warning") words = msg;
    } catch {
      words ??= line.slice(0, 512);
    }
  }
  return words;
}

export function noEngine(tried: readonly string[]): EbbError {
  return new EbbError(
    "internal",
    tried.length === 0
      ? "There is no OCI engine on this machine: install crun (apt-get install crun), or start ebb with --isolation none."
      : `No OCI engine of this machine can isolate a sandbox (${tried.map((one) => one.replace(/\.$/, "")).join("; ")}). ./ebb doctor says what to mend; ./ebb up --isolation none serves for development.`,
  );
}
