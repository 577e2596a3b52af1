// Brings runs into the store: those that change while one commit is under way go together with the next.

import type { Cancel, Clock } from "#model/clock.ts";
import type { Run, RunId } from "#model/run.ts";
import type { Store } from "#store/door.ts";

const againAfterMs = 1_000;

interface Unsaved {
  run: Run;
  readonly saved: PromiseWithResolvers<void>;
}

export interface SaverOptions {
  readonly store: Pick<Store, "updateRuns">;
  readonly clock: Clock;
  readonly failed: (error: unknown) => void;
}

export class Saver {
  readonly #options: SaverOptions;
  #unsaved = new Map<RunId, Unsaved>();
  #saving: Promise<void> | null = null;
  #again: Cancel | null = null;
  #closed = false;

  constructor(options: SaverOptions) {
    this.#options = options;
  }

  /** Resolves when it has been committed, or a later state of it. While the store cannot take it, it is tried again. */
  save(run: Run): Promise<void> {
    const known = this.#unsaved.get(run.id);
    const unsaved = known ?? { run, saved: Promise.withResolvers<void>() };
    unsaved.run = run;
    this.#unsaved.set(run.id, unsaved);
    if (this.#again === null) this.#saving ??= this.#save();
    return unsaved.saved.promise;
  }

  async #save(): Promise<void> {
    // Those that change in this turn of the loop go together.
    await Promise.resolve();
    while (this.#unsaved.size > 0) {
      const batch = this.#unsaved;
      this.#unsaved = new Map();
      try {
        await this.#options.store.updateRuns([...batch.values()].map(({ run }) => run));
      } catch (error) {
        this.#options.failed(error);
        this.#retry(batch);
        break;
      }
      for (const { saved } of batch.values()) saved.resolve();
    }
    this.#saving = null;
  }

  #retry(batch: ReadonlyMap<RunId, Unsaved>): void {
    for (const [id, older] of batch) {
      const newer = this.#unsaved.get(id);
      if (newer === undefined) this.#unsaved.set(id, older);
      else void newer.saved.promise.then(() => older.saved.resolve());
    }
    if (this.#closed) return;
    this.#again = this.#options.clock.after(againAfterMs, () => {
      this.#again = null;
      this.#saving ??= this.#save();
    });
  }

  /** What is there is committed, if the store takes it now. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#again?.();
    this.#again = null;
    this.#saving ??= this.#save();
    await this.#saving;
  }
}
