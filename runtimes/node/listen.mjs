// Code that listens itself (Express, Fastify, Koa, …): its server is given the connections of fd 3 instead of a port. And how the shim
// itself listens.

/** @import { Socket, Server } from "node:net" */

const net = process.getBuiltinModule("node:net");

/** `exact`: its listen() named the right port. @typedef {{ server: Server | null, exact: boolean, onAdopted: (() => void) | null, release(): void }} Capture */

/**
 * From here on `listen()` is looked at. The first that names `port` is adopted; before one does, the first of any fixed port. A second
 * one for the same port hears that it listens and never gets a connection (Fastify does so for `localhost` on IPv6);
 * any other listens for real, inside its own sandbox.
 * @param {number} port @returns {Capture}
 */
export function captureListen(port) {
  // oxlint-disable-next-line typescript/unbound-method -- it is applied to the server it is called on
  const { listen } = net.Server.prototype;
  /** @type {{ server: Server, args: unknown[], exact: boolean } | null} */
  let adopted = null;
  /** @type {Capture} */
  const capture = {
    server: null,
    exact: false,
    onAdopted: null,
    release() {
      net.Server.prototype.listen = listen;
    },
  };
  /** @this {Server} @param {unknown[]} args */
  function captured(...args) {
    const asked = portOf(args);
    if (asked === null || (asked === 0 && port !== 0)) return Reflect.apply(listen, this, args);
    const exact = asked === port;
    if (adopted === null || (exact && !adopted.exact)) {
      const before = adopted;
      adopted = { server: this, args, exact };
      capture.server = this;
      capture.exact = exact;
      pretend(this, args, port);
      if (before !== null) listenForReal(before, listen);
      capture.onAdopted?.();
    } else if (exact) pretend(this, args, port);
    else Reflect.apply(listen, this, args);
    return this;
  }
  net.Server.prototype.listen = /** @type {typeof listen} */ (captured);
  return capture;
}

/** What was adopted before the real one came. @param {{ server: Server, args: unknown[] }} before @param {Function} listen */
function listenForReal(before, listen) {
  internals(before.server)._handle = null;
  // Its callback has been called, or will be, by the pretence.
  Reflect.apply(
    listen,
    before.server,
    before.args.filter((arg) => typeof arg !== "function"),
  );
}

/** The port that a call of listen() names; null: a path, a handle or a descriptor. @param {unknown[]} args @returns {number | null} */
function portOf(args) {
  const [first] = args;
  if (typeof first === "object" && first !== null) {
    const options = /** @type {Record<string, unknown>} */ (first);
    if (options["path"] !== undefined || options["fd"] !== undefined || options["_handle"] !== undefined) return null;
    return Number(options["port"] ?? 0);
  }
  if (first === undefined || typeof first === "function" || first === null) return 0;
  const number = Number(first);
  return Number.isInteger(number) ? number : null;
}

/** @param {Server} server @returns {{ _handle: unknown }} */
function internals(server) {
  return /** @type {any} */ (server);
}

/** Makes a server believe that it listens. @param {Server} server @param {unknown[]} args @param {number} port */
function pretend(server, args, port) {
  const callback = args.findLast((arg) => typeof arg === "function");
  if (callback !== undefined) server.once("listening", /** @type {() => void} */ (callback));
  // What listening, address(), close(), ref() and unref() of net.Server look at.
  internals(server)._handle = {
    close: (/** @type {(() => void) | undefined} */ done) => done?.(),
    ref() {},
    unref() {},
    hasRef: () => true,
    getsockname: (/** @type {Record<string, unknown>} */ out) =>
      (Object.assign(out, { address: "0.0.0.0", family: "IPv4", port }), 0),
  };
  // ebb is the only peer: it keeps connections, and has deadlines of its own.
  if ("keepAliveTimeout" in server)
    Object.assign(server, { keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 0 });
  process.nextTick(() => {
    if (server.listening) server.emit("listening");
  });
}

/** Hands a connection to a server as if it had accepted it. @param {Server} server @param {Socket} socket */
export function hand(server, socket) {
  /** @type {any} */ (socket).server = server;
  server.emit("connection", socket);
  socket.resume();
}

/**
 * listen() without what it loads to see whether this is a worker of node:cluster, which a shim never is: twelve of Node's modules.
 * @param {Server} server @param {string | { fd: number }} at a path, or what listens already @param {() => void} listening
 */
export function listenAlone(server, at, listening) {
  const alone = /** @type {{ _listen2?: Function }} */ (server)._listen2;
  // Its name since before there was listen({ fd }), and kept because others wrap it.
  if (typeof alone !== "function") {
    server.listen(at, listening);
    return;
  }
  server.once("listening", listening);
  if (typeof at === "string") alone.call(server, at, -1, -1);
  else alone.call(server, null, null, null, undefined, at.fd);
}
