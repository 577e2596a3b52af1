// Time as a parameter: what runs on a real machine and in a simulation reads the same clock.

/** Cancels what `Clock.after` scheduled; harmless when it has already run. */
export type Cancel = () => void;

export interface Clock {
  /** Milliseconds since the epoch; may jump. For people and for records, never for measuring. */
  wallMs(): number;
  /** Integer microseconds of CLOCK_MONOTONIC: the same in every process of one boot; a suspended machine stands still. */
  monotonicUs(): number;
  /** Calls `run` once, `delayMs` from now. Never keeps the process alive by itself. */
  after(delayMs: number, run: () => void): Cancel;
}

/** The real clock. `process.hrtime` is CLOCK_MONOTONIC on Linux. */
export const systemClock: Clock = {
  wallMs: () => Date.now(),
  monotonicUs: () => Number(process.hrtime.bigint() / 1000n),
  after: (delayMs, run) => {
    const timer = setTimeout(run, delayMs);
    timer.unref();
    return () => clearTimeout(timer);
  },
};
