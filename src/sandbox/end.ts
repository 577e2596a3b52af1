// How a sandbox ended, in the words of its author's log: pure.

import type { ProcessExit } from "#spawner/door.ts";
import type { Exit } from "./door.ts";

export interface Ending {
  readonly how: ProcessExit;
  /** The strongest that ebb itself sent. */
  readonly sent: "SIGTERM" | "SIGKILL" | null;
  readonly memoryMb: number;
  /** null: its driver does not know. */
  readonly memory: { readonly peakBytes: number | null; readonly killed: boolean } | null;
  /** Class gvisor, and another process or thread than these was refused to it; left out or null: none was. */
  readonly crowdOf?: number | null;
}

const MiB = 1024 * 1024;
const sigkill = 9;
/** Of a program of Go's that cannot go on: gVisor's kernel is one. */
const goFatal = 2;
const signals: Readonly<Record<number, string>> = {
  1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL",
  11: "SIGSEGV", 13: "SIGPIPE", 15: "SIGTERM", 24: "SIGXCPU", 25: "SIGXFSZ", 31: "SIGSYS",
}; // prettier-ignore

export function exitOf({ how, sent, memoryMb, memory, crowdOf = null }: Ending): Exit {
  if (how.lost) return { reason: "lost", code: null, message: "ebb lost it: its spawner died." };
  // An engine tells its program's signal as 128 + number (POSIX shells do); a bare process by name.
  const signal = how.signal ?? (how.code !== null && how.code > 128 ? (signals[how.code - 128] ?? null) : null);
  const code = how.code;
  const killed = signal === "SIGKILL" || code === 128 + sigkill;
  if (killed && memory?.killed && sent !== "SIGKILL")
    return { reason: "memory", code, message: outOfMemory(memoryMb, memory.peakBytes) };
  if (sent === "SIGKILL" && killed) return { reason: "killed", code, message: "ebb killed it." };
  if (sent !== null) return { reason: "stopped", code, message: "ebb stopped it." };
  if (signal !== null) return { reason: "exited", code, message: `It was ended by ${signal}.` };
  if (crowdOf !== null && code === goFatal) return { reason: "exited", code, message: crowded(crowdOf) };
  return { reason: "exited", code, message: `It exited with code ${code ?? "unknown"}.` };
}

function crowded(most: number): string {
  return `gVisor's kernel ended: it needed more than the ${most} processes and threads that a sandbox may have, its own with its program's.`;
}

export function outOfMemory(memoryMb: number, peakBytes: number | null): string {
  const peakMb = peakBytes === null ? memoryMb : Math.ceil(peakBytes / MiB);
  return `out of memory: ${memoryMb} MiB, peak ${Math.min(peakMb, memoryMb)}; raise memoryMb.`;
}
