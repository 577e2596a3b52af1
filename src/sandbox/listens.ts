// Waiting until a program that listens itself accepts connections.

import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const firstPauseMs = 1;
const lastPauseMs = 50;
/** Of the time that it has taken so far: who starts fast is seen fast, and who takes long is not asked often. */
const pauseShare = 0.05;

/** Resolves when something accepts connections there; false: `signal` came first. The only polling there is: nobody tells. */
export async function listens(address: string, port: number, signal: AbortSignal): Promise<boolean> {
  const began = performance.now();
  while (!signal.aborted) {
    const answered = await new Promise<boolean>((resolve) => {
      const socket = connect({ host: address, port, signal });
      socket.once("connect", () => {
        socket.destroy();
        resolve(true);
      });
      socket.once("error", () => resolve(false));
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
