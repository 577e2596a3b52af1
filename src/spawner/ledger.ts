// What this daemon has made and must undo, on disk before it is made: kill -9 at any point leaves nothing untracked.

import { readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Undo } from "./door.ts";

/** Owner of what lives as long as the daemon. */
export const daemonOwner = "spawner";
/** Owner of what kept processes stand on: it lives as long as the last of them, or the daemon. */
export const groundOwner = "ground";

/** The spawner's, and the supervisor's. */
export type LedgerName = "ledger" | "kept";

export interface LedgerEntry {
  readonly id: string;
  readonly undo: readonly Undo[];
}

export class Ledger {
  readonly #folder: string;
  readonly #entries = new Map<string, Undo[]>();

  /** Reads what an earlier spawner of the same run directory left. */
  constructor(runDir: string, name: LedgerName = "ledger") {
    this.#folder = join(runDir, name);
    for (const entry of readLedger(runDir, name)) this.#entries.set(entry.id, [...entry.undo]);
  }

  /** Of processes that were launched, or were about to be. */
  launches(): LedgerEntry[] {
    return this.entries().filter(({ id }) => id !== daemonOwner && id !== groundOwner);
  }

  entries(): LedgerEntry[] {
    return [...this.#entries].map(([id, undo]) => ({ id, undo }));
  }

  has(id: string): boolean {
    return this.#entries.has(id);
  }

  undoOf(id: string): readonly Undo[] {
    return this.#entries.get(id) ?? [];
  }

  /** The latest is undone first. */
  add(id: string, undo: readonly Undo[]): void {
    const known = this.#entries.get(id);
    const all = [...undo, ...(known ?? [])];
    this.#entries.set(id, all);
    const path = join(this.#folder, `${id}.json`);
    const text = JSON.stringify({ id, undo: all } satisfies LedgerEntry);
    // What a crash tears of a first one was not made yet.
    if (known === undefined) return writeFileSync(path, text, { mode: 0o600 });
    // By rename: a torn rewrite would forget what stood there.
    writeFileSync(`${path}.tmp`, text, { mode: 0o600 });
    renameSync(`${path}.tmp`, path);
  }

  forget(id: string): void {
    this.#entries.delete(id);
    rmSync(join(this.#folder, `${id}.json`), { force: true });
  }
}

/** The entries of any run directory; what a crash tore was not made yet and is left out. */
export function readLedger(runDir: string, name: LedgerName = "ledger"): LedgerEntry[] {
  const folder = join(runDir, name);
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch {
    return [];
  }
  const entries: LedgerEntry[] = [];
  for (const name of names) {
    if (!name.endsWith(".json")) continue;
    try {
      const entry: LedgerEntry = JSON.parse(readFileSync(join(folder, name), "utf8"));
      entries.push(entry);
    } catch {
      // Torn, or forgotten meanwhile.
    }
  }
  return entries;
}
