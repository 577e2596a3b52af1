// Waiting until a program that listens itself accepts connections.

import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const firstPauseMs = 1;
const lastPauseMs = 50;
/** Of the time that it has taken so far: who starts fast is seen fast, and who takes long is not asked often. */
const pauseShare = 0.05;
/** An answer comes at once, if only to say no. What is asked while the sandbox's network is being taken over (gVisor) is lost, and TCP
 * itself would ask again after a second. */
const firstAnswerMs = 100;
const lastAnswerMs = 3_000;

/** Resolves when something accepts connections there; false: `signal` came first. The only polling there is: nobody tells. */
export async function listens(address: string, port: number, signal: AbortSignal): Promise<boolean> {
  const began = performance.now();
  let answerMs = firstAnswerMs;
  while (!signal.aborted) {
    const answered = await new Promise<boolean>((resolve) => {
      const socket = connect({ host: address, port, signal });
      socket.once("connect", () => {
        socket.destroy();
        resolve(true);
      });
      socket.once("error", () => resolve(false));
      socket.setTimeout(answerMs, () => {
        socket.destroy();
        answerMs = Math.min(lastAnswerMs, answerMs * 2);
        resolve(false);
      });
    });
    if (answered) return true;
    const pauseMs = Math.min(lastPauseMs, Math.max(firstPauseMs, (performance.now() - began) * pauseShare));
    try {
      await sleep(pauseMs, undefined, { signal });
    } catch {
      return false;
    }
  }
  return false;
}
