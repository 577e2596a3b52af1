// Programs that listen on $PORT themselves (runtime custom, images). There is no shim; a shell waits inside for its one order.

import { constants, openSync } from "node:fs";
import { Socket } from "node:net";
import { errnoOf } from "#lib/errno.ts";
import type { Assignment } from "../door.ts";

/** Reads its order from a FIFO on stdin: secrets go through a pipe, never through a file or an argument. */
export const waitingArgs: readonly string[] = ["/bin/sh"];

type Env = Readonly<Record<string, string>>;

/** What of an assignment is the program. */
export type Program = Pick<Assignment, "command" | "env" | "probe" | "port">;

/** What the waiting shell is told: become the program. */
export function programOrder(assignment: Program, folder: string, imageEnv: Env = {}): string {
  const env: Record<string, string> = { ...imageEnv, ...assignment.env };
  if (assignment.probe !== null) env["PORT"] = String(assignment.port);
  const lines = [`cd ${quote(folder)} || exit 126`, "unset OLDPWD"];
  for (const [name, value] of Object.entries(env)) {
    // Names are checked at deploy; one that is not a name here is a defect, and must not become shell.
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) throw new RangeError("an environment variable with an impossible name");
    lines.push(`export ${name}=${quote(value)}`);
  }
  lines.push(`exec ${(assignment.command ?? []).map(quote).join(" ")} </dev/null`);
  return `${lines.join("\n")}\n`;
}

/** POSIX sh, 2.2.2: nothing is special between single quotes. */
function quote(text: string): string {
  if (text.includes("\0")) throw new RangeError("a NUL cannot be in an argument or an environment variable");
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/**
 * Waits only where the order is larger than a pipe, and in no thread: an image has its ways to keep the shell from reading.
 * `writing` is called before the first byte; a shell that has gone is an error (ENXIO) before that, and tells by its end after.
 */
export async function writeOrder(fifo: string, order: string, writing: () => void): Promise<void> {
  const fd = openSync(fifo, constants.O_WRONLY | constants.O_NONBLOCK);
  const pipe = new Socket({ fd, readable: false, writable: true });
  try {
    writing();
    await new Promise<void>((resolve, reject) => {
      const over = (error?: Error | null): void => (error && errnoOf(error) !== "EPIPE" ? reject(error) : resolve());
      pipe.on("error", over);
      pipe.write(order, over);
    });
  } finally {
    pipe.destroy();
  }
}
