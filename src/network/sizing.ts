// How many links to have ready: pure, from what is there and what was taken lately.

export interface PoolState {
  readonly spare: number;
  readonly making: number;
  /** Takes that found none. */
  readonly waiting: number;
  /** Takes within the last window. */
  readonly takenRecently: number;
}

export interface PoolBounds {
  readonly spareMin: number;
  readonly spareMax: number;
}

export interface PoolDecision {
  readonly make: number;
  readonly remove: number;
  readonly reasons: readonly string[];
}

/**
 * What was taken lately is expected again, up to the most that is kept; those who wait come on top. Links are let go only when
 * the demand of a whole window has passed, so that a pool does not shrink and grow with every request; and they are made several at
 * a time, with one change of the rules, once half of them are gone.
 */
export function decidePool(state: PoolState, bounds: PoolBounds): PoolDecision {
  const target = Math.min(bounds.spareMax, bounds.spareMin + state.takenRecently);
  const missing = target + state.waiting - state.spare - state.making;
  const reasons = [`${target} spare are wanted: ${bounds.spareMin} and the ${state.takenRecently} taken lately`];
  if (state.waiting > 0) reasons.push(`${state.waiting} wait`);
  const half = Math.ceil(target / 2);
  if (missing > 0 && state.waiting === 0 && state.spare + state.making >= half)
    return { make: 0, remove: 0, reasons: [...reasons, `${half} are enough until then`] };
  if (missing > 0) return { make: missing, remove: 0, reasons };
  const excess = state.takenRecently === 0 && state.waiting === 0 ? Math.max(0, state.spare - target) : 0;
  return { make: 0, remove: excess, reasons };
}
