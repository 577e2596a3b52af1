// Programs that listen on $PORT themselves (runtime custom, images). There is no shim; a shell waits inside for its one order.

import { open } from "node:fs/promises";
import { constants } from "node:fs";
import type { Assignment } from "../door.ts";

/** Reads its order from a FIFO on stdin: secrets go through a pipe, never through a file or an argument. */
export const waitingArgs: readonly string[] = ["/bin/sh"];

type Env = Readonly<Record<string, string>>;

/** What the waiting shell is told: become the program. */
export function programOrder(assignment: Assignment, folder: string, imageEnv: Env = {}): string {
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
 * The shell holds the FIFO open, so this waits only when the order is larger than a pipe. `writing` is called before the first byte;
 * a shell that has gone is an error (ENXIO) before that.
 */
export async function writeOrder(fifo: string, order: string, writing: () => void): Promise<void> {
  // Without this look the open itself would wait for a reader, in one of the few threads that do such work.
  await (await open(fifo, constants.O_WRONLY | constants.O_NONBLOCK)).close();
  writing();
  const file = await open(fifo, constants.O_WRONLY);
  try {
    await file.writeFile(order);
  } finally {
    await file.close();
  }
}
