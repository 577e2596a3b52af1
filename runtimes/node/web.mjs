// Handlers of the web style: (Request, env, ctx) -> Response. What is whole goes out whole, what streams streams.

import { BadHeader } from "./http1.mjs";
import { BadAnswer, fail } from "./problem.mjs";
import { LightBody, isStream, nativeFetch } from "./web-body.mjs";
import { Headers } from "./web-headers.mjs";
import { Request } from "./web-request.mjs";
import { Response } from "./web-response.mjs";

/** @import { Exchange, FlatHeaders } from "./http1.mjs" */
/** @import { Invocation, Invocations } from "./invocation.mjs" */
/** @import { Callable, Recognised } from "./recognise.mjs" */

/** Headers that the decoding of a fetched answer has made untrue. */
const untrueOfDecoded = new Set(["content-encoding", "content-length"]);

/** Puts our Request, Response and Headers in the place of Node's; fetch goes on taking them. Before the code loads. */
export function installWebObjects() {
  /** @param {unknown} input @param {any} init */
  const fetch = (input, init) => {
    if (!(input instanceof LightBody)) return nativeFetch(/** @type {any} */ (input), init);
    return Request.fetch(/** @type {Request} */ (input), init);
  };
  // By plain assignment: to define a property reads the one that it replaces, and that loads Node's.
  Object.assign(globalThis, { Request, Response, Headers, fetch });
}

class Context {
  #invocation;

  /** @param {Invocation} invocation */
  constructor(invocation) {
    this.#invocation = invocation;
    // Handlers take it out of its object: const { waitUntil } = ctx.
    this.waitUntil = (/** @type {unknown} */ work) => this.#invocation.waitUntil(work);
  }

  /** Of Cloudflare's; there is no origin to pass through to. */
  passThroughOnException() {}

  get invocationId() {
    return this.#invocation.id;
  }

  getRemainingTimeInMillis() {
    return this.#invocation.remainingMs;
  }
}

/** GET, POST, … by the request's method; HEAD is served by GET. @param {Record<string, Callable>} methods @returns {Callable} */
function byMethod(methods) {
  const allow = Object.keys(methods).join(", ");
  return (request, ...rest) => {
    const { method } = /** @type {Request} */ (request);
    const call = Object.hasOwn(methods, method) ? methods[method] : method === "HEAD" ? methods["GET"] : undefined;
    if (call !== undefined) return call(request, ...rest);
    return new Response(null, { status: method === "OPTIONS" ? 204 : 405, headers: { allow } });
  };
}

/** @param {Recognised} recognised @param {Invocations} invocations @param {Record<string, string | undefined>} env @returns {(exchange: Exchange) => void} */
export function webStyle(recognised, invocations, env) {
  const { output } = invocations;
  const { owner, methods } = recognised;
  const handler = methods === null ? recognised.call : byMethod(methods);

  return function serve(exchange) {
    const invocation = invocations.begin(exchange.header("ebb-invocation-id"), exchange.header("ebb-deadline-ms"));
    exchange.onAbort = () => invocation.abort();
    /** @param {unknown} error */
    const failed = (error) =>
      fail(exchange, invocation, error instanceof BadHeader ? new BadAnswer(error.message) : error);
    /** @param {unknown} response */
    const settled = (response) => {
      try {
        const streamed = send(exchange, invocation, response);
        streamed?.catch(failed);
      } catch (error) {
        failed(error);
      }
    };
    try {
      const result = output.run(invocation.id, () =>
        handler.call(owner, Request.from(exchange, invocation), env, new Context(invocation)),
      );
      if (result instanceof Promise) result.then(settled, failed);
      else if (typeof (/** @type {any} */ (result)?.then) === "function") Promise.resolve(result).then(settled, failed);
      else settled(result);
    } catch (error) {
      failed(error);
    }
  };
}

/** @param {unknown} value */
function kindOf(value) {
  return value === null
    ? "null"
    : value === undefined
      ? "nothing"
      : typeof value === "object"
        ? `an object (${value.constructor?.name ?? "null prototype"})`
        : `a ${typeof value}`;
}

/** @param {Exchange} exchange @param {Invocation} invocation @param {unknown} response @returns {Promise<void> | undefined} undefined: it has gone out whole */
function send(exchange, invocation, response) {
  if (!(response instanceof Response))
    throw new BadAnswer(
      `the handler answered ${kindOf(response)} instead of a Response; if it is not a web handler, say signature: event or node in ebb.yaml`,
    );
  if (response.type === "error") throw new BadAnswer("the handler answered Response.error()");
  if (!isLight(response)) return stream(exchange, invocation, response, response.body);
  const content = LightBody.take(response);
  if (isStream(content)) return stream(exchange, invocation, response, content);
  exchange.answer(response.status, Headers.flatOf(response.headers), content, () => invocation.endsWithAnswer());
  invocation.end();
  return undefined;
}

/** Ours, not one that Node's fetch has made. @param {Response} response */
function isLight(response) {
  return /** @type {unknown} */ (response) instanceof LightBody;
}

/** @param {Response} response @returns {FlatHeaders} */
function flatHeaders(response) {
  const headers = isLight(response) ? Headers.flatOf(response.headers) : [...response.headers].flat();
  if (response.url === "") return headers;
  // fetch has decoded the body, and left what it said about the encoded one.
  const kept = [];
  for (let i = 0; i < headers.length; i += 2) {
    const name = /** @type {string} */ (headers[i]);
    if (!untrueOfDecoded.has(name)) kept.push(name, headers[i + 1] ?? "");
  }
  return kept;
}

/** @param {Exchange} exchange @param {Invocation} invocation @param {Response} response @param {ReadableStream | null} body @returns {Promise<void>} */
async function stream(exchange, invocation, response, body) {
  if (body === null) {
    exchange.answer(response.status, flatHeaders(response), null, () => invocation.endsWithAnswer());
    invocation.end();
    return;
  }
  const reader = body.getReader();
  if (exchange.aborted) await reader.cancel(invocation.signal.reason);
  else {
    exchange.onAbort = () => {
      invocation.abort();
      reader.cancel(invocation.signal.reason).catch(() => {});
    };
    exchange.begin(response.status, flatHeaders(response));
    await invocation.all.output.run(invocation.id, () => pump(exchange, reader));
  }
  invocation.end();
}

/** @param {Exchange} exchange @param {ReadableStreamDefaultReader<unknown>} reader */
async function pump(exchange, reader) {
  for (;;) {
    const { done, value } = await reader.read();
    if (done || exchange.aborted) break;
    if (!(value instanceof Uint8Array) && typeof value !== "string") {
      const error = new BadAnswer(`the answer's stream gave ${kindOf(value)} instead of bytes`);
      reader.cancel(error).catch(() => {});
      throw error;
    }
    if (exchange.write(value)) continue;
    await new Promise((resolve) => {
      exchange.onDrain = () => resolve(undefined);
      if (exchange.aborted) resolve(undefined);
    });
    exchange.onDrain = null;
  }
  exchange.end();
}
