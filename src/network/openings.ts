// What is open to single links beyond their class, in the firewall's sets: networks that are granted, and addresses that were answered
// for a name, for their time. The kernel ends that time by itself; what is kept here says what need not be written again.

import { formatCidr } from "#model/address.ts";
import type { Grant, Port } from "#model/egress.ts";
import type { Clock } from "#model/clock.ts";
import { resolverLimits } from "#model/limits.ts";
import { elements } from "./rules.ts";

export interface OpeningsOptions {
  /** Scripts one after the other, each line a transaction. */
  readonly nft: (script: string) => Promise<void>;
  readonly table: string;
  readonly clock: Clock;
  /** How long an answered address is open, at least and at most. */
  readonly openSeconds: { readonly min: number; readonly max: number };
}

/** An address and port that a link reaches because its resolver answered the address. */
export interface Answered {
  readonly address: string;
  readonly port: Port;
}

interface Standing extends Answered {
  /** Until then it need not be written again; 0: it is being closed, or nobody knows. */
  readonly untilUs: number;
  /** By then the kernel has ended it in any case. */
  readonly endsUs: number;
  readonly written: Promise<void>;
}

interface OfLink {
  /** Elements by the set that they are in, or may be in. */
  granted: Readonly<Record<GrantSet, ReadonlySet<string>>>;
  granting: Promise<void>;
  /** The last change of them failed: what of them stands nobody knows. */
  doubtful: boolean;
  readonly answered: Map<string, Standing>;
  forgotten: boolean;
}

interface Change {
  readonly of: OfLink;
  readonly element: string;
  /** null: it is closed. */
  readonly seconds: number | null;
}

type GrantSet = "granted" | "granted_all";
const grantSets: readonly GrantSet[] = ["granted", "granted_all"];
/** Elements of one line, so that none is longer than nft and the kernel take at a time. */
const lineElements = 128;
/** A write may come so late. */
const lateUs = 30_000_000;
/** How much longer than asked for it stays open, so that answers that are asked for again and again cost few changes. */
const sparedShare = 0.5;

export class Openings {
  readonly #options: OpeningsOptions;
  readonly #links = new Map<string, OfLink>();
  #next: { readonly changes: Change[]; readonly done: Promise<void> } | null = null;
  #writing: Promise<void> = Promise.resolve();

  constructor(options: OpeningsOptions) {
    this.#options = options;
  }

  /** What is granted to a link from now on, in place of what was; in one transaction. Resolves when it stands. */
  grant(address: string, grants: readonly Grant[]): Promise<void> {
    let of = this.#links.get(address);
    if (of === undefined) {
      of = { granted: noGrants, granting: Promise.resolve(), doubtful: false, answered: new Map(), forgotten: false };
      this.#links.set(address, of);
      if (grants.length === 0) return of.granting;
    }
    const link = of;
    const granting = link.granting.then(() => this.#grant(link, elementsOf(address, grants)));
    link.granting = granting.catch(() => {});
    return granting;
  }

  async #grant(of: OfLink, after: OfLink["granted"]): Promise<void> {
    if (of.forgotten) return;
    const { table, nft } = this.#options;
    const before = of.granted;
    const words = grantSets.flatMap((set) => {
      const gone = before[set].difference(after[set]);
      // What is not there cannot be deleted, and fails all.
      return [
        ...change("add", table, set, gone),
        ...change("delete", table, set, gone),
        ...change("add", table, set, of.doubtful ? after[set] : after[set].difference(before[set])),
      ];
    });
    if (words.length === 0) return;
    // Before it is written: whatever comes of it, it is taken away with the link.
    of.granted = {
      granted: before.granted.union(after.granted),
      granted_all: before.granted_all.union(after.granted_all),
    };
    of.doubtful = true;
    await nft(words.join("; "));
    of.granted = after;
    of.doubtful = false;
  }

  /** Was answered to it by an earlier daemon, and may stand: it goes with the link. */
  inherit(address: string, element: string, answered: Answered): void {
    const of = this.#links.get(address);
    const endsUs = this.#options.clock.monotonicUs() + 2 * this.#options.openSeconds.max * 1_000_000 + lateUs;
    of?.answered.set(element, { ...answered, untilUs: 0, endsUs, written: Promise.resolve() });
  }

  /** Opens addresses to a link for at least so long. Resolves when they are open, or when there is no such link any more. */
  async open(address: string, answered: readonly Answered[], ttlSeconds: number): Promise<void> {
    const of = this.#links.get(address);
    if (!of) return;
    const { min, max } = this.#options.openSeconds;
    const seconds = Math.min(max, Math.max(min, ttlSeconds));
    const nowUs = this.#options.clock.monotonicUs();
    const waits: Promise<void>[] = [];
    for (const one of answered) {
      const element = elementOf(address, one);
      const standing = of.answered.get(element);
      if (standing && standing.untilUs >= nowUs + seconds * 1_000_000) {
        waits.push(standing.written);
        continue;
      }
      if (!standing && of.answered.size >= resolverLimits.openings) this.#makeRoom(of, nowUs);
      const longer = Math.ceil(seconds + min * sparedShare);
      const untilUs = nowUs + longer * 1_000_000;
      const written = this.#change({ of, element, seconds: longer });
      const endsUs = Math.max(standing?.endsUs ?? 0, untilUs + lateUs);
      of.answered.set(element, { ...one, untilUs, endsUs, written });
      waits.push(written);
    }
    try {
      await Promise.all(waits);
    } catch (error) {
      for (const one of answered) this.#doubt(of, elementOf(address, one));
      throw error;
    }
  }

  /** Closes to a link what may stay no longer; connections that stand go on. */
  async close(address: string, stays: (one: Answered) => boolean): Promise<void> {
    const of = this.#links.get(address);
    if (!of) return;
    const closing = [...of.answered].flatMap(([element, one]) => (stays(one) ? [] : [this.#close(of, element)]));
    await Promise.all(closing);
  }

  /** The lines that take away all that was open to a link; from here on nothing is opened to it. */
  forget(address: string): readonly string[] {
    const of = this.#links.get(address);
    if (!of) return [];
    this.#links.delete(address);
    of.forgotten = true;
    const { table, clock } = this.#options;
    const nowUs = clock.monotonicUs();
    const lines = grantSets.flatMap((set) => {
      const all = of.granted[set];
      // Of what may stand some may lie within other: each by itself, so that one that cannot be written hinders no other.
      const lines = of.doubtful ? [...all].map((one) => new Set([one])) : [all];
      return lines.flatMap((some) =>
        some.size === 0 ? [] : [[...change("add", table, set, some), ...change("delete", table, set, some)].join("; ")],
      );
    });
    const open = [...of.answered].filter(([, { endsUs }]) => endsUs > nowUs).map(([element]) => element);
    for (let at = 0; at < open.length; at += lineElements)
      lines.push(closeText(table, open.slice(at, at + lineElements)));
    return lines;
  }

  #doubt(of: OfLink, element: string): Standing | undefined {
    const standing = of.answered.get(element);
    if (standing) of.answered.set(element, { ...standing, untilUs: 0 });
    return of.answered.get(element);
  }

  async #close(of: OfLink, element: string): Promise<void> {
    const closing = this.#doubt(of, element);
    await this.#change({ of, element, seconds: null });
    if (of.answered.get(element) === closing) of.answered.delete(element);
  }

  /** What has ended is forgotten; where nothing has, what ends first is closed. */
  #makeRoom(of: OfLink, nowUs: number): void {
    let first: { readonly element: string; readonly untilUs: number } | null = null;
    for (const [element, { untilUs, endsUs }] of of.answered) {
      if (endsUs <= nowUs) of.answered.delete(element);
      else if (untilUs > 0 && (first === null || untilUs < first.untilUs)) first = { element, untilUs };
    }
    if (first === null || of.answered.size < resolverLimits.openings) return;
    // Nobody waits for it: what fails here fails for those who open as well.
    this.#close(of, first.element).catch(() => {});
  }

  /** What comes while others are being written goes with the next. */
  #change(change: Change): Promise<void> {
    if (this.#next === null) {
      const changes: Change[] = [];
      const done = this.#writing.then(() => {
        this.#next = null;
        return this.#write(changes);
      });
      this.#writing = done.catch(() => {});
      this.#next = { changes, done };
    }
    this.#next.changes.push(change);
    return this.#next.done;
  }

  async #write(changes: readonly Change[]): Promise<void> {
    const { table, nft } = this.#options;
    // What was asked for last of an element is what it becomes.
    const last = new Map<string, number | null>();
    for (const { of, element, seconds } of changes) if (!of.forgotten) last.set(element, seconds);
    const live = [...last];
    const lines: string[] = [];
    for (let at = 0; at < live.length; at += lineElements) {
      const some = live.slice(at, at + lineElements);
      const open = some.flatMap(([element, seconds]) => (seconds === null ? [] : [`${element} timeout ${seconds}s`]));
      // The time of what stands already is set anew by a new element only (before Linux 6.12).
      const closed = closeText(
        table,
        some.map(([element]) => element),
      );
      lines.push(open.length > 0 ? `${closed}; ${elements("add", table, "answered", open)}` : closed);
    }
    if (lines.length > 0) await nft(lines.join("\n"));
  }
}

const noGrants: OfLink["granted"] = { granted: new Set(), granted_all: new Set() };

function elementsOf(address: string, grants: readonly Grant[]): OfLink["granted"] {
  const granted = new Set<string>();
  const all = new Set<string>();
  for (const { cidr, port } of grants) {
    const to = `${address} . ${formatCidr(cidr)}`;
    if (port === null) all.add(to);
    else granted.add(`${to} . ${port.protocol} . ${port.number}`);
  }
  return { granted, granted_all: all };
}

export function elementOf(link: string, { address, port }: Answered): string {
  return `${link} . ${address} . ${port.protocol} . ${port.number}`;
}

function change(verb: "add" | "delete", table: string, set: GrantSet, texts: ReadonlySet<string>): readonly string[] {
  return texts.size === 0 ? [] : [elements(verb, table, set, [...texts])];
}

/** What is not there, or no longer, cannot be deleted, and fails all. */
function closeText(table: string, open: readonly string[]): string {
  const added = open.map((text) => `${text} timeout 60s`);
  return `${elements("add", table, "answered", added)}; ${elements("delete", table, "answered", open)}`;
}
