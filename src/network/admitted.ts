// Whose the links are: what the lists of the instances behind them and the permits of their projects open, kept true while these change.

import { isReachable, parseAddress } from "#model/address.ts";
import { covers, entriesOf, grantsOf, permitsOf, portsAt, type Entry, type Permit } from "#model/egress.ts";
import type { Tell } from "#model/fact.ts";
import { resolverLimits } from "#model/limits.ts";
import type { Egress } from "#model/workload.ts";
import type { Opened, Rules } from "./decide.ts";
import type { Admission } from "./door.ts";
import type { Openings } from "./openings.ts";

export interface AdmittedOptions {
  readonly openings: Openings;
  /** The permits of a project; the same array while they are the same. */
  readonly permitsOf: (project: string) => readonly string[];
  readonly tell: Tell;
}

interface Behind extends Admission {
  readonly entries: "none" | "internet" | readonly Entry[];
  permitTexts: readonly string[];
  permits: readonly Permit[];
  /** Names of which its log says already that they were withheld. */
  readonly told: Set<string>;
}

export class Admitted {
  readonly #options: AdmittedOptions;
  readonly #behind = new Map<string, Behind>();
  /** Lists are the revisions' own. */
  readonly #read = new WeakMap<readonly string[], readonly Entry[]>();

  constructor(options: AdmittedOptions) {
    this.#options = options;
  }

  /** Resolves when what is open by address stands; names are opened as they are resolved. */
  admit(address: string, admission: Admission): Promise<void> {
    const { openings, permitsOf: textsOf } = this.#options;
    const permitTexts = textsOf(admission.project);
    const entries = this.#entriesOf(admission.egress);
    const permits = permitsOf(permitTexts);
    this.#behind.set(address, { ...admission, entries, permitTexts, permits, told: new Set() });
    return openings.grant(address, grantsOf(entries, permits));
  }

  /** null: nobody's yet, and so nothing is open beyond its class. */
  rulesOf(address: string): Pick<Rules, "egress" | "permits"> | null {
    const behind = this.#behind.get(address);
    return behind ? { egress: behind.entries, permits: behind.permits } : null;
  }

  /** What was answered for a name is opened, where a list opens it. */
  async opened(address: string, name: string, opened: readonly Opened[]): Promise<void> {
    const behind = this.#behind.get(address);
    if (!behind || typeof behind.entries === "string") return;
    const { entries, permits } = behind;
    // All go with one write: nothing is waited for in between.
    await Promise.all(
      opened.map(({ address: to, ttlSeconds }) => {
        const ports = portsAt(entries, permits, name, parseAddress(to)!);
        return this.#options.openings.open(
          address,
          ports.map((port) => ({ address: to, port })),
          ttlSeconds,
        );
      }),
    );
  }

  /** Said once for each name to whoever reads the function's log. */
  withheld(address: string, name: string, reasons: readonly string[]): void {
    const behind = this.#behind.get(address);
    if (!behind || behind.entries === "none") return;
    if (behind.told.has(name) || behind.told.size >= resolverLimits.withheldNamesTold) return;
    behind.told.add(name);
    const { project, workload } = behind;
    this.#options.tell({ kind: "egress_withheld", project, workload, name, reasons });
  }

  /** For new connections; those that stand go on. */
  async permitsChanged(): Promise<void> {
    const { openings, permitsOf: textsOf } = this.#options;
    const changes: Promise<unknown>[] = [];
    for (const [address, behind] of this.#behind) {
      const texts = textsOf(behind.project);
      if (texts === behind.permitTexts) continue;
      behind.permitTexts = texts;
      const permits = (behind.permits = permitsOf(texts));
      const change = Promise.all([
        openings.grant(address, grantsOf(behind.entries, permits)),
        openings.close(address, ({ address: to, port }) =>
          isReachable(
            parseAddress(to)!,
            permits.filter((one) => covers(one, port)).map(({ cidr }) => cidr),
          ),
        ),
      ]);
      changes.push(
        change.catch((error: unknown) => {
          // With whatever changes next it is tried again.
          behind.permitTexts = [];
          throw error;
        }),
      );
    }
    await Promise.all(changes);
  }

  leave(address: string): void {
    this.#behind.delete(address);
  }

  #entriesOf(egress: Egress): Behind["entries"] {
    if (typeof egress === "string") return egress;
    const known = this.#read.get(egress);
    if (known) return known;
    const entries = entriesOf(egress) as readonly Entry[];
    this.#read.set(egress, entries);
    return entries;
  }
}
