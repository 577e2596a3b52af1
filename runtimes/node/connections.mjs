// The connections of a function whose answers this shim writes itself (web and event style).

import { Connection } from "./http1.mjs";

/** @import { Socket } from "node:net" */
/** @import { Exchange } from "./http1.mjs" */

/** @param {(exchange: Exchange) => void} serve @param {(id: string) => void} tellDone */
export function connections(serve, tellDone) {
  /** @type {Set<Connection>} */
  const open = new Set();
  /** @param {Connection} connection */
  const closed = (connection) => {
    open.delete(connection);
    // ebb may have closed it before it read the head that says done: said again, it is heard.
    const id = connection.doneInHead?.header("ebb-invocation-id");
    if (id !== undefined) tellDone(id);
  };
  /** @param {Exchange} exchange */
  const request = (exchange) => {
    // ebb marks its invocations; what comes to the control's path without that mark is no invocation.
    if (exchange.target === "/ebb/v1/assign" && exchange.header("ebb-invocation-id") === undefined)
      exchange.answer(410, [], null, null);
    else serve(exchange);
  };
  return {
    accept: (/** @type {Socket} */ socket) => void open.add(new Connection(socket, request, closed)),
    /** Those that serve nothing now close now, the others after their answer. */
    close() {
      for (const connection of open) connection.finish();
    },
  };
}
