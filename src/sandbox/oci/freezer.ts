// Holds one sandbox's processes still, and lets them go on: one write each to a file of its cgroup, which is opened once.

import { closeSync, openSync, write, writeSync } from "node:fs";
import type { Cgroups } from "./cgroups.ts";

export class Freezer {
  readonly #cgroups: Pick<Cgroups, "version" | "freeze">;
  readonly #name: string;
  #fd: number | null = null;
  /** The last write that is on its way; version 2 only. */
  #last: Promise<void> = Promise.resolve();

  constructor(cgroups: Pick<Cgroups, "version" | "freeze">, name: string) {
    this.#cgroups = cgroups;
    this.#name = name;
  }

  /**
   * Version 1: written when this returns. That takes a fifth of a millisecond, of which most is waking the threads, whatever else goes
   * on; the way through the spawner takes five times as long, and waits for what it is at. Version 2: written by a thread of
   * Node's, in the order of the calls. Its file waits for a lock that is held for 20 ms while an engine enters its cgroup.
   *
   * In both the kernel stops each thread when it comes back from what it does in the kernel, and those that are forked meanwhile:
   * nobody waits for the last. Letting go is done when the write is.
   */
  async set(frozen: boolean): Promise<void> {
    const { path, value } = this.#cgroups.freeze(this.#name, frozen);
    const fd = (this.#fd ??= openSync(path, "r+"));
    if (this.#cgroups.version === 1) return void writeSync(fd, value, 0);
    const before = this.#last;
    const written = before.then(() => writeLater(fd, value));
    this.#last = written.catch(() => {});
    return written;
  }

  /** Resolves when nothing of it is under way. */
  get written(): Promise<void> {
    return this.#last;
  }

  close(): void {
    const fd = this.#fd;
    this.#fd = null;
    if (fd !== null) void this.#last.then(() => closeSync(fd));
  }
}

function writeLater(fd: number, value: string): Promise<void> {
  return new Promise((resolve, reject) => {
    write(fd, value, 0, (error) => (error ? reject(error) : resolve()));
  });
}
