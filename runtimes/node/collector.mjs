// What V8 is told when a function turns out to be called often.

/** So many calls: no function that is called now and then loads Node's module of V8 for this, which takes 3 ms. */
const often = 500;

let begun = 0;

/**
 * An invocation begins. Where side by side calls let some of what they allocate outlive two collections of the nursery, V8 puts all
 * that is allocated there into the old generation at once, from then on and for good: a kilobyte of each call, and so a
 * marking of the whole heap every second, of 5 to 10 ms where a core is shared. It is told not to.
 */
export function invocationBegins() {
  if (++begun === often) setImmediate(keepInNursery);
}

function keepInNursery() {
  process.getBuiltinModule("node:v8").setFlagsFromString("--no-allocation-site-pretenuring");
}
