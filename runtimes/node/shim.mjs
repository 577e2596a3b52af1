// The Node runtime's shim: listens on fd 3, is told once over its first connection which code to load, and serves it.
// What is started is made of this and all that it imports, as one file (tools/shim.ts); what not every function needs is imported when it is.

import { assign } from "./assign.mjs";
import { Connection } from "./http1.mjs";
import { listenAlone } from "./listen.mjs";
import { replaceStreams } from "./output.mjs";

/** @import { Socket } from "node:net" */
/** @import { Exchange } from "./http1.mjs" */

// Not by import, here and in all that is loaded before the function: an import runs the getters of everything that the module
// exports (fs.promises; http even loads fetch), which is 3 ms of a cold start for fs alone.
const net = process.getBuiltinModule("node:net");

/** How long nothing may happen until the pooled shim warms up what every function needs. */
const quietMs = 5;
/** The same for what some need: in a crowd it is not done for the others, who come sooner. */
const idleMs = 1_000;
const assignTarget = "/ebb/v1/assign";
const assignmentBytes = 8 * 1024 * 1024;

/** Takes a connection that carries invocations; null until the function is ready. @type {((socket: Socket) => void) | null} */
let accept = null;
/** Connections that came before that. @type {Socket[]} */
const waiting = [];
/** @type {Connection | null} */
let control = null;
let assigned = false;
let bootMs = 0;
/** Ends in the middle when there is an assignment. @type {Promise<void> | null} */
let warming = null;
/** When there is more to warm up. @type {NodeJS.Timeout | undefined} */
let next;

// A waiting connection is not read: its request stays in the socket, and its back-pressure with it.
const listener = net.createServer({ pauseOnConnect: true });

/** @param {Socket} socket */
function come(socket) {
  if (accept !== null) accept(socket);
  else if (control === null) control = new Connection(socket, controlled, gone);
  else waiting.push(socket);
}

/** The daemon's own connection; what it asks first is the assignment. @param {Exchange} exchange */
function controlled(exchange) {
  if (exchange.method !== "POST" || exchange.target !== assignTarget) {
    exchange.answer(503, ["content-type", "text/plain"], "no code has been assigned yet\n", null);
    return;
  }
  take(exchange).catch(die);
}

/** Its head may come long before the rest. @param {Exchange} exchange */
async function take(exchange) {
  const body = await exchange.body.all(assignmentBytes);
  assigned = true;
  clearTimeout(next);
  // At once: the daemon waits no longer than it must for a word from a shim that is still at something else.
  exchange.begin(200, ["content-type", "application/x-ndjson"]);
  await warming;
  await assign(exchange, body, {
    bootMs,
    listener,
    rehearsal: null,
    serving(take) {
      accept = take;
      for (const socket of waiting.splice(0)) if (!socket.destroyed) take(socket);
    },
  });
}

/** Its daemon is dead, or has no use for it. @param {Connection} connection */
function gone(connection) {
  if (connection === control) process.exit(0);
}

/** The shim's own fault. @param {unknown} error */
function die(error) {
  console.error(error);
  process.exit(70);
}

function listening() {
  bootMs = process.uptime() * 1_000;
  next = setTimeout(() => void (warming = warmUp().catch(die)), quietMs);
}

async function warmUp() {
  const { warm, warmMore } = await import("./warm.mjs");
  const over = () => assigned;
  if (!assigned) await warm(over);
  if (!assigned) next = setTimeout(() => void (warming = warmMore(over).catch(die)), idleMs);
}

replaceStreams();
listener.on("error", die);
const port = process.env["EBB_LISTEN"];
if (port === undefined) listenAlone(listener.on("connection", come), { fd: 3 }, listening);
else {
  delete process.env["EBB_LISTEN"];
  import("./tcp.mjs").then(({ listenByTcp }) => listenByTcp(listener, port, come, listening)).catch(die);
}
// As process 1 of its namespace a signal without a handler would be ignored. Once there is code, its drain takes over.
process.on("SIGTERM", () => {
  if (!assigned) process.exit(0);
});
// A terminal's: ebb itself decides then.
process.on("SIGINT", () => {});
