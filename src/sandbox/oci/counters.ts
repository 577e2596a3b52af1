// What the kernel counts for one sandbox, read from the files of its cgroup while that is there; afterwards the last figures stand.

import { closeSync, openSync, readSync } from "node:fs";
import type { SandboxUsage } from "../door.ts";
import type { Cgroups } from "./cgroups.ts";

const counterBytes = 4_096;

/** Read twice an invocation: the files are opened at their first use, for to open one costs more than to read it. */
export class Counters {
  readonly #cgroups: Cgroups;
  readonly #name: string;
  #files: { readonly cpu: number; readonly peak: number } | null = null;
  #memoryStat: number | null = null;
  #cpuNs: number | null = null;
  #peakBytes: number | null = null;
  #closed = false;

  constructor(cgroups: Cgroups, name: string) {
    this.#cgroups = cgroups;
    this.#name = name;
  }

  usage(): SandboxUsage {
    return new Usage(this, this.cpuNs());
  }

  cpuNs(): number | null {
    try {
      if (!this.#closed) this.#cpuNs = this.#cgroups.cpuNs(readCounter(this.#open().cpu));
    } catch {
      // It is being removed: the last figure stands.
    }
    return this.#cpuNs;
  }

  peakBytes(): number | null {
    try {
      const peakBytes = this.#closed ? Number.NaN : Number(readCounter(this.#open().peak));
      if (Number.isSafeInteger(peakBytes)) this.#peakBytes = peakBytes;
    } catch {
      // As above.
    }
    return this.#peakBytes;
  }

  heldBytes(): number | null {
    if (this.#closed) return null;
    try {
      this.#memoryStat ??= openSync(this.#cgroups.memoryFile(this.#name), "r");
      return this.#cgroups.heldBytes(readCounter(this.#memoryStat));
    } catch {
      // It is being removed.
      return null;
    }
  }

  /** Reads for the last time. */
  close(): void {
    if (this.#memoryStat !== null) closeSync(this.#memoryStat);
    this.#memoryStat = null;
    if (this.#files !== null) {
      this.cpuNs();
      this.peakBytes();
      closeSync(this.#files.cpu);
      closeSync(this.#files.peak);
      this.#files = null;
    }
    this.#closed = true;
  }

  #open(): { readonly cpu: number; readonly peak: number } {
    return (this.#files ??= openCounters(this.#cgroups.cpuFile(this.#name), this.#cgroups.peakFile(this.#name)));
  }
}

/** A call's marks want the CPU alone: the rest is read when it is asked for. */
class Usage implements SandboxUsage {
  readonly #counters: Counters;
  readonly cpuNs: number | null;

  constructor(counters: Counters, cpuNs: number | null) {
    this.#counters = counters;
    this.cpuNs = cpuNs;
  }

  get memoryPeakBytes(): number | null {
    return this.#counters.peakBytes();
  }

  get memoryBytes(): number | null {
    return this.#counters.heldBytes();
  }
}

function openCounters(cpuFile: string, peakFile: string): { cpu: number; peak: number } {
  const cpu = openSync(cpuFile, "r");
  try {
    return { cpu, peak: openSync(peakFile, "r") };
  } catch (error) {
    closeSync(cpu);
    throw error;
  }
}

const counter = Buffer.alloc(counterBytes);

function readCounter(fd: number): string {
  return counter.toString("latin1", 0, readSync(fd, counter, 0, counterBytes, 0));
}
