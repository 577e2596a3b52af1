// Asks a server that may not be up yet until it has answered once, whole.

import { connect } from "node:net";
import { setTimeout as pause } from "node:timers/promises";

/**
 * Between two attempts, ms. Their lines that say "ready" come before, at and after the first answer, so none is waited for; an attempt
 * that is refused costs some tenths of a millisecond of a core, the same for all.
 */
const betweenMs = 1;

/** `ended` says why nobody will answer any more, or nothing. */
export async function firstAnswer(
  port: number,
  host: string,
  withinMs: number,
  ended: () => string | undefined = () => undefined,
): Promise<void> {
  for (const until = performance.now() + withinMs; performance.now() < until;) {
    const why = ended();
    if (why !== undefined) throw new Error(why);
    const answer = await ask(port, host);
    if (answer !== undefined) {
      const problem = problemOf(answer);
      if (problem !== undefined) throw new Error(problem);
      return;
    }
    await pause(betweenMs);
  }
  throw new Error(`no answer within ${withinMs / 1000} s`);
}

/** What is wrong with an answer that should be a hello. */
export function problemOf(answer: string): string | undefined {
  const [head = "", body = ""] = answer.split("\r\n\r\n", 2);
  return head.startsWith("HTTP/1.1 200 ") && body.includes("hello")
    ? undefined
    : `it answered: ${answer.slice(0, 200)}`;
}

/** By content-length; an answer without one ends with its connection. */
export function isWhole(answer: string): boolean {
  const size = /\r\ncontent-length: *(\d+)/i.exec(answer)?.[1];
  const headEnd = answer.indexOf("\r\n\r\n");
  return headEnd >= 0 && size !== undefined && answer.length >= headEnd + 4 + Number(size);
}

/** Nothing when there is no server, or one that closes without a word, as some do in their first moment. */
function ask(port: number, host: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    let answer = "";
    const connection = connect({ port, host: "127.0.0.1", noDelay: true }, () =>
      connection.write(`GET / HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`),
    );
    connection.setEncoding("latin1").on("data", (chunk: string) => {
      answer += chunk;
      if (isWhole(answer)) connection.destroy();
    });
    connection.on("close", () => resolve(answer || undefined));
    connection.on("error", () => {}); // "close" follows
  });
}
