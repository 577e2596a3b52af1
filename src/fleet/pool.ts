// Sandboxes that are started ahead, without code, so that a cold start takes one. How many of each kind is pool-size.ts.

import type { Cancel, Clock } from "#model/clock.ts";
import type { Tell } from "#model/fact.ts";
import { newErrorId, type InvocationId, type SandboxId } from "#model/ids.ts";
import { poolLimits } from "#model/limits.ts";
import type { Exit, PoolKey, SandboxDriver, SandboxListener } from "#sandbox/door.ts";
import { steadyMs } from "./decide.ts";
import { decidePool, demandAfterStart, noDemand, type Demand } from "./pool-size.ts";
import { stopSandbox } from "./stop-sandbox.ts";

export interface PoolOptions {
  readonly driver: Pick<SandboxDriver, "prepare" | "stopSandbox">;
  readonly clock: Clock;
  readonly tell: Tell;
  /** What all pooled sandboxes may count for together; 0: no pool. */
  readonly budgetBytes: number;
  /** Nobody waits for a start of his own: the pool may make one. */
  readonly quiet: () => boolean;
  /** How many CPUs nobody has used since it was asked last. */
  readonly idleCpus: () => number;
}

export interface PoolState {
  readonly sandboxes: number;
  readonly memoryBytes: number;
}

/** One sandbox of the pool. From its taking on the taker hears what it tells. */
class Pooled implements SandboxListener {
  readonly shelf: Shelf;
  sandbox: SandboxId | null = null;
  taker: SandboxListener | null = null;
  madeUs = 0;
  gone = false;
  readonly #left: (pooled: Pooled) => void;

  constructor(shelf: Shelf, left: (pooled: Pooled) => void) {
    this.shelf = shelf;
    this.#left = left;
  }

  done(invocation: InvocationId): void {
    this.taker?.done(invocation);
  }

  exited(exit: Exit): void {
    this.gone = true;
    if (this.taker === null) this.#left(this);
    else this.taker.exited(exit);
  }
}

interface Shelf {
  readonly key: PoolKey;
  demand: Demand;
  /** Oldest first; what has been ready longest is taken first. */
  readonly sandboxes: Pooled[];
}

export class Pool {
  readonly #options: PoolOptions;
  readonly #shelves = new Map<string, Shelf>();
  readonly #ending = new Set<Promise<void>>();
  /** The next is made after it. */
  #pause: Cancel | null = null;
  #making: Promise<void> | null = null;
  /** In a row: it could not be made, or ended soon. */
  #failures = 0;
  /** Since when what is wanted has not been made, for want of CPU. */
  #heldUs: number | null = null;
  #look: Cancel | null = null;
  #soon: Cancel | null = null;
  #state: "new" | "running" | "stopped" = "new";

  constructor(options: PoolOptions) {
    this.#options = options;
  }

  state(): PoolState {
    let sandboxes = 0;
    for (const shelf of this.#shelves.values()) sandboxes += shelf.sandboxes.length;
    return { sandboxes, memoryBytes: sandboxes * poolLimits.sandboxBytes };
  }

  /** The driver is ready: makes what is wanted so far. */
  start(): void {
    this.#state = "running";
    this.settle();
  }

  /** A revision that would start such sandboxes has come to serve, or (-1) serves no longer. */
  expect(key: PoolKey, change: 1 | -1): void {
    const shelf = this.#shelf(key);
    shelf.demand = { ...shelf.demand, revisions: Math.max(0, shelf.demand.revisions + change) };
    // A start of ebb brings every revision there is.
    this.#settleAfter(0);
  }

  /**
   * For a start that has come. Null: none is ready; or there is one, and it is kept for who runs nothing yet, which `first` does not.
   * From here on the listener hears what it tells.
   */
  take(key: PoolKey, listener: SandboxListener, first: boolean): SandboxId | null {
    const shelf = this.#shelf(key);
    shelf.demand = demandAfterStart(shelf.demand, this.#options.clock.monotonicUs());
    // There are starts again: what went wrong may be over.
    this.#failures = 0;
    if (!first && shelf.sandboxes.length === 1 && shelf.demand.revisions > 1) return null;
    const pooled = shelf.sandboxes.shift();
    if (pooled === undefined) return null;
    pooled.taker = listener;
    return pooled.sandbox;
  }

  /** A start is over, say: its first call has just been handed over, and what nobody waits for comes behind it. */
  settleSoon(): void {
    if (this.#options.budgetBytes > 0) this.#settleAfter(poolLimits.settleAfterMs);
  }

  #settleAfter(ms: number): void {
    if (this.#state === "running") this.#soon ??= this.#options.clock.after(ms, () => this.settle());
  }

  /** Lets go of what is too much, and soon makes what lacks. */
  settle(): void {
    if (this.#state === "running" && this.#trim() !== null) this.#makeSoon();
  }

  /** Lets go of what is too much. Of the kinds that lack some, the one that has the fewest; null: nothing lacks. */
  #trim(): Shelf | null {
    this.#soon?.();
    this.#soon = null;
    const shelves = [...this.#shelves.values()];
    const kinds = shelves.map(({ demand, sandboxes }) => ({ demand, ready: sandboxes.length }));
    const { wanted, decideAgainAtUs } = decidePool(kinds, this.#options.budgetBytes, this.#options.clock.monotonicUs());
    let lacking: Shelf | null = null;
    for (const [i, shelf] of shelves.entries()) {
      const { sandboxes, demand, key } = shelf;
      while (sandboxes.length > wanted[i]!) this.#letGo(sandboxes.pop()!);
      if (demand.revisions === 0 && sandboxes.length === 0) this.#shelves.delete(textOf(key));
      const fewest = lacking?.sandboxes.length ?? Infinity;
      if (sandboxes.length < wanted[i]! && sandboxes.length < fewest) lacking = shelf;
    }
    this.#look?.();
    this.#look = null;
    if (decideAgainAtUs !== null) this.#lookAt(decideAgainAtUs);
    return lacking;
  }

  async stop(): Promise<void> {
    this.#state = "stopped";
    this.#soon?.();
    this.#look?.();
    this.#pause?.();
    await this.#making;
    for (const { sandboxes } of this.#shelves.values()) for (const pooled of sandboxes.splice(0)) this.#letGo(pooled);
    await Promise.all(this.#ending);
  }

  #shelf(key: PoolKey): Shelf {
    const text = textOf(key);
    let shelf = this.#shelves.get(text);
    if (shelf === undefined) {
      shelf = { key, demand: noDemand, sandboxes: [] };
      this.#shelves.set(text, shelf);
    }
    return shelf;
  }

  #lookAt(atUs: number): void {
    const inMs = Math.max(0, Math.ceil((atUs - this.#options.clock.monotonicUs()) / 1_000));
    this.#look = this.#options.clock.after(inMs, () => {
      this.#look = null;
      this.settle();
    });
  }

  /** Not at once: whoever has just been started has a request to answer. One at a time. */
  #makeSoon(): void {
    if (this.#pause !== null) return;
    const pauseMs = Math.min(poolLimits.paceMs * 2 ** this.#failures, poolLimits.pauseMaxMs);
    // What is idle is asked from here on.
    this.#options.idleCpus();
    this.#pause = this.#options.clock.after(pauseMs, () => {
      this.#pause = null;
      const lacking = this.#trim();
      // Where somebody waits for a start, its end settles this.
      if (lacking === null || this.#making !== null || !this.#options.quiet()) return;
      if (this.#isHeld(lacking)) return this.#makeSoon();
      this.#making = this.#prepare(lacking).finally(() => {
        this.#making = null;
        this.settle();
      });
    });
  }

  /**
   * The first of a kind is made with whatever the lowest weight gets. More than one is for a crowd: where there is one, or whatever else
   * uses all CPUs, it would only slow that down (a neighbour on the same core does, whatever its weight). Not for ever.
   */
  #isHeld(shelf: Shelf): boolean {
    const { clock, idleCpus } = this.#options;
    const nowUs = clock.monotonicUs();
    if (shelf.sandboxes.length >= poolLimits.fewest && idleCpus() < poolLimits.idleCpus) {
      this.#heldUs ??= nowUs;
      if (nowUs - this.#heldUs < poolLimits.heldMaxMs * 1_000) return true;
    }
    this.#heldUs = null;
    return false;
  }

  async #prepare(shelf: Shelf): Promise<void> {
    const { driver, tell, clock } = this.#options;
    const pooled = new Pooled(shelf, (left) => this.#left(left));
    try {
      pooled.sandbox = await driver.prepare(shelf.key, pooled);
    } catch (error) {
      this.#failures++;
      tell({ kind: "defect", errorId: newErrorId(), where: "fleet.pool", error });
      return;
    }
    if (pooled.gone) {
      this.#failures++;
      return;
    }
    pooled.madeUs = clock.monotonicUs();
    // Its kind may have gone, or ebb may be stopping, while it was made.
    if (this.#state !== "running" || this.#shelves.get(textOf(shelf.key)) !== shelf) this.#letGo(pooled);
    else shelf.sandboxes.push(pooled);
  }

  /** It ended by itself before anybody took it: another is made in its place, in its time. */
  #left(pooled: Pooled): void {
    const { sandboxes } = pooled.shelf;
    const at = sandboxes.indexOf(pooled);
    if (at < 0) return;
    sandboxes.splice(at, 1);
    const livedMs = (this.#options.clock.monotonicUs() - pooled.madeUs) / 1_000;
    this.#failures = livedMs < steadyMs ? this.#failures + 1 : 0;
    this.settle();
  }

  #letGo(pooled: Pooled): void {
    const stopped = stopSandbox(this.#options, pooled.sandbox!, 0, "fleet.pool");
    const ending = stopped.finally(() => this.#ending.delete(ending));
    this.#ending.add(ending);
  }
}

function textOf(key: PoolKey): string {
  const { memoryMb, tmpBytes, egress, isolation = "" } = key;
  const root = "image" in key ? key.image : key.runtime;
  return `${root} ${isolation} ${memoryMb} ${tmpBytes} ${JSON.stringify(egress)}`;
}
