// Clients that ask until they are told to stop, and remember of each request what they saw: for tests of deaths.

import type { Agent as HttpAgent } from "node:http";
import { Agent, request as httpRequest } from "#lib/http.ts";

/** complete: the answer's last byte came. cut: its head came, its end did not. */
export type Ending = "complete" | "cut" | "aborted" | "unanswered";

export interface Seen {
  readonly workload: string;
  /** Of the answer's head; null: none came. */
  id: string | null;
  status: number | null;
  text: string;
  /** null: still under way. */
  ending: Ending | null;
  /** What went wrong, in the words of the system. */
  error: string | null;
  readonly startedMs: number;
  tookMs: number;
}

export interface LoadOptions {
  readonly port: number;
  /** One client each; a workload may be named several times. */
  readonly workloads: readonly string[];
  /** 0 to 1: chance that a client goes away before its answer is whole. */
  readonly aborts?: number;
  readonly chance?: () => number;
  /** Between a client's requests. */
  readonly pauseMs?: number;
  /** Connections are used again, which costs half: where it is only the number of calls that counts. */
  readonly reuse?: boolean;
  /** Each client asks one time. */
  readonly once?: boolean;
}

export interface Load {
  readonly seen: Seen[];
  complete(): Seen[];
  underWay(): Seen[];
  /** Resolves when each client's last request is over. */
  stop(): Promise<void>;
}

const abortWithinMs = 120;

export function startLoad(options: LoadOptions): Load {
  const { port, workloads, aborts = 0, chance = Math.random, pauseMs = 0, once = false } = options;
  const agent = options.reuse ? new Agent({ keepAlive: true }) : null;
  const seen: Seen[] = [];
  let running = true;
  const client = async (workload: string): Promise<void> => {
    while (running) {
      const one: Seen = {
        workload,
        id: null,
        status: null,
        text: "",
        ending: null,
        error: null,
        startedMs: performance.now(),
        tookMs: 0,
      };
      seen.push(one);
      await ask(port, agent, one, chance() < aborts ? chance() * abortWithinMs : null);
      one.tookMs = performance.now() - one.startedMs;
      if (once) return;
      // A dead daemon refuses at once: not a thousand times a second, from those who wait for the next.
      await new Promise((resolve) =>
        setTimeout(resolve, one.ending === "unanswered" ? Math.max(50, pauseMs) : pauseMs),
      );
    }
  };
  const all = Promise.all(workloads.map(client));
  return {
    seen,
    complete: () => seen.filter((one) => one.ending === "complete"),
    underWay: () => seen.filter((one) => one.ending === null),
    stop: async () => {
      running = false;
      await all;
      agent?.destroy();
    },
  };
}

function ask(port: number, agent: HttpAgent | null, one: Seen, abortAfterMs: number | null): Promise<void> {
  return new Promise((resolve) => {
    const request = httpRequest({
      host: "127.0.0.1",
      port,
      path: "/",
      agent: agent ?? false,
      headers: { host: `${one.workload}.localhost` },
    });
    let timer: NodeJS.Timeout | null = null;
    const over = (ending: Ending, error: Error | null): void => {
      if (one.ending !== null) return;
      if (timer) clearTimeout(timer);
      one.ending = ending;
      one.error = error && ((error as NodeJS.ErrnoException).code ?? error.message);
      resolve();
    };
    if (abortAfterMs !== null)
      timer = setTimeout(() => {
        over("aborted", null);
        request.destroy();
      }, abortAfterMs);
    request.on("error", (error) => over(one.status === null ? "unanswered" : "cut", error));
    request.once("response", (response) => {
      const id = response.headers["ebb-invocation-id"];
      one.status = response.statusCode ?? 0;
      one.id = typeof id === "string" ? id : null;
      response.setEncoding("utf8").on("data", (text: string) => (one.text += text));
      response.on("error", (error) => over("cut", error));
      response.once("end", () => over("complete", null));
    });
    request.end();
  });
}
