// Signature "server": the function's own HTTP server answers; an invocation ends with its response, or with the socket that it has
// upgraded (a WebSocket).

import { invocationBegins } from "./collector.mjs";
import { hand } from "./listen.mjs";

/** @import { IncomingMessage, ServerResponse } from "node:http" */
/** @import { Server, Socket } from "node:net" */
/** @import { Capture } from "./listen.mjs" */
/** @import { Output } from "./output.mjs" */

/**
 * @param {Capture} capture @param {Output} output
 * @returns {{ accept(socket: Socket): void, close(): void, active(): number, onIdle: (() => void) | null }}
 */
export function serverStyle(capture, output) {
  let active = 0;
  /** @type {WeakSet<Server>} */
  const watched = new WeakSet();
  const style = {
    accept(/** @type {Socket} */ socket) {
      // Looked up each time: one that names the right port may have come after another.
      const server = /** @type {Server} */ (capture.server);
      if (!watched.has(server)) watch(server);
      hand(server, socket);
    },
    close() {
      const server = /** @type {Server} */ (capture.server);
      server.close(() => {});
      /** @type {Partial<import("node:http").Server>} */ (server).closeIdleConnections?.();
    },
    active: () => active,
    onIdle: /** @type {(() => void) | null} */ (null),
  };

  /** @param {IncomingMessage} request */
  function enter(request) {
    const id = String(request.headers["ebb-invocation-id"] ?? "");
    active += 1;
    invocationBegins();
    output.begin(id);
    let over = false;
    const finish = () => {
      if (over) return;
      over = true;
      output.end(id);
      active -= 1;
      if (active === 0) style.onIdle?.();
    };
    return { id, finish };
  }

  /** @param {IncomingMessage} request @param {ServerResponse} response */
  function begin(request, response) {
    const { id, finish } = enter(request);
    // The mark goes before the last bytes do, so that whoever has the answer has the output.
    const end = response.end.bind(response);
    response.end = /** @type {typeof response.end} */ (
      (/** @type {any[]} */ ...args) => {
        finish();
        return Reflect.apply(end, response, args);
      }
    );
    response.once("close", finish);
    return id;
  }

  /** Sees the requests of a server before its own listeners do. @param {Server} server */
  function watch(server) {
    watched.add(server);
    const emit = server.emit.bind(server);
    server.emit = /** @type {typeof server.emit} */ (
      (/** @type {string} */ event, /** @type {any[]} */ ...args) => {
        if (event === "upgrade") {
          const { id, finish } = enter(args[0]);
          /** @type {Socket} */ (args[1]).once("close", finish);
          return output.run(id, () => emit(event, ...args));
        }
        if (event !== "request" && event !== "checkContinue") return emit(event, ...args);
        const [request, response] = /** @type {[IncomingMessage, ServerResponse]} */ (args);
        if (isSecondAssign(request)) return refuseAssign(response);
        const id = begin(request, response);
        return output.run(id, () => emit(event, ...args));
      }
    );
  }
  return style;
}

/** ebb marks its invocations; what comes to the control's path without that mark is no invocation. @param {IncomingMessage} request */
export function isSecondAssign(request) {
  return request.url === "/ebb/v1/assign" && request.headers["ebb-invocation-id"] === undefined;
}

/** @param {ServerResponse} response */
export function refuseAssign(response) {
  response.writeHead(410, { "content-length": 0 }).end();
  return true;
}
