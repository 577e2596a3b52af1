// node:http without what an import of it brings along: that runs the getters of everything it exports, and two of them load
// undici (fetch, WebSocket), which then takes 6 MiB for good and 60 ms of the start.

export const { Agent, createServer, IncomingMessage, METHODS, request, ServerResponse, STATUS_CODES } =
  process.getBuiltinModule("node:http");
