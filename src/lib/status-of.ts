// One GET of which only the status counts: the head of the answer is bounded, its body is not read.

import type { Duplex } from "node:stream";
import { request } from "./http.ts";

export interface Asked {
  /** A new connection to whom is asked. */
  readonly connect: () => Duplex;
  readonly path: string;
  readonly timeoutMs: number;
  readonly headBytes: number;
  readonly signal?: AbortSignal;
}

/** The status, or the words where there is none. */
export function statusOf({ connect, path, timeoutMs, headBytes, signal }: Asked): Promise<number | string> {
  return new Promise((resolve) => {
    const sent = request({
      createConnection: connect,
      method: "GET",
      path,
      headers: { host: "localhost", "user-agent": "ebb-probe", connection: "close" },
      maxHeaderSize: headBytes,
      ...(signal ? { signal } : {}),
    });
    const late = setTimeout(() => over(`it did not answer within ${timeoutMs / 1_000} s`), timeoutMs);
    const over = (answer: number | string): void => {
      clearTimeout(late);
      resolve(answer);
      sent.destroy();
    };
    sent.on("response", (response) => over(response.statusCode ?? 0));
    sent.on("error", () => over("its answer was no HTTP"));
    sent.end();
  });
}

/** As probes have it. */
export function isWell(status: number | string): boolean {
  return typeof status === "number" && status >= 200 && status < 400;
}
