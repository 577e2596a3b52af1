// What images leave of the disk to everything else, its bytes and its inodes, and who looks that they do.

import { statfs } from "node:fs/promises";
import type { Cancel, Clock } from "#model/clock.ts";
import { imageLimits } from "#model/limits.ts";
import { storageFull } from "./failures.ts";
import type { Run } from "./reader.ts";

const lookEveryMs = 250;

export type HasRoom = typeof hasRoom;

/** Whether so much may still be written: a share of the disk is left to everything else. */
export async function hasRoom(folder: string, bytes: number): Promise<boolean> {
  const found = await statfs(folder).catch(() => null);
  // It has gone with its fetch meanwhile, or whoever writes there will hear it.
  if (found === null) return true;
  const { bavail, bsize, blocks, files, ffree } = found;
  const kept = Math.max(imageLimits.diskKeptBytes, blocks * bsize * imageLimits.diskKeptShare);
  // Some file systems make inodes as they need them, and tell none.
  return bavail * bsize - bytes > kept && (files === 0 || ffree > files * imageLimits.diskKeptShare);
}

/** Ends what fills the disk: what buildah writes has no other bound, and what a layer unpacks to may be a thousand times its size. */
export class RoomGuard {
  readonly #controller = new AbortController();
  readonly signal = this.#controller.signal;
  readonly #run: Run;
  readonly #clock: Clock;
  readonly #room: HasRoom;
  readonly #stop = (): void => this.#controller.abort(this.#run.signal.reason);
  #cancel: Cancel;
  #over = false;

  constructor(run: Run, clock: Clock, room: HasRoom) {
    this.#run = run;
    this.#room = room;
    this.#clock = clock;
    if (run.signal.aborted) this.#stop();
    run.signal.addEventListener("abort", this.#stop);
    // At once: what is done within a quarter of a second may be what the disk has no room for.
    this.#cancel = this.#later(0);
  }

  end(): void {
    this.#over = true;
    this.#cancel();
    this.#run.signal.removeEventListener("abort", this.#stop);
  }

  #later(afterMs = lookEveryMs): Cancel {
    return this.#clock.after(afterMs, () => void this.#look());
  }

  async #look(): Promise<void> {
    const room = await this.#room(this.#run.staging.folder, 0);
    if (this.#over) return;
    if (room) this.#cancel = this.#later();
    else this.#controller.abort(storageFull());
  }
}
