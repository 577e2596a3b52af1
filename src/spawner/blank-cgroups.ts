// Cgroups in which nothing is limited or counted stay for the next sandbox of the same name: on a machine with cgroups of version 1 they are
// most of those that a start makes and an end removes, a millisecond of both.

import { rmdirSync } from "node:fs";
import type { Undo } from "./door.ts";
import type { LedgerEntry } from "./ledger.ts";

/** Nobody has come who wants them. */
const afterMs = 1_000;

export class BlankCgroups {
  readonly #left = new Set<string>();
  #soon = false;

  /** The same step without the folders that stay. */
  leave(step: Undo): Undo {
    if (step.kind !== "cgroup" || step.blank === undefined || step.blank.length === 0) return step;
    const blank = new Set(step.blank);
    for (const path of blank) this.#left.add(path);
    return { kind: "cgroup", paths: step.paths.filter((path) => !blank.has(path)) };
  }

  removeSoon(launches: () => readonly LedgerEntry[]): void {
    if (this.#soon) return;
    this.#soon = true;
    setTimeout(() => {
      this.#soon = false;
      this.remove(launches());
    }, afterMs).unref();
  }

  /** All but what a launch that is under way has, or may. In this very moment: none of them begins in between. */
  remove(launches: readonly LedgerEntry[]): void {
    const used = new Set(
      launches.flatMap(({ undo }) => undo.flatMap((step) => (step.kind === "cgroup" ? step.paths : []))),
    );
    for (const path of this.#left) {
      if (used.has(path)) continue;
      this.#left.delete(path);
      try {
        rmdirSync(path);
      } catch {
        // What somebody has left in it goes with the cgroup of all.
      }
    }
  }
}
