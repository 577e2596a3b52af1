// Waiting until a program that listens itself accepts connections.

import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const firstPauseMs = 1;
const lastPauseMs = 50;

/** Resolves when something accepts connections there; false: `signal` came first. The only polling there is: nobody tells. */
export async function listens(address: string, port: number, signal: AbortSignal): Promise<boolean> {
  for (let pauseMs = firstPauseMs; !signal.aborted; pauseMs = Math.min(pauseMs * 1.5, lastPauseMs)) {
    const answered = await new Promise<boolean>((resolve) => {
      const socket = connect({ host: address, port, signal });
      socket.once("connect", () => {
        socket.destroy();
        resolve(true);
      });
      socket.once("error", () => resolve(false));
    });
    if (answered) return true;
    try {
      await sleep(pauseMs, undefined, { signal });
    } catch {
      return false;
    }
  }
  return false;
}
