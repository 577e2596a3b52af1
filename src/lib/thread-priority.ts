// Lets the thread that answers requests go first where there are fewer processors than threads that want one.

import { getPriority, setPriority } from "node:os";

/** A third of the weight of a thread that has said nothing: enough that a command beside a flood waits no longer for the store. */
const niceness = 5;
const highestNiceness = 19;

/**
 * For the thread that calls it alone, as long as it lives. Only on Linux, where the niceness is a thread's own (setpriority(2), C library/kernel
 * differences); elsewhere it would be the whole process's.
 */
export function yieldToMain(): void {
  if (process.platform === "linux") setPriority(0, Math.min(highestNiceness, getPriority(0) + niceness));
}
