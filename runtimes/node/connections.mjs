// The connections of a function whose answers this shim writes itself (web and event style).

import { Connection } from "./http1.mjs";
import { SharedConnection } from "./shared-connection.mjs";

/** @import { Socket } from "node:net" */
/** @import { Exchange } from "./http1.mjs" */
/** @import { FramedInvocation } from "./shared-connection.mjs" */

const sharedTarget = "/ebb/v1/shared";
const answersTarget = "/ebb/v1/answers/";

/** @param {(exchange: Exchange) => void} serve @param {(id: string) => void} tellDone */
export function connections(serve, tellDone) {
  /** @type {Set<Connection | SharedConnection>} */
  const open = new Set();
  /** Their answers have begun on a shared connection, and go on by another; by their ids. @type {Map<string, FramedInvocation>} */
  const moving = new Map();
  /** @param {Connection} connection */
  const closed = (connection) => {
    open.delete(connection);
    // ebb may have closed it before it read the head that says done: said again, it is heard.
    const id = connection.doneInHead?.header("ebb-invocation-id");
    if (id !== undefined) tellDone(id);
  };
  const keeper = {
    serve,
    tellDone,
    closed: (/** @type {SharedConnection} */ shared) => void open.delete(shared),
    moves: (/** @type {string} */ id, /** @type {FramedInvocation} */ invocation) => void moving.set(id, invocation),
    left: (/** @type {string} */ id) => void moving.delete(id),
  };
  /** What ebb itself asks. @param {Exchange} exchange @param {Connection} connection */
  const control = (exchange, connection) => {
    const { target } = exchange;
    const moved = target.startsWith(answersTarget) ? moving.get(target.slice(answersTarget.length)) : undefined;
    if (moved !== undefined) {
      moving.delete(target.slice(answersTarget.length));
      moved.moveTo(connection);
    } else if (target === sharedTarget && exchange.header("upgrade") !== undefined) {
      connection.exchange = null;
      open.delete(connection);
      open.add(new SharedConnection(connection, keeper));
    } else if (target.startsWith(answersTarget)) connection.socket.destroy();
    else exchange.answer(410, [], null, null);
  };
  /** @param {Exchange} exchange @param {Connection} connection */
  const request = (exchange, connection) => {
    // ebb marks its invocations; what comes to the control's paths without that mark is no invocation.
    if (exchange.target.startsWith("/ebb/v1/") && exchange.header("ebb-invocation-id") === undefined)
      control(exchange, connection);
    else serve(exchange);
  };
  return {
    accept: (/** @type {Socket} */ socket) => {
      const connection = new Connection(socket, (exchange) => request(exchange, connection), closed);
      open.add(connection);
    },
    /** Those that serve nothing now close now, the others after their answer. */
    close() {
      for (const connection of open) connection.finish();
    },
  };
}
