// Waiting until a program that listens itself serves: its port takes connections, or a path of it answers that all is well.

import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { isWell, statusOf } from "#lib/status-of.ts";
import { httpLimits, probeLimits } from "#model/limits.ts";
import type { Probe } from "#model/workload.ts";
import { listens } from "./listens.ts";

export interface Probed {
  readonly address: string;
  readonly port: number;
  readonly probe: Probe;
}

/** What has been seen so far, for the sentence when it takes too long. */
export class Startup {
  readonly #probed: Probed;
  #listens = false;
  #last: string | null = null;

  constructor(probed: Probed) {
    this.#probed = probed;
  }

  /** Resolves when it serves; false: `signal` came first. */
  async serves(signal: AbortSignal): Promise<boolean> {
    const { address, port, probe } = this.#probed;
    if (!(await listens(address, port, signal))) return false;
    this.#listens = true;
    if ("tcp" in probe) return true;
    for (;;) {
      const status = await statusOf({
        connect: () => connect({ host: address, port }),
        path: probe.http,
        timeoutMs: probeLimits.answerMs,
        headBytes: httpLimits.responseHeadBytes,
        signal,
      });
      if (isWell(status)) return true;
      this.#last = typeof status === "number" ? `the last answer was ${status}` : status;
      try {
        await sleep(probeLimits.startupPauseMs, undefined, { signal });
      } catch {
        return false;
      }
    }
  }

  /** Why it does not serve yet. */
  words(withinMs: number): { readonly message: string; readonly hint: string | null } {
    const { port, probe } = this.#probed;
    const seconds = withinMs / 1_000;
    if (!this.#listens)
      return {
        message: `Nothing listened on port ${port} within ${seconds} s.`,
        hint: "The program must listen on 0.0.0.0 (not on localhost alone) and the port in $PORT; port: in ebb.yaml says another.",
      };
    const path = "http" in probe ? probe.http : "/";
    return {
      message: `The probe GET ${path} did not pass within ${seconds} s: ${this.#last ?? "it never answered"}.`,
      hint: "It passes with a status of 200 to 399.",
    };
  }
}
