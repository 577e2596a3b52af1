// A day of calls by the published shape of a large platform: most functions rare, a few busy, some by the clock, most in bursts.

import { seeded } from "./chance.ts";

/**
 * The marginals are those of Azure Functions (Shahrad et al., "Serverless in the Wild", USENIX ATC 2020). The trace itself is not
 * here; what it has that these do not (which functions are called together, the weekly pattern) is not in this one either.
 */
export interface TraceOptions {
  readonly seed: number;
  /** Deployed, those that are left out as too busy included. */
  readonly functions: number;
}

export interface TracedFunction {
  readonly name: string;
  readonly memoryMb: number;
  /** By the clock, one by one and independent, or in sessions. */
  readonly kind: "timer" | "independent" | "sessions";
  /** Within the day, ascending, ms. */
  readonly arrivalsMs: Float64Array;
  readonly executionsMs: Float64Array;
}

export const dayMs = 86_400_000;

/** Share of functions that are called at most so often a day: 45% once an hour or less, 81% once a minute or less, over 8 orders. */
const popularity = [
  { share: 0, perDay: 1 },
  { share: 0.45, perDay: 24 },
  { share: 0.81, perDay: 1_440 },
  { share: 1, perDay: 100_000_000 },
] as const;

/**
 * Called more often than every half minute a function is warm under every policy that keeps it for about a minute: such functions
 * make over 99% of the calls and next to no difference, and are left out of the day.
 */
const busiestPerDay = 2_880;

/** About 16% of functions are triggered by timers, and some others are called by a clock from outside. */
const timerShare = 0.2;
/** Of the rest, those whose calls do not know of each other (variation of the gaps about 1); the others' vary more. */
const independentShare = 0.3;

/** What people write into a cron line, seconds. */
const periodsSeconds = [10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400];

export function makeDay(options: TraceOptions): readonly TracedFunction[] {
  const chance = seeded(options.seed);
  const functions: TracedFunction[] = [];
  for (let index = 0; index < options.functions; index++) {
    const perDay = callsPerDay(chance());
    const memoryMb = memoryOf(chance());
    // Of each function its own: what one does, does not change the next.
    const own = seeded(Math.floor(chance() * 4_294_967_296));
    if (perDay > busiestPerDay) continue;
    const roll = own();
    const kind = roll < timerShare ? "timer" : roll < timerShare + 0.8 * independentShare ? "independent" : "sessions";
    const arrivals =
      kind === "timer"
        ? byTheClock(perDay, own)
        : kind === "independent"
          ? oneByOne(perDay, own)
          : inSessions(perDay, own);
    const arrivalsMs = Float64Array.from(arrivals).toSorted();
    const usualMs = usualExecutionMs(own);
    functions.push({
      name: `f${index}`,
      memoryMb,
      kind,
      arrivalsMs,
      executionsMs: Float64Array.from(arrivalsMs, () => Math.max(1, usualMs * (0.5 + own()))),
    });
  }
  return functions;
}

/** Log-linear between the published points. */
function callsPerDay(share: number): number {
  const at = popularity.findIndex((point) => point.share > share);
  const [low, high] = [popularity[at - 1]!, popularity[at]!];
  return low.perDay * (high.perDay / low.perDay) ** ((share - low.share) / (high.share - low.share));
}

/** Burr XII with the published parameters: median 170 MB, 90% within 400. What a function declares is a multiple of 32. */
function memoryOf(share: number): number {
  const mb = 107.083 * ((1 - share) ** (-1 / 0.221) - 1) ** (1 / 11.652);
  return Math.min(1_024, Math.max(64, Math.ceil(mb / 32) * 32));
}

/** Log-normal with the published parameters (seconds): half of the functions below 0.7 s. Cut at a minute. */
function usualExecutionMs(chance: () => number): number {
  const normal = Math.sqrt(-2 * Math.log(1 - chance())) * Math.cos(2 * Math.PI * chance());
  return Math.min(60_000, 1_000 * Math.exp(-0.38 + 2.36 * normal));
}

/** How busy the platform is, 1 on average: half of the load is always there, half follows the day with its peak at three. */
function busyAt(ms: number): number {
  return 1 + 0.5 * Math.cos((2 * Math.PI * (ms - 15 * 3_600_000)) / dayMs);
}

function* moments(perDay: number, chance: () => number): Generator<number> {
  const meanMs = dayMs / (perDay * 1.5);
  for (let ms = gap(meanMs, chance); ms < dayMs; ms += gap(meanMs, chance)) if (chance() * 1.5 < busyAt(ms)) yield ms;
}

function gap(meanMs: number, chance: () => number): number {
  return -Math.log(1 - chance()) * meanMs;
}

function oneByOne(perDay: number, chance: () => number): number[] {
  return [...moments(perDay, chance)];
}

/** The period nearest to what its popularity says; up to a second late, as schedulers and networks are. */
function byTheClock(perDay: number, chance: () => number): number[] {
  const wantedSeconds = 86_400 / perDay;
  const distance = (seconds: number): number => Math.abs(Math.log(seconds / wantedSeconds));
  const periodMs = 1_000 * periodsSeconds.reduce((best, next) => (distance(next) < distance(best) ? next : best));
  const arrivals: number[] = [];
  for (let ms = chance() * periodMs; ms < dayMs; ms += periodMs) arrivals.push(ms + 1_000 * chance());
  return arrivals;
}

/** Somebody comes, and calls some times in a row: each function with its own number and pace (2 s to 5 min). */
function inSessions(perDay: number, chance: () => number): number[] {
  const calls = Math.min(perDay, 2 + 18 * chance());
  const paceMs = 2_000 * 150 ** chance();
  const arrivals: number[] = [];
  for (const start of moments(perDay / calls, chance))
    for (let ms = start; ms < dayMs; ms += gap(paceMs, chance)) {
      arrivals.push(ms);
      if (chance() * calls < 1) break;
    }
  return arrivals;
}
