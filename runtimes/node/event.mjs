// Handlers of the event style: (event, context, callback), with the input and the answers of AWS Lambda and Scaleway.

import { TooLarge } from "./http1-body.mjs";
import { BadHeader } from "./http1.mjs";
import { BadAnswer, fail, tooLarge } from "./problem.mjs";
import { httpEvent, triggerInput } from "./event-input.mjs";

/** @import { Exchange, FlatHeaders } from "./http1.mjs" */
/** @import { Invocation, Invocations } from "./invocation.mjs" */
/** @import { Callable } from "./recognise.mjs" */
/** @typedef {{ limitBytes: number, memoryMb: number, env: NodeJS.ProcessEnv }} EventSettings */

/** What a handler learns of its surroundings. */
class Context {
  /** @param {Invocation} invocation @param {EventSettings} settings @param {string} trigger */
  constructor(invocation, settings, trigger) {
    this.awsRequestId = invocation.id;
    this.functionName = settings.env["EBB_WORKLOAD"] ?? "";
    this.functionVersion = settings.env["EBB_REVISION"] ?? "";
    this.memoryLimitInMB = String(settings.memoryMb);
    this.memoryLimitInMb = settings.memoryMb;
    /** An invocation ends with its answer and its `waitUntil`, whatever this says. */
    this.callbackWaitsForEmptyEventLoop = true;
    this.trigger = trigger;
    this.#invocation = invocation;
  }

  /** @type {Invocation} */
  #invocation;

  getRemainingTimeInMillis() {
    return this.#invocation.remainingMs;
  }

  /** Fires when the client has gone. */
  get signal() {
    return this.#invocation.signal;
  }

  /** @param {unknown} work */
  waitUntil(work) {
    this.#invocation.waitUntil(work);
  }
}

/**
 * @param {Callable} handler @param {unknown} owner @param {Invocations} invocations @param {EventSettings} settings
 * @returns {(exchange: Exchange) => void}
 */
export function eventStyle(handler, owner, invocations, settings) {
  const { output } = invocations;

  /** @param {Exchange} exchange @param {Invocation} invocation @param {string} trigger @param {Buffer} body */
  function invoke(exchange, invocation, trigger, body) {
    /** @param {unknown} result */
    const settled = (result) => {
      if (invocation.over || invocation.ending) return;
      if (exchange.aborted) return invocation.end();
      try {
        answer(exchange, invocation, result, trigger);
      } catch (error) {
        fail(exchange, invocation, error instanceof BadHeader ? new BadAnswer(error.message) : error);
      }
    };
    /** @param {unknown} error */
    const failed = (error) => {
      if (!invocation.over && !invocation.ending) fail(exchange, invocation, error);
    };
    try {
      const input = trigger === "http" ? httpEvent(exchange, invocation.id, body) : triggerInput(exchange, body);
      const context = new Context(invocation, settings, trigger);
      const callback = (/** @type {unknown} */ error, /** @type {unknown} */ value) =>
        error === null || error === undefined ? settled(value) : failed(error);
      const result = output.run(invocation.id, () => handler.call(owner, input, context, callback));
      if (isThenable(result)) result.then(settled, failed);
      // With a callback it may answer later; without one, nothing is an answer too.
      else if (result !== undefined || handler.length < 3) settled(result);
    } catch (error) {
      failed(error);
    }
  }

  return function serve(exchange) {
    const invocation = invocations.begin(exchange.header("ebb-invocation-id"), exchange.header("ebb-deadline-ms"));
    const trigger = exchange.header("ebb-trigger") ?? "http";
    /** @param {unknown} error */
    const unread = (error) => {
      if (error instanceof TooLarge) tooLarge(exchange, invocation, settings.limitBytes);
      else invocation.end(); // the client has gone
    };
    try {
      const body = exchange.body.all(settings.limitBytes);
      exchange.onAbort = () => invocation.abort();
      if (body instanceof Promise) body.then((whole) => invoke(exchange, invocation, trigger, whole), unread);
      else invoke(exchange, invocation, trigger, body);
    } catch (error) {
      unread(error);
    }
  };
}

/** @param {unknown} value @returns {value is PromiseLike<unknown>} */
function isThenable(value) {
  return (
    typeof value === "object" &&
    value !== null &&
    typeof (/** @type {{ then?: unknown }} */ (value).then) === "function"
  );
}

/** @param {Exchange} exchange @param {Invocation} invocation @param {unknown} result @param {string} trigger */
function answer(exchange, invocation, result, trigger) {
  const structured = trigger === "http" && typeof result === "object" && result !== null && "statusCode" in result;
  const [status, headers, body] = structured ? structuredAnswer({ ...result }) : plainAnswer(result);
  exchange.answer(status, headers, body, () => invocation.endsWithAnswer());
  invocation.end();
}

/** A value by itself: text as it is, nothing as nothing, the rest as JSON. @param {unknown} result @returns {[number, FlatHeaders, string | Uint8Array | null]} */
function plainAnswer(result) {
  if (result === undefined || result === null) return [200, [], null];
  if (typeof result === "string") return [200, ["content-type", "text/plain; charset=utf-8"], result];
  if (result instanceof Uint8Array) return [200, ["content-type", "application/octet-stream"], result];
  return [200, ["content-type", "application/json"], json(result)];
}

/** @param {unknown} value @returns {string} */
function json(value) {
  let text;
  try {
    text = JSON.stringify(value);
  } catch (error) {
    throw new BadAnswer(
      `the handler's answer cannot be written as JSON: ${error instanceof Error ? error.message.split("\n")[0] : String(error)}`,
    );
  }
  if (text === undefined)
    throw new BadAnswer(`the handler's answer is a ${typeof value}, which cannot be written as JSON`);
  return text;
}

/** `{ statusCode, headers, multiValueHeaders, cookies, body, isBase64Encoded }`. @param {Record<string, unknown>} result @returns {[number, FlatHeaders, string | Uint8Array | null]} */
function structuredAnswer(result) {
  const status = Number(result["statusCode"]);
  if (!Number.isInteger(status) || status < 200 || status > 599)
    throw new BadAnswer(`the handler's statusCode is ${String(result["statusCode"])}, not a number from 200 to 599`);
  /** @type {FlatHeaders} */
  const headers = [];
  addHeaders(headers, result["headers"]);
  addHeaders(headers, result["multiValueHeaders"]);
  const cookies = result["cookies"];
  if (Array.isArray(cookies)) for (const cookie of cookies) headers.push("set-cookie", String(cookie));
  const { body } = result;
  if (body === undefined || body === null) return [status, headers, null];
  if (body instanceof Uint8Array) return [status, headers, body];
  if (result["isBase64Encoded"] === true)
    return [status, headers, Buffer.from(`${/** @type {string} */ (body)}`, "base64")];
  const isText = typeof body === "string";
  if (!hasHeader(headers, "content-type"))
    headers.push("content-type", isText ? "text/plain; charset=utf-8" : "application/json");
  return [status, headers, isText ? body : json(body)];
}

/** @param {FlatHeaders} headers @param {unknown} from */
function addHeaders(headers, from) {
  if (typeof from !== "object" || from === null) return;
  for (const [name, value] of Object.entries(from)) {
    if (Array.isArray(value)) for (const one of value) headers.push(name, String(one));
    else if (value !== undefined && value !== null) headers.push(name, String(value));
  }
}

/** @param {FlatHeaders} headers @param {string} name */
function hasHeader(headers, name) {
  for (let i = 0; i < headers.length; i += 2)
    if (/** @type {string} */ (headers[i]).toLowerCase() === name) return true;
  return false;
}
