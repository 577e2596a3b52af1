// How long an idle workload keeps an instance, and when it gets one ahead of its next call, from the pauses it has had. Pure.

import { functionDefaults, keepAliveLimits as limits } from "#model/limits.ts";

/** How the pauses of a workload were, a byte for each of their lengths: changed in place, for it is asked at every call. */
export interface PauseHistory {
  /** By length, in steps of a 12th of an octave; one step is exactly the default idle time. */
  readonly counts: Uint8Array;
  /** Longer than the horizon. */
  longer: number;
  /** All of them. Halved with the counts when it is full: what was long ago fades. */
  seen: number;
}

/** What to do in a pause; times are from its beginning. */
export interface PausePlan {
  /** So long what is there is kept. */
  readonly keepUs: number;
  /** Within this time a call is expected, and one instance waits for it; null: none is worth it. */
  readonly expected: { readonly fromUs: number; readonly untilUs: number } | null;
}

const defaultUs = functionDefaults.idleSeconds * 1e6;
/** Steps below the default time: the shortest pause that is looked at is about a second. */
const below = Math.floor(Math.log2(defaultUs / (limits.pauseMinMs * 1_000)) * limits.stepsPerOctave);
const above = Math.ceil(Math.log2((limits.pauseMaxMs * 1_000) / defaultUs) * limits.stepsPerOctave);
const steps = below + above;
const edgesUs = Float64Array.from({ length: steps + 1 }, (_, at) =>
  Math.round(defaultUs * 2 ** ((at - below) / limits.stepsPerOctave)),
);

const lengthsMs = Float64Array.from({ length: steps }, (_, at) => (edgesUs[at + 1]! - edgesUs[at]!) / 1_000);

/** A shorter pause is none: nothing would be decided in it. */
export const pauseMinUs = edgesUs[0]!;
/** No plan goes on for longer. */
export const pauseMaxUs = edgesUs[steps]!;

export function newHistory(): PauseHistory {
  return { counts: new Uint8Array(steps), longer: 0, seen: 0 };
}

export function remember(history: PauseHistory, pauseUs: number): void {
  if (pauseUs < pauseMinUs) return;
  if (history.seen >= limits.pausesSeen) halve(history);
  const step = stepOf(pauseUs);
  if (step < steps) history.counts[step]!++;
  else history.longer++;
  history.seen++;
}

function halve(history: PauseHistory): void {
  const { counts } = history;
  history.longer >>= 1;
  history.seen = history.longer;
  for (let at = 0; at < steps; at++) history.seen += counts[at]! >>= 1;
}

function stepOf(pauseUs: number): number {
  // Edges are whole microseconds: what is on one is above it.
  const at = Math.max(0, Math.floor(below + Math.log2(pauseUs / defaultUs) * limits.stepsPerOctave));
  return at < steps && edgesUs[at + 1]! <= pauseUs ? at + 1 : at;
}

/** Whether there is anything to plan by. */
export function hasEvidence(history: PauseHistory): boolean {
  return history.seen >= limits.evidence;
}

/**
 * The plan that is worth most: a call that finds an instance is worth `coldStartWorthMs` of an idle one, and each moment of keeping
 * one costs itself where the pause is not over by then. Over a step of the histogram both are sums, so that what a time is worth is
 * the sum of its steps. Of all ways to keep for a first time and to expect within a later one, the best is found in one pass
 * from the end. (Keeping exactly where the chance of a call in the next moment is high enough is what gives the fewest cold
 * starts for a given memory; percentiles of the pauses keep the same for a call that is due and for one that is not.)
 *
 * The default is left only where `evidence` pauses were seen that lasted so long; where fewer did, nothing is known.
 */
export function planPause(history: PauseHistory): PausePlan | null {
  if (!hasEvidence(history)) return null;
  const { counts } = history;
  const { coldStartWorthMs, startWorthMs, evidence } = limits;
  const keepMaxUs = limits.keepMaxMs * 1_000;
  const lastedDefault = history.seen - endedBefore(history, below);
  /** Of what comes after the step: what keeping through it all is worth, and how many pauses lasted until then. */
  let throughout = 0;
  let left = history.longer;
  /** The best time that begins with the step; of those that begin later, the best. */
  let runWorth = 0;
  let runUntil = steps;
  let laterWorth = 0;
  let laterFrom = -1;
  let laterUntil = -1;
  let bestWorth = -Infinity;
  let keep = below;
  let from = -1;
  let until = -1;
  for (let at = steps - 1; at >= 0; at--) {
    // A clock is not exact, and a step has edges: a quarter of each count is its neighbours'.
    const ended = 0.5 * counts[at]! + 0.25 * (counts[at - 1] ?? 0) + 0.25 * (counts[at + 1] ?? 0);
    const worth = coldStartWorthMs * ended - lengthsMs[at]! * (left + ended / 2);
    throughout += worth;
    left += ended;
    const known = (at < below ? left : lastedDefault) >= evidence;
    // What is kept until here is worth all but what comes from here on.
    if ((known || at === below) && edgesUs[at]! <= keepMaxUs && laterWorth - throughout >= bestWorth) {
      bestWorth = laterWorth - throughout;
      keep = at;
      from = laterFrom;
      until = laterUntil;
    }
    if (runWorth <= 0) {
      runWorth = 0;
      runUntil = at + 1;
    }
    runWorth += worth;
    // Every pause that lasts until then costs a start, also where no call comes.
    const withStart = runWorth - startWorthMs * left;
    if (withStart > laterWorth && left >= evidence) {
      laterWorth = withStart;
      laterFrom = at;
      laterUntil = runUntil;
    }
  }
  const keepUs = edgesUs[keep]!;
  if (from < 0) return { keepUs, expected: null };
  const fromUs = edgesUs[from]!;
  return { keepUs, expected: { fromUs, untilUs: Math.min(edgesUs[until]!, fromUs + keepMaxUs) } };
}

function endedBefore({ counts }: PauseHistory, step: number): number {
  let count = 0;
  for (let at = 0; at < step; at++) count += counts[at]!;
  return count;
}

/** For a reader: why an instance is there between these times. */
export function whyExpecting(history: PauseHistory, fromUs: number, untilUs: number): string {
  const ended = endedBefore(history, stepOf(untilUs)) - endedBefore(history, stepOf(fromUs));
  return `a call is expected: ${ended} of the last ${history.seen} pauses ended after ${inSeconds(fromUs)} to ${inSeconds(untilUs)} s`;
}

function inSeconds(us: number): number {
  return Math.round(us / (us < 10e6 ? 1e5 : 1e6)) / (us < 10e6 ? 10 : 1);
}

export interface PauseStanding {
  /** kept: what is there; away: nothing; expecting: one, started if there is none; over: nothing for the rest of the pause. */
  readonly phase: "kept" | "away" | "expecting" | "over";
  /** When that is another, from the beginning of the pause; null: never. */
  readonly untilUs: number | null;
}

/** Where in its plan a pause is; an instance that takes `leadUs` to start is started so much earlier. */
export function standing({ keepUs, expected }: PausePlan, pausedUs: number, leadUs: number): PauseStanding {
  if (pausedUs < keepUs) return { phase: "kept", untilUs: keepUs };
  if (expected === null || pausedUs >= expected.untilUs) return { phase: "over", untilUs: null };
  const startUs = Math.max(keepUs, expected.fromUs - leadUs);
  return pausedUs < startUs ? { phase: "away", untilUs: startUs } : { phase: "expecting", untilUs: expected.untilUs };
}
