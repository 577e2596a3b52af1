// How many sandboxes of each kind are kept ready, from the starts that came. Pure.

import { poolLimits } from "#model/limits.ts";

/** What is known of the starts of one kind. */
export interface Demand {
  /** Revisions that serve now and would start such a sandbox. */
  readonly revisions: number;
  /** Monotonic us of the last start; null: none yet. */
  readonly lastUs: number | null;
  /** When the window began in which starts are counted, and how many it has. */
  readonly windowUs: number;
  readonly windowStarts: number;
  /** The most that came in one window, when that was; it halves with time. */
  readonly peakStarts: number;
  readonly peakUs: number;
}

export const noDemand: Demand = {
  revisions: 0,
  lastUs: null,
  windowUs: 0,
  windowStarts: 0,
  peakStarts: 0,
  peakUs: 0,
};

/** A start of this kind has come. */
export function demandAfterStart(demand: Demand, nowUs: number): Demand {
  const same = demand.windowStarts > 0 && nowUs - demand.windowUs < poolLimits.windowMs * 1_000;
  const windowUs = same ? demand.windowUs : nowUs;
  const windowStarts = same ? demand.windowStarts + 1 : 1;
  const higher = windowStarts >= peakAt(demand, nowUs);
  return {
    revisions: demand.revisions,
    lastUs: nowUs,
    windowUs,
    windowStarts,
    peakStarts: higher ? windowStarts : demand.peakStarts,
    peakUs: higher ? nowUs : demand.peakUs,
  };
}

function peakAt({ peakStarts, peakUs }: Demand, nowUs: number): number {
  return peakStarts * 2 ** (-Math.max(0, nowUs - peakUs) / (poolLimits.halfLifeMs * 1_000));
}

/** How many of this kind would be kept, were there memory for all. */
export function wantedOf(demand: Demand, nowUs: number): number {
  if (demand.revisions === 0) return 0;
  return Math.max(poolLimits.fewest, Math.round(peakAt(demand, nowUs)));
}

export interface PoolDecision {
  /** Of each kind, in the order given. */
  readonly wanted: readonly number[];
  /** When the answer may be another though nothing has come; null: never. */
  readonly decideAgainAtUs: number | null;
}

export interface Kind {
  readonly demand: Demand;
  /** Sandboxes of it that wait. */
  readonly ready: number;
}

/**
 * Whose one comes first: kinds that are started these days before others, and among them those that have one; to let that go for
 * another's, which is taken next, would be to make and throw away one for each start.
 */
function rank({ demand: { lastUs }, ready }: Kind, nowUs: number): number {
  if (lastUs === null || nowUs - lastUs > poolLimits.halfLifeMs * 1_000) return 0;
  return ready > 0 ? 2 : 1;
}

/**
 * Shares the budget: first one of each kind, by rank and then the most recently started first; then always to the kind that has the smallest part of
 * what it needs. So one kind's crowd does not leave another without any.
 */
export function decidePool(kinds: readonly Kind[], budgetBytes: number, nowUs: number): PoolDecision {
  const demands = kinds.map(({ demand }) => demand);
  let left = Math.floor(budgetBytes / poolLimits.sandboxBytes);
  const full = demands.map((demand) => wantedOf(demand, nowUs));
  const wanted = demands.map(() => 0);
  const recent = Array.from(kinds.keys()).toSorted(
    (a, b) =>
      rank(kinds[b]!, nowUs) - rank(kinds[a]!, nowUs) || (demands[b]!.lastUs ?? -1) - (demands[a]!.lastUs ?? -1),
  );
  for (const i of recent) {
    if (left === 0 || full[i] === 0) continue;
    wanted[i] = 1;
    left--;
  }
  while (left > 0) {
    let neediest = -1;
    for (const i of recent) {
      if (wanted[i]! >= full[i]! || wanted[i] === 0) continue;
      if (neediest < 0 || wanted[i]! / full[i]! < wanted[neediest]! / full[neediest]!) neediest = i;
    }
    if (neediest < 0) break;
    wanted[neediest]!++;
    left--;
  }
  const shrinks = wanted.some((count) => count > poolLimits.fewest);
  return { wanted, decideAgainAtUs: shrinks ? nowUs + poolLimits.lookAgainMs * 1_000 : null };
}
