// Decides how many instances a workload shall have: pure; no I/O, clock or chance.

import { requestsEach, type ServingSettings } from "#model/workload.ts";
import type { Load } from "./door.ts";

export interface ScalingSettings extends Pick<
  ServingSettings,
  "concurrency" | "scaling" | "min" | "max" | "idleSeconds"
> {
  /** What its instances use asks for so many (pressure.ts), as long as anything runs or waits; left out: they are not looked at. */
  readonly pressed?: Pressed | null;
  /** Why one instance is held, or started, for a call that is expected; left out: none is. */
  readonly expecting?: string | null;
}

export interface Pressed {
  readonly needed: number;
  readonly reason: string;
}

/** What the machine can do, as far as scaling is concerned. */
export interface MachineView {
  /** Starts that run at the same time. */
  readonly concurrentStarts: number;
  /** Assumed where no start has been measured yet, ms. */
  readonly typicalStartMs: number;
}

/** Instances that were needed at the same time, and until when: the older, the more. */
interface Peak {
  readonly needed: number;
  /** Monotonic us when so many were needed last. */
  readonly lastUs: number;
}

/** What is remembered of a workload between two decisions. */
export interface ScalingMemory {
  /** Strictly decreasing in `needed`, increasing in `lastUs`: a sliding-window maximum. */
  readonly peaks: readonly Peak[];
  /** Needed at the last decision, and so until now. */
  readonly needed: number;
  readonly waiting: number;
  /** Since when nothing has left the queue; null: nothing waits. */
  readonly stalledSinceUs: number | null;
  /** When the queue shall have drained without another start; null: it is not left to drain. */
  readonly drainByUs: number | null;
  /** Since when each start that is on its way is known of; the oldest first. */
  readonly startsUs: readonly number[];
  /** Since when more is in flight than instances are for, though it has room in them; null: it is not. */
  readonly aboveSinceUs: number | null;
}

export const freshMemory: ScalingMemory = {
  peaks: [],
  needed: 0,
  waiting: 0,
  stalledSinceUs: null,
  drainByUs: null,
  startsUs: [],
  aboveSinceUs: null,
};

export interface Decision {
  readonly wanted: number;
  /** For a reader, the deciding ones only. */
  readonly reasons: readonly string[];
  /** Monotonic us when the answer may be another one without any report; null: never. */
  readonly decideAgainAtUs: number | null;
  readonly memory: ScalingMemory;
}

/** Part of a surplus that goes at once while the workload is in use; the rest follows at quarters of the idle time. */
const surplusKept = 0.5;
const surplusStep = 0.25;

export function decide(
  load: Load,
  settings: ScalingSettings,
  machine: MachineView,
  memory: ScalingMemory,
  nowUs: number,
): Decision {
  const { max, expecting = null } = settings;
  const min = Math.max(settings.min, Math.min(max, expecting === null ? 0 : 1));
  const current = load.ready + load.starting;
  const stalledSinceUs = stalled(load, memory, nowUs);
  const startsUs = underway(memory.startsUs, load.starting, nowUs);
  const past = { stalledSinceUs, drainByUs: memory.drainByUs, startsUs, aboveSinceUs: memory.aboveSinceUs };
  const demand = pressedBy(settings, load, demandOf(load, settings, machine, past, nowUs));
  const idleUs = settings.idleSeconds * 1e6;
  const peaks = expire(remember(memory, demand.needed, nowUs), demand.needed, idleUs, current, nowUs);

  // Idle instances are kept, never started, for the sake of a peak that has passed.
  const kept = Math.min(current, peaks[0]?.needed ?? 0);
  const wanted = Math.min(max, Math.max(min, demand.needed, kept));

  const reasons: string[] = [];
  if (demand.needed >= max && demand.unbounded > max) reasons.push(`max is ${max}, ${demand.unbounded} would be used`);
  else if (wanted === demand.needed && demand.needed > 0) reasons.push(...demand.reasons);
  else if (wanted === kept && kept > min)
    reasons.push(
      `${kept - demand.needed} ${settings.scaling ? "spare" : "idle"}, kept for ${Number(settings.idleSeconds.toPrecision(3))} s`,
    );
  if (wanted === min && min > demand.needed) reasons.push(settings.min === min ? `min is ${min}` : (expecting ?? ""));
  if (wanted === 0) reasons.push("nothing to do");

  let decideAgainAtUs = demand.againAtUs;
  const oldest = peaks[0];
  // A peak that ends changes nothing where `min` or what is in use holds as many.
  if (oldest && kept > Math.max(min, demand.needed)) {
    const endsUs = oldest.lastUs + idleUs;
    decideAgainAtUs = decideAgainAtUs === null ? endsUs : Math.min(decideAgainAtUs, endsUs);
  }
  return {
    wanted,
    reasons,
    decideAgainAtUs,
    memory: {
      peaks,
      needed: demand.needed,
      waiting: load.waiting,
      stalledSinceUs,
      drainByUs: demand.drainByUs,
      startsUs,
      aboveSinceUs: demand.aboveSinceUs,
    },
  };
}

/** Since when the queue has not moved, though there was an instance that could have moved it. */
function stalled(load: Load, memory: ScalingMemory, nowUs: number): number | null {
  if (load.waiting === 0) return null;
  if (memory.stalledSinceUs === null || load.waiting < memory.waiting || load.ready === 0) return nowUs;
  return memory.stalledSinceUs;
}

/** Those that came since the last decision began now; those that went were the oldest. */
function underway(startsUs: readonly number[], starting: number, nowUs: number): readonly number[] {
  if (starting === startsUs.length) return startsUs;
  if (starting < startsUs.length) return startsUs.slice(startsUs.length - starting);
  return [...startsUs, ...Array.from({ length: starting - startsUs.length }, () => nowUs)];
}

interface Demand {
  /** Instances that the load gives work to, within max. */
  readonly needed: number;
  /** The same as if starts took no time and there were no max: one slot for each. */
  readonly unbounded: number;
  readonly reasons: readonly string[];
  readonly drainByUs: number | null;
  readonly aboveSinceUs: number | null;
  /** Monotonic us when it may be another one without any report. */
  readonly againAtUs: number | null;
}

/** Nothing is kept, and nothing started, for what idle instances use. */
function pressedBy({ pressed = null, max }: ScalingSettings, load: Load, demand: Demand): Demand {
  if (pressed === null || load.active + load.waiting === 0 || pressed.needed <= demand.needed) return demand;
  const needed = Math.min(max, pressed.needed);
  return { ...demand, needed, unbounded: Math.max(demand.unbounded, pressed.needed), reasons: [pressed.reason] };
}

/**
 * One slot for each that is active or waits, but no start that would be ready only after the queue has drained.
 * A start that is on its way needs what is left of its time, another one all of it after its turn among the machine's concurrent
 * starts; until then every slot takes one at once and another each `executionMs`.
 */
function demandOf(
  load: Load,
  settings: ScalingSettings,
  machine: MachineView,
  past: Pick<ScalingMemory, "stalledSinceUs" | "drainByUs" | "startsUs" | "aboveSinceUs">,
  nowUs: number,
): Demand {
  const { concurrency, max } = settings;
  const each = requestsEach(settings);
  const slots = load.active + load.waiting;
  const unbounded = Math.ceil(slots / each);
  const current = load.ready + load.starting;
  const startMs = Math.max(1, load.startMs ?? machine.typicalStartMs);
  if (load.waiting === 0) return roomy(load, settings, startMs, past.aboveSinceUs, nowUs);

  const inUse = Math.ceil(load.active / concurrency);
  const reasons = [`${load.waiting} waiting, ${load.active} active, ${each} at a time in an instance`];
  const ceiling = Math.min(max, unbounded);
  const none = { unbounded, reasons, drainByUs: null, aboveSinceUs: null, againAtUs: null };
  // The estimate is of the past: what has not moved for longer than that takes at least as long as it has not moved.
  const stalledMs = past.stalledSinceUs === null ? 0 : (nowUs - past.stalledSinceUs) / 1000;
  const executionMs = load.executionMs === null ? null : Math.max(load.executionMs, stalledMs, 0.001);
  if (executionMs === null || ceiling <= current) return { ...none, needed: ceiling };

  const queue = drain(
    load,
    concurrency,
    executionMs,
    arrivals(past.startsUs, startMs, machine, nowUs),
    ceiling - current,
  );
  let needed = Math.min(ceiling, current + queue.starts);
  let drainByUs: number | null = null;
  if (needed < ceiling) {
    reasons.push(`the queue drains in ${Math.ceil(queue.drainMs)} ms, another start takes ${Math.ceil(startMs)} ms`);
    const promisedUs = nowUs + Math.ceil(queue.drainMs + startMs) * 1000;
    if (past.drainByUs !== null && nowUs >= past.drainByUs) {
      needed = Math.min(ceiling, needed + 1);
      reasons.push("it has not drained when it should have");
      drainByUs = promisedUs;
    } else drainByUs = past.drainByUs ?? promisedUs;
  }
  return { ...none, needed: Math.max(needed, Math.min(max, inUse)), drainByUs, againAtUs: drainByUs };
}

/** Nobody waits. Above what instances are for there is another one, unless it is over before one could be ready. */
function roomy(
  load: Load,
  settings: ScalingSettings,
  startMs: number,
  aboveSinceUs: number | null,
  nowUs: number,
): Demand {
  const { concurrency, max } = settings;
  const each = requestsEach(settings);
  const [inUse, unbounded] = [Math.ceil(load.active / concurrency), Math.ceil(load.active / each)];
  const reasons = [each < concurrency ? `${load.active} active, ${each} for each instance` : `${load.active} active`];
  const none = { unbounded, reasons, drainByUs: null, aboveSinceUs: null, againAtUs: null };
  const current = load.ready + load.starting;
  const aimed = Math.min(max, unbounded);
  if (each === concurrency || aimed <= current) return { ...none, needed: aimed };
  const sinceUs = aboveSinceUs ?? nowUs;
  const untilUs = sinceUs + Math.ceil(startMs * 1000);
  if (untilUs <= nowUs) return { ...none, needed: aimed, aboveSinceUs: sinceUs };
  return { ...none, needed: Math.min(max, Math.max(inUse, current)), aboveSinceUs: sinceUs, againAtUs: untilUs };
}

/** When instances become ready, ms from now: those that are on their way, then (without end) further ones, each in its turn. */
function* arrivals(
  startsUs: readonly number[],
  startMs: number,
  { concurrentStarts }: MachineView,
  nowUs: number,
): Generator<{ readonly atMs: number; readonly further: boolean }, never> {
  // One that takes longer than starts do says nothing of when it comes: as one that begins now.
  const leftMs = startsUs.map((beganUs) => startMs - (nowUs - beganUs) / 1000).map((ms) => (ms > 0 ? ms : startMs));
  const turnsMs = leftMs.toSorted((a, b) => a - b);
  for (const atMs of turnsMs) yield { atMs, further: false };
  while (turnsMs.length < concurrentStarts) turnsMs.unshift(0);
  for (let turn = 0; ; turn++) {
    const atMs = turnsMs[turn]! + startMs;
    turnsMs.push(atMs);
    yield { atMs, further: true };
  }
}

/** How many further starts (at most `limit`) would be ready before the queue is empty, and when it is then. Times from now. */
function drain(
  load: Load,
  concurrency: number,
  executionMs: number,
  coming: Iterable<{ readonly atMs: number; readonly further: boolean }>,
  limit: number,
): { readonly starts: number; readonly drainMs: number } {
  // Taken from the queue until t: ready slots t/E; a slot that appears at a: 1 + (t-a)/E.
  let readySlots = load.ready * concurrency;
  let taken = Math.max(0, readySlots - load.active);
  let atMs = 0;
  let starts = 0;
  for (const next of coming) {
    const untilNext = taken + (readySlots * (next.atMs - atMs)) / executionMs;
    if (untilNext >= load.waiting || (next.further && starts === limit)) break;
    if (next.further) starts++;
    readySlots += concurrency;
    taken = untilNext + concurrency;
    atMs = next.atMs;
    if (taken >= load.waiting) return { starts, drainMs: atMs };
  }
  return { starts, drainMs: Math.max(0, atMs + ((load.waiting - taken) * executionMs) / readySlots) };
}

/** Adds what was needed until now to the window; what is lower than it, or than what is needed now, no longer matters. */
function remember(memory: ScalingMemory, needed: number, nowUs: number): readonly Peak[] {
  const before = memory.needed;
  if (memory.peaks.length === 0 && before <= needed) return memory.peaks;
  const peaks = memory.peaks.filter((peak) => peak.needed > Math.max(before, needed));
  if (before > needed) peaks.push({ needed: before, lastUs: nowUs });
  return peaks;
}

/** Drops peaks whose idle time is over; while others are in use, half of the surplus at a time. */
function expire(
  peaks: readonly Peak[],
  needed: number,
  idleUs: number,
  current: number,
  nowUs: number,
): readonly Peak[] {
  const first = peaks[0];
  if (!first || first.lastUs + idleUs > nowUs) return peaks;
  const rest = peaks.filter((peak) => peak.lastUs + idleUs > nowUs);
  const below = Math.max(needed, rest[0]?.needed ?? 0);
  const keep = below === 0 ? 0 : Math.floor((Math.min(first.needed, current) - below) * surplusKept);
  if (keep <= 0 || idleUs === 0) return rest;
  // Never longer than the last that was in use: idle to zero is kept to the microsecond.
  const untilUs = nowUs - idleUs + Math.ceil(idleUs * surplusStep);
  const lastUs = needed > 0 ? untilUs : Math.min(untilUs, rest.at(-1)!.lastUs);
  return [{ needed: below + keep, lastUs }, ...rest.filter((peak) => peak.lastUs > lastUs)];
}
