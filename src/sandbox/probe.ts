// Waiting until a program that listens itself serves: its port takes connections, or a path of it answers that all is well.

import { setTimeout as sleep } from "node:timers/promises";
import { request } from "#lib/http.ts";
import { httpLimits, sandboxLimits } from "#model/limits.ts";
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
      const status = await statusOf(this.#probed, probe.http, signal);
      if (typeof status === "number" && status >= 200 && status < 400) return true;
      this.#last = typeof status === "number" ? `the last answer was ${status}` : status;
      try {
        await sleep(sandboxLimits.probePauseMs, undefined, { signal });
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

/** The status, or the words where there is none. The answer is a tenant's: its head is bounded, its body is not read. */
function statusOf({ address, port }: Probed, path: string, signal: AbortSignal): Promise<number | string> {
  return new Promise((resolve) => {
    const sent = request({
      host: address,
      port,
      path,
      method: "GET",
      agent: false,
      headers: { host: "localhost", "user-agent": "ebb-probe", connection: "close" },
      maxHeaderSize: httpLimits.responseHeadBytes,
      timeout: sandboxLimits.probeMs,
      signal,
    });
    sent.on("response", (response) => {
      resolve(response.statusCode ?? 0);
      response.destroy();
    });
    sent.on("timeout", () => {
      resolve(`it did not answer within ${sandboxLimits.probeMs / 1_000} s`);
      sent.destroy();
    });
    sent.on("error", () => resolve("its answer was no HTTP"));
    sent.end();
  });
}
