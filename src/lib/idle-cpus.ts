// How much of the machine's CPU nobody has used lately, by the kernel's count.

import { closeSync, openSync, readSync } from "node:fs";

/** Ticks of all CPUs since the machine's start. */
interface Ticks {
  readonly idle: number;
  readonly all: number;
}

/**
 * A reader of how many CPUs were idle on average since it was asked last (the first time: since the machine's start). Infinity where
 * it cannot be told: no Linux, or less than a tick has passed. Reads /proc/stat (proc(5)), some 30 us on a machine of few CPUs.
 */
export function createIdleCpus(cpus: number, read: () => string | null = readFirstLine): () => number {
  let before: Ticks = { idle: 0, all: 0 };
  return () => {
    const now = parse(read());
    if (now === null) return Infinity;
    const all = now.all - before.all;
    const idle = now.idle - before.idle;
    before = now;
    return all > 0 ? (idle / all) * cpus : Infinity;
  };
}

/** "cpu user nice system idle iowait …": who waits for the disk alone leaves the CPU to others. */
function parse(line: string | null): Ticks | null {
  const fields = line
    ?.match(/^cpu +(.*)$/m)?.[1]
    ?.trim()
    .split(/ +/)
    .map(Number);
  if (fields === undefined || fields.length < 5 || !fields.every(Number.isSafeInteger)) return null;
  // Of the first eight: a guest's time is in its user's.
  return { idle: fields[3]! + fields[4]!, all: fields.slice(0, 8).reduce((sum, ticks) => sum + ticks, 0) };
}

const firstLineBytes = 512;

function readFirstLine(): string | null {
  let fd: number;
  try {
    fd = openSync("/proc/stat", "r");
  } catch {
    return null;
  }
  try {
    const text = Buffer.alloc(firstLineBytes);
    return text.toString("latin1", 0, readSync(fd, text, 0, firstLineBytes, 0)).split("\n")[0] ?? null;
  } finally {
    closeSync(fd);
  }
}
