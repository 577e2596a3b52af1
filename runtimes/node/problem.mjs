// What the caller is told when the function fails: problem+json (RFC 9457), while its author finds the stack in the log.

import { messageOf, stackOf } from "./invocation.mjs";

/** @import { Exchange } from "./http1.mjs" */
/** @import { Invocation } from "./invocation.mjs" */

/** The handler answered something that cannot be sent; no stack would help its author. */
export class BadAnswer extends Error {}

/** @param {number} status @param {string} code @param {string} title @param {string} detail */
export function problem(status, code, title, detail) {
  return JSON.stringify({ type: "about:blank", title, status, code, detail });
}

const problemHeaders = ["content-type", "application/problem+json", "ebb-error", "function"];

/** @param {unknown} error */
export function functionProblem(error) {
  return problem(500, "function_error", "Function error", messageOf(error));
}

/** What goes to stderr. @param {unknown} error */
export function reportOf(error) {
  return `${error instanceof BadAnswer ? `Error: ${error.message}` : stackOf(error)}\n`;
}

/**
 * The handler failed: its stack goes to the log, the caller gets a 500, or a cut connection where the answer had begun.
 * @param {Exchange} exchange @param {Invocation} invocation @param {unknown} error
 */
export function fail(exchange, invocation, error) {
  invocation.all.output.error(invocation.id, reportOf(error));
  if (exchange.headSent) exchange.cut();
  else if (!exchange.complete) {
    exchange.answer(500, problemHeaders, functionProblem(error), () => invocation.endsWithAnswer());
  }
  invocation.end();
}

/** The body is larger than a handler of the event style gets it. @param {Exchange} exchange @param {Invocation} invocation @param {number} limit */
export function tooLarge(exchange, invocation, limit) {
  const detail = `the body is larger than ${limit} bytes; a handler of signature web can stream it`;
  const body = problem(413, "payload_too_large", "The body is too large", detail);
  exchange.answer(413, ["content-type", "application/problem+json"], body, () => invocation.endsWithAnswer());
  invocation.end();
}
