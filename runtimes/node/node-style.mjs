// Handlers of the node style: (req, res) of node:http, answered by node:http.

import { messageOf } from "./invocation.mjs";
import { hand } from "./listen.mjs";
import { NodeRequest, NodeResponse, bufferedBodies } from "./node-objects.mjs";
import { functionProblem, reportOf } from "./problem.mjs";
import { isSecondAssign, refuseAssign } from "./server.mjs";

/** @import { IncomingMessage as Incoming, ServerResponse as Outgoing } from "node:http" */
/** @import { Socket } from "node:net" */
/** @import { Invocation, Invocations } from "./invocation.mjs" */
/** @import { Callable } from "./recognise.mjs" */

/**
 * Waits for a body that is short and whose length is known, and puts it back: `req.body` then is there at once, and the
 * stream still streams for whoever reads it (body parsers).
 * @param {Incoming} request @param {number} limit @param {() => void} then
 */
function bufferBody(request, limit, then) {
  const length = Number(request.headers["content-length"] ?? Number.NaN);
  if (!(length > 0) || length > limit) return then();
  const take = () => {
    const body = request.read(length);
    // Less than that: its client has gone.
    if (body === null || body.length < length) return;
    request.off("readable", take);
    bufferedBodies.set(request, body);
    request.unshift(body);
    then();
  };
  request.on("readable", take);
}

/** Joins the end of a response with the handler's own end: the invocation is over when both are. */
class Answer {
  /** @param {Outgoing} response @param {Invocation} invocation @param {WeakMap<object, string>} doneInHead */
  constructor(response, invocation, doneInHead) {
    this.doneInHead = doneInHead;
    this.response = response;
    this.invocation = invocation;
    this.started = false;
    /** The handler has returned, and its promise is settled. */
    this.settled = false;
    /** The arguments of an end() that waits a turn for that. @type {unknown[] | null} */
    this.held = null;
    this.realEnd = response.end.bind(response);
    response.end = /** @type {Outgoing["end"]} */ ((/** @type {unknown[]} */ ...args) => this.end(args));
    response.once("close", () => {
      if (!response.writableFinished) invocation.abort();
      if (this.settled || !this.started) invocation.end();
    });
  }

  /** @param {unknown[]} args */
  end(args) {
    const { response } = this;
    if (this.held !== null || response.headersSent || response.writableEnded) return this.#end(args);
    if (this.settled) {
      this.#sayDone();
      return this.#end(args);
    }
    // The handler may be about to return: the answer waits a turn, so that its head can say that all is done. Meanwhile
    // it looks as ended as it is.
    this.held = args;
    for (const name of ["headersSent", "writableEnded"])
      Object.defineProperty(response, name, { configurable: true, get: () => true });
    setImmediate(() => this.release());
    return response;
  }

  release() {
    const args = this.held;
    if (args === null) return;
    this.held = null;
    for (const name of ["headersSent", "writableEnded"]) Reflect.deleteProperty(this.response, name);
    if (this.settled && !this.response.headersSent) this.#sayDone();
    this.#end(args);
  }

  /** In the head that is about to go out, where nothing is left to wait for. */
  #sayDone() {
    const { response, invocation } = this;
    if (response.socket === null || !invocation.endsWithAnswer()) return;
    response.setHeader("ebb-done", "1");
    this.doneInHead.set(response.socket, invocation.id);
  }

  /** @param {unknown[]} args @returns {Outgoing} */
  #end(args) {
    return Reflect.apply(this.realEnd, undefined, args);
  }

  handlerSettled() {
    this.settled = true;
    this.release();
    if (this.response.closed || this.response.writableFinished) this.invocation.end();
  }

  /** @param {unknown} error */
  handlerFailed(error) {
    const { invocation, response } = this;
    invocation.all.output.error(invocation.id, reportOf(error));
    this.settled = true;
    if (this.held !== null) this.release();
    else if (response.headersSent) response.destroy();
    else failHead(response, error);
    if (response.closed || response.writableFinished) invocation.end();
  }
}

/** @param {Callable} handler @param {unknown} owner @param {Invocations} invocations @param {number} limitBytes */
export function nodeStyle(handler, owner, invocations, limitBytes) {
  const http = process.getBuiltinModule("node:http");
  /** The last invocation of a connection whose head said that it is done. @type {WeakMap<object, string>} */
  const doneInHead = new WeakMap();
  const options = {
    IncomingMessage: NodeRequest,
    ServerResponse: NodeResponse,
    // ebb is the only peer: it keeps connections, and has deadlines of its own.
    keepAliveTimeout: 0,
    requestTimeout: 0,
    headersTimeout: 0,
    maxHeaderSize: 64 * 1024,
  };
  const server = http.createServer(options, (request, response) => {
    if (isSecondAssign(request)) return void refuseAssign(response);
    const { headers } = request;
    const invocation = invocations.begin(one(headers["ebb-invocation-id"]), one(headers["ebb-deadline-ms"]));
    const answer = new Answer(response, invocation, doneInHead);
    bufferBody(request, limitBytes, () => {
      answer.started = true;
      try {
        const result = invocations.output.run(invocation.id, () => handler.call(owner, request, response));
        if (typeof (/** @type {any} */ (result)?.then) === "function")
          Promise.resolve(result).then(
            () => answer.handlerSettled(),
            (error) => answer.handlerFailed(error),
          );
        else answer.handlerSettled();
      } catch (error) {
        answer.handlerFailed(error);
      }
    });
    return undefined;
  });
  server.maxHeadersCount = 256;
  return {
    accept(/** @type {Socket} */ socket) {
      // ebb may close it before it reads the head that says done: said again, it is heard.
      socket.once("close", () => {
        const id = doneInHead.get(socket);
        if (id !== undefined && id !== "") invocations.tellDone(id);
      });
      hand(server, socket);
    },
    close: () => server.closeIdleConnections(),
  };
}

/** @param {Outgoing} response @param {unknown} error */
function failHead(response, error) {
  for (const name of response.getHeaderNames()) response.removeHeader(name);
  const status = /** @type {{ statusCode?: unknown }} */ (error)?.statusCode === 400 ? 400 : 500;
  if (status === 400) {
    response.writeHead(400, { "content-type": "text/plain; charset=utf-8" });
    response.end(messageOf(error));
    return;
  }
  response.statusCode = 500;
  response.setHeader("content-type", "application/problem+json");
  response.setHeader("ebb-error", "function");
  response.end(functionProblem(error));
}

/** @param {string | string[] | undefined} value */
function one(value) {
  return Array.isArray(value) ? value[0] : value;
}
