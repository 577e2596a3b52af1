// Gives memory back when much has run and then nothing for a while: V8 collects when it needs room, and at rest it never does.

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { Clock } from "#model/clock.ts";
import type { Fact } from "#model/fact.ts";

const quietMs = 10_000;
/** Fewer leave too little behind to be worth 20 to 50 ms of the main loop, which a call might meet after all. */
const worthwhileInvocations = 1_000;

/** Told every fact; at rest it has no timer. */
export function createRest(clock: Clock, collect: () => void = collector()): (fact: Fact) => void {
  let invocations = 0;
  let lastUs = 0;
  let waiting = false;
  const look = (): void => {
    const restMs = quietMs - (clock.monotonicUs() - lastUs) / 1_000;
    waiting = restMs > 0;
    if (waiting) return void clock.after(restMs, look);
    invocations = 0;
    collect();
  };
  return (fact) => {
    if (fact.kind !== "invocation_ended") return;
    invocations++;
    lastUs = clock.monotonicUs();
    if (waiting || invocations < worthwhileInvocations) return;
    // One timer every `quietMs` while it is busy, and none an invocation.
    waiting = true;
    clock.after(quietMs, look);
  };
}

/** The engine's own, which programs are not given by default. */
function collector(): () => void {
  setFlagsFromString("--expose-gc");
  // Called plainly: the flavour "last-resort" gives back more, and blocks the loop for 80 to 180 ms instead of 20 to 50.
  const collect = runInNewContext("gc") as () => void;
  return () => collect();
}
