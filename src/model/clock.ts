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

// `performance.now()` reads the same clock as `process.hrtime`, from this thread's start on, and makes no BigInt: it is asked
// several times for each request.
const threadStartUs = Number(process.hrtime.bigint()) / 1_000 - performance.now() * 1_000;

/** The real clock: CLOCK_MONOTONIC on Linux. */
export const systemClock: Clock = {
  wallMs: () => Date.now(),
  monotonicUs: () => Math.floor(threadStartUs + performance.now() * 1_000),
  after: (delayMs, run) => {
    const timer = setTimeout(run, delayMs);
    timer.unref();
    return () => clearTimeout(timer);
  },
};
