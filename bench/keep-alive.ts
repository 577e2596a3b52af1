// What adaptive keep-alive gives: the cold starts of a day of a realistic trace, beside those of a fixed keep-alive that holds as much memory.

import { runDay, type Day } from "../test/simulation/day.ts";
import { makeDay, type TracedFunction } from "../test/simulation/trace.ts";
import type { Row } from "./row.ts";

const seed = 2020;
/** Deployed. */
const functions = 2_000;
/** Of the cold starts that a fixed keep-alive has with the same memory. */
const sharedAtMost = 0.6;
/** Memory that differs by less is the same. */
const near = 0.01;
const rounds = 8;

/** In virtual time: the same figures on every machine. */
export function keepAlive(): Row[] {
  const trace = makeDay({ seed, functions });
  const usual = runDay(trace, { keepAlive: "fixed" });
  const adapted = runDay(trace, { keepAlive: "histogram" });
  const { idleSeconds, day: equal } = fixedWithMemory(trace, adapted.idleGibHours, usual);
  const ratio = adapted.cold / equal.cold;
  const usualRatio = adapted.cold / usual.cold;
  const memoryRatio = adapted.idleGibHours / usual.idleGibHours;
  const of = `a day, ${functions} functions of which ${trace.length} are called twice a minute or less, ${adapted.calls} calls`;
  return [
    {
      number: `cold starts by keep-alive, at equal memory (${of})`,
      target: `≤ ${sharedAtMost}x`,
      floor: `${equal.cold} (fixed, ${idleSeconds.toFixed(1)} s: ${inGib(equal)} idle)`,
      seen: `${ratio.toFixed(2)}x (histogram: ${inWords(adapted)})`,
      held: ratio <= sharedAtMost && Math.abs(adapted.idleGibHours / equal.idleGibHours - 1) <= near,
    },
    {
      number: "the same beside the default minute: cold starts, and memory",
      target: `≤ ${sharedAtMost + 0.1}x, ≤ 1x`,
      floor: `${inWords(usual)} (fixed, 60 s)`,
      seen: `${usualRatio.toFixed(2)}x, ${memoryRatio.toFixed(2)}x`,
      held: usualRatio <= sharedAtMost + 0.1 && memoryRatio <= 1,
    },
  ];
}

/** The fixed keep-alive that holds so much: by secants, since more of it holds more. */
function fixedWithMemory(
  trace: readonly TracedFunction[],
  gibHours: number,
  usual: Day,
): { readonly idleSeconds: number; readonly day: Day } {
  let before = { idleSeconds: 60, day: usual };
  let idleSeconds = 60 * (gibHours / usual.idleGibHours) ** 1.5;
  for (let round = 0; round < rounds; round++) {
    const next = { idleSeconds, day: runDay(trace, { keepAlive: "fixed", idleSeconds }) };
    if (Math.abs(next.day.idleGibHours / gibHours - 1) <= near) return next;
    const slope = (next.day.idleGibHours - before.day.idleGibHours) / (next.idleSeconds - before.idleSeconds);
    before = next;
    idleSeconds = Math.max(1, next.idleSeconds + (gibHours - next.day.idleGibHours) / slope);
  }
  return before;
}

function inWords(day: Day): string {
  const share = ((100 * day.cold) / day.calls).toFixed(1);
  const ahead = day.startsAhead > 0 ? `, ${day.startsAhead} starts ahead` : "";
  return `${day.cold} = ${share}% of the calls, ${day.starts} starts${ahead}, ${inGib(day)} idle`;
}

function inGib({ idleGibHours }: Day): string {
  return `${idleGibHours.toFixed(0)} GiB·h`;
}
