// Who owns a thing of this machine: a process by its id and its start time, so that a reused id is nobody's heir.

import { readFileSync, readdirSync } from "node:fs";

export interface Owner {
  readonly pid: number;
  /** Clock ticks since boot at which it started: field 22 of /proc/PID/stat (proc(5)). */
  readonly startTicks: string;
}

interface Stat {
  readonly state: string;
  readonly parent: number;
  readonly startTicks: string;
}

/** null: there is no such process. */
export function statOf(pid: number): Stat | null {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return null;
  }
  // The command may hold blanks and brackets: fields count from behind its last one.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const [state, parent] = fields;
  const startTicks = fields[19];
  if (state === undefined || parent === undefined || startTicks === undefined) return null;
  return { state, parent: Number(parent), startTicks };
}

/** Of all its threads. */
export function childrenOf(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
      readFileSync(`/proc/${pid}/task/${thread}/children`, "latin1").split(" ").filter(Boolean).map(Number),
    );
  } catch {
    return [];
  }
}

/** Its number in the process namespace next below this one; null: it is in none, or in a deeper one. */
export function numberInside(pid: number): number | null {
  try {
    const numbers = /^NSpid:\t(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1]?.split("\t") ?? [];
    return numbers.length === 2 ? Number(numbers[1]) : null;
  } catch {
    return null;
  }
}

export function ownerOf(pid: number): Owner | null {
  const stat = statOf(pid);
  return stat && { pid, startTicks: stat.startTicks };
}

export function isAlive(owner: Owner): boolean {
  const stat = statOf(owner.pid);
  return stat !== null && stat.startTicks === owner.startTicks && stat.state !== "Z" && stat.state !== "X";
}

export function formatOwner(owner: Owner): string {
  return `${owner.pid} ${owner.startTicks}\n`;
}

/** null: not an owner's words (a file torn by a crash counts as nobody's). */
export function parseOwner(text: string): Owner | null {
  const match = /^([1-9][0-9]{0,9}) ([0-9]{1,20})\n$/.exec(text);
  return match && { pid: Number(match[1]), startTicks: match[2]! };
}

export function readOwner(path: string): Owner | null {
  try {
    return parseOwner(readFileSync(path, "latin1"));
  } catch {
    return null;
  }
}

/** Sends a signal if the process is still the one that was meant. */
export function signalOwner(owner: Owner, signal: NodeJS.Signals): void {
  if (!isAlive(owner)) return;
  try {
    process.kill(owner.pid, signal);
  } catch {
    // It ended between the two calls.
  }
}
