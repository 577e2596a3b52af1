// The host's side of things: commands through the spawner with clear errors, and what the kernel says about routes and routing.

import { readFile } from "node:fs/promises";
import { EbbError } from "#model/errors.ts";
import { linkLimits } from "#model/limits.ts";
import type { ExecResult, Spawner } from "#spawner/door.ts";

/** All that the network does to the machine goes through these. */
export type Effects = Pick<Spawner, "exec" | "network" | "nft" | "owe" | "unpin" | "untouched">;

export interface CommandOptions {
  /** What it was for: begins the sentence of the error. */
  readonly purpose: string;
  readonly stdin?: string;
}

/** Runs a command; anything but success is an EbbError with the purpose and the command's own words. */
export async function runCommand(
  spawner: Effects,
  argv: readonly string[],
  options: CommandOptions,
): Promise<ExecResult> {
  const { purpose, stdin } = options;
  const result = await spawner
    .exec(argv, { timeoutMs: linkLimits.commandMs, ...(stdin === undefined ? {} : { stdin }) })
    .catch((cause: unknown) => {
      throw new EbbError("internal", `${purpose}: ${argv[0]} cannot be run (${messageOf(cause)})`, { cause });
    });
  if (result.code !== 0) {
    const words = (result.stderr.trim() || result.stdout.trim() || `exit code ${result.code}`).slice(0, 2_000);
    throw new EbbError("internal", `${purpose}: ${words}`);
  }
  return result;
}

/** A script of setup.ts: its text is constant, what varies are its arguments and its input. */
export function runScript(
  spawner: Effects,
  script: string,
  args: readonly string[],
  options: CommandOptions,
): Promise<ExecResult> {
  return runCommand(spawner, ["/bin/sh", "-c", script, "ebb", ...args], options);
}

export async function routeText(spawner: Effects): Promise<string> {
  const argv = ["ip", "-4", "route", "show", "table", "all"];
  return (await runCommand(spawner, argv, { purpose: "The machine's routes cannot be read" })).stdout;
}

/** Does the kernel route what comes in by this device? Null: there is no such device. "all": the whole machine's switch. */
export async function isForwarding(device: string): Promise<boolean | null> {
  const text = await readProc(`/proc/sys/net/ipv4/conf/${device}/forwarding`);
  return text === null ? null : text.trim() === "1";
}

/** Null: it cannot be read. */
export function readProc(path: string): Promise<string | null> {
  return readFile(path, "latin1").catch(() => null);
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
