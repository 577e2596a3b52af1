// The pauses of the workloads that leave their idle time to ebb: when one began, what is planned in it, and what is remembered of them.

import { keepAliveLimits } from "#model/limits.ts";
import type { ServingRevision } from "#model/workload.ts";
import {
  hasEvidence,
  newHistory,
  pauseMinUs,
  planPause,
  remember,
  standing,
  whyExpecting,
  type PauseHistory,
  type PausePlan,
} from "./keep-alive.ts";

/** One workload's; made at its first call. */
export interface Pauses {
  /** Since when it has had nothing to do; null: it has, or nobody has ever called it. */
  sinceUs: number | null;
  busy: boolean;
  history: PauseHistory | null;
  /** Of the pause that is now. */
  plan: PausePlan | null;
  startTries: number;
}

/** What a pause changes of how its workload is scaled. */
export interface PauseScaling {
  readonly idleSeconds: number;
  readonly expecting: string | null;
  /** When it is another without any report; null: never. */
  readonly againAtUs: number | null;
}

/** Whoever says how long wants just that, and what `min` holds needs no plan. */
export function isAdaptable({ settings, settingSources }: ServingRevision): boolean {
  return settingSources.idleSeconds === "default" && settings.min === 0;
}

export function newPauses(): Pauses {
  return { sinceUs: null, busy: false, history: null, plan: null, startTries: 0 };
}

export class RememberedPauses {
  /** Those with a history, the one that was called longest ago first. */
  readonly #remembered = new Set<Pauses>();

  get size(): number {
    return this.#remembered.size;
  }

  /** It has something to do, or nothing. */
  seen(pauses: Pauses, busy: boolean, nowUs: number): void {
    if (pauses.busy === busy) return;
    pauses.busy = busy;
    if (!busy) {
      pauses.sinceUs = nowUs;
      return;
    }
    const pausedUs = pauses.sinceUs === null ? 0 : nowUs - pauses.sinceUs;
    pauses.sinceUs = null;
    pauses.plan = null;
    pauses.startTries = 0;
    // Most pauses of one that is called all the time: nothing is made or kept of them.
    if (pausedUs < pauseMinUs) return;
    pauses.history ??= newHistory();
    remember(pauses.history, pausedUs);
    this.#remembered.delete(pauses);
    this.#remembered.add(pauses);
    if (this.#remembered.size <= keepAliveLimits.workloads) return;
    for (const oldest of this.#remembered) {
      this.forget(oldest);
      return;
    }
  }

  /** Another revision serves: how a workload is called is not its code's doing, only the pause that is now is no measure. */
  interrupted(pauses: Pauses): void {
    pauses.sinceUs = null;
    pauses.busy = false;
    pauses.plan = null;
    pauses.startTries = 0;
  }

  forget(pauses: Pauses): void {
    pauses.history = null;
    pauses.plan = null;
    this.#remembered.delete(pauses);
  }
}

/**
 * How the pause is to be scaled now; null: as its settings say. `current`: instances that are ready or on their way; `mayStart` is
 * asked only where one would be started. What is expected is kept but never fought for: one that has gone (its memory was needed,
 * it crashed) is not started again in the same pause.
 */
export function pauseScaling(
  pauses: Pauses,
  defaultSeconds: number,
  current: number,
  leadUs: number,
  nowUs: number,
  mayStart: () => boolean,
): PauseScaling | null {
  const { sinceUs, history } = pauses;
  if (sinceUs === null || history === null || !hasEvidence(history)) return null;
  const pausedUs = nowUs - sinceUs;
  // Only a pause that lasts is worth a plan.
  if (pausedUs < pauseMinUs)
    return { idleSeconds: defaultSeconds, expecting: null, againAtUs: sinceUs + Math.ceil(pauseMinUs) };
  pauses.plan ??= planPause(history);
  const { plan } = pauses;
  if (plan === null) return null;
  const { phase, untilUs } = standing(plan, pausedUs, leadUs);
  const idleSeconds = Math.min(defaultSeconds, plan.keepUs / 1e6);
  let againAtUs = untilUs === null ? null : Math.ceil(sinceUs + untilUs);
  let expecting: string | null = null;
  // Up to the default it is kept as after every call.
  if (phase === "kept" && current > 0 && plan.keepUs > defaultSeconds * 1e6)
    expecting = whyExpecting(history, pauseMinUs, plan.keepUs);
  if (phase === "expecting") {
    const untried = pauses.startTries < keepAliveLimits.startTries;
    const has = current > 0 || (untried && mayStart());
    pauses.startTries = has ? keepAliveLimits.startTries : pauses.startTries + 1;
    if (has) expecting = whyExpecting(history, plan.expected!.fromUs, plan.expected!.untilUs);
    else if (untried) againAtUs = Math.min(againAtUs!, nowUs + keepAliveLimits.startAgainMs * 1_000);
  }
  return { idleSeconds, expecting, againAtUs };
}
