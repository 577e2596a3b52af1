// The one assignment: environment, code, recognition, and from then on serving, draining and the words to the daemon.

import { resolveEntry, load, LoadError } from "./load.mjs";
import { exportsOf, recognise } from "./recognise.mjs";
import { Output } from "./output.mjs";
import { Invocations, stackOf, steadyMs } from "./invocation.mjs";
import { connections } from "./connections.mjs";
import { eventStyle } from "./event.mjs";
import { captureListen } from "./listen.mjs";
import { installWebObjects, webStyle } from "./web.mjs";

/** @import { Server, Socket } from "node:net" */
/** @import { Connection, Exchange } from "./http1.mjs" */
/** @import { Recognised, Shape } from "./recognise.mjs" */

/**
 * What the daemon says; see CONTRACT.md.
 * @typedef {{
 *   nonce: string, instance: string, code: string, entry: string | null, handler: string | null,
 *   signature: Shape | "server" | null, concurrency: number, env: Record<string, string>,
 *   limits: { timeoutMs: number, bufferedBodyBytes: number, memoryMb?: number, loadMs?: number }, check: boolean,
 *   cache?: "use" | "make" | null,
 * }} Assignment
 */
/**
 * `rehearsal`: a pooled shim plays this through with a sample; nothing is printed, guarded or kept.
 * @typedef {{
 *   bootMs: number, listener: Server, serving(take: (socket: Socket) => void): void,
 *   rehearsal: { output: Output, served(style: Style): void } | null,
 * }} Host
 */
/** How connections are served, and how that ends. @typedef {{ accept(socket: Socket): void, close(): void, active(): number, onIdle: (() => void) | null }} Style */

const programPort = 8080;
/** How long code that exports nothing may take until it listens. */
const listenMs = 10_000;
/** How long one that listens on another port than PORT has until the one on PORT comes, if one does. */
const otherPortMs = 20;
/** What a drain leaves for answers to reach the peer. */
const flushMs = 1_000;
/** The same where compiled code goes out, which ebb reads at its own pace. */
const cacheFlushMs = 15_000;

const lateHint =
  "Something awaited at the module's top level never settles: what is awaited there has to come to an end.";

/** @param {Exchange} exchange its answer has begun @param {Buffer} body the whole assignment @param {Host} host */
export async function assign(exchange, body, host) {
  const startMs = steadyMs();
  const assignment = /** @type {Assignment} */ (JSON.parse(body.toString()));
  const { code, env, check } = assignment;
  /** @param {unknown} value */
  const tell = (value) => exchange.write(`${JSON.stringify(value)}\n`);
  /** @type {string | null} */
  let entry = null;
  const leaving = () => {
    process.exitCode = 1;
    const error = new Error("the code ended the process while it was loading");
    tell({
      failed: { message: error.message, stack: stackOf(error), file: entry, line: null, column: null, hint: null },
    });
  };
  /** @param {unknown} error */
  const failed = (error) => {
    settle();
    void tellFailure(error);
  };
  /** @param {unknown} error */
  const tellFailure = async (error) => {
    try {
      const { describeFailure } = await import("./load-failure.mjs");
      tell({ failed: describeFailure(error, code, entry) });
    } finally {
      leave(exchange, 1);
    }
  };
  const { loadMs } = assignment.limits;
  const late = () => failed(new LoadError(`the code was still loading after ${Number(loadMs) / 1000} s`, lateHint));
  // A loop that never ends lets nothing through, this neither: ebb's own limit is for that.
  const timer = loadMs === undefined ? undefined : setTimeout(late, loadMs);
  const settle = () => {
    clearTimeout(timer);
    process.removeListener("exit", leaving);
    process.removeListener("uncaughtException", failed);
  };
  process.once("exit", leaving);
  // Also what is thrown beside the loading, from a timer or a promise that nobody waits for.
  process.once("uncaughtException", failed);
  try {
    Object.assign(process.env, env);
    process.chdir(code);
    const output = host.rehearsal?.output ?? new Output(assignment.nonce, assignment.concurrency);
    const resolved = resolveEntry(code, assignment.entry, assignment.handler);
    entry = resolved.entry;
    const made = assignment.cache ? (await import("./compile-cache.mjs")).enable(assignment.cache, code) : null;
    const rehearsed = host.rehearsal !== null;
    const { style, ready } = await become(assignment, { ...resolved, output, rehearsed }, tell);
    settle();
    if (host.rehearsal === null) guard(output);
    tell({ ready: { ...ready, phases: { bootMs: host.bootMs, importMs: steadyMs() - startMs } } });
    if (host.rehearsal !== null) host.rehearsal.served(style);
    else if (check) {
      if (made !== null) await made(tell);
      leave(exchange, 0, made === null ? flushMs : cacheFlushMs);
    } else {
      drainOnTerm(style, host, exchange);
      host.serving(style.accept);
    }
  } catch (error) {
    failed(error);
  }
}

/** Goes when what was said has gone out. @param {Exchange} exchange @param {number} status */
function leave(exchange, status, patienceMs = flushMs) {
  const { socket } = /** @type {Connection} */ (exchange.connection);
  exchange.end();
  socket.end(() => process.exit(status));
  setTimeout(() => process.exit(status), patienceMs);
}

/**
 * Loads the code and makes of it what it is.
 * @param {Assignment} assignment @param {{ entry: string, handler: string | null, output: Output, rehearsed: boolean }} from @param {(value: unknown) => void} tell
 */
async function become(assignment, { entry, handler, output, rehearsed }, tell) {
  const { code, signature, limits } = assignment;
  // In a rehearsal Node's own could not be put back without being read, which loads them.
  if (!rehearsed && (signature === null || signature === "web")) installWebObjects();
  const capture = captureListen(Number(process.env["PORT"] ?? programPort));
  const module = await load(code, entry);
  const invocations = new Invocations(output, (id) => tell({ done: id }));
  const shape = signature === "server" ? null : signature;
  const listens = capture.server !== null;
  const found = signature === "server" ? null : recognise(module, { handler, signature: shape, listens });
  if (found !== null && "refused" in found) throw new LoadError(`${found.refused} (${entry})`, found.hint);
  if (found === null) {
    if (!capture.exact) await untilListening(capture, module, entry);
    const { serverStyle } = await import("./server.mjs");
    const style = serverStyle(capture, output);
    return { style, ready: { entry, handler: null, signature: "server", done: "response" } };
  }
  capture.release();
  const shares = found.shape !== "node" && assignment.concurrency > 1;
  const style = await styleOf(found, invocations, limits);
  return { style, ready: { entry, handler: found.handler, signature: found.shape, done: "told", shares } };
}

/** @param {Recognised} found @param {Invocations} invocations @param {Assignment["limits"]} limits @returns {Promise<Style>} */
async function styleOf(found, invocations, limits) {
  const lifecycle = {
    active: () => invocations.active,
    set onIdle(/** @type {(() => void) | null} */ call) {
      invocations.onIdle = call;
    },
  };
  if (found.shape === "node") {
    const { nodeStyle } = await import("./node-style.mjs");
    return Object.assign(lifecycle, nodeStyle(found.call, found.owner, invocations, limits.bufferedBodyBytes));
  }
  if (found.shape === "web") {
    return Object.assign(
      lifecycle,
      connections(webStyle(found, invocations, { ...process.env }), invocations.tellDone),
    );
  }
  const settings = { limitBytes: limits.bufferedBodyBytes, memoryMb: limits.memoryMb ?? 0, env: { ...process.env } };
  return Object.assign(
    lifecycle,
    connections(eventStyle(found.call, found.owner, invocations, settings), invocations.tellDone),
  );
}

/** Code that exports nothing may listen a while after it has loaded. @param {import("./listen.mjs").Capture} capture @param {unknown} module @param {string} entry */
async function untilListening(capture, module, entry) {
  await new Promise((resolve, reject) => {
    const exported = exportsOf(module);
    const hint =
      exported === ""
        ? "Export fetch, handle, GET, … or a default function, or call listen()."
        : `It exports: ${exported}. Say which one handles with handler: and signature: in ebb.yaml.`;
    const giveUp = () => {
      if (capture.server !== null) resolve(undefined);
      else reject(new LoadError(`nothing that handles is exported, and nothing listens (${entry})`, hint));
    };
    // With exports there is no sense in waiting; with a listener on another port, the right one may be about to come.
    const waitMs = capture.server !== null ? otherPortMs : exported === "" ? listenMs : 0;
    const timer = setTimeout(giveUp, waitMs);
    capture.onAdopted = () => {
      clearTimeout(timer);
      if (capture.exact) resolve(undefined);
      else setTimeout(giveUp, otherPortMs);
    };
  });
}

/** An error that no invocation catches ends the instance, as Node itself would. @param {Output} output */
function guard(output) {
  /** @param {unknown} error */
  const die = (error) => {
    output.error(null, `${stackOf(error)}\n`);
    process.exit(1);
  };
  process.on("uncaughtException", die);
  process.on("unhandledRejection", die);
}

/** @param {Style} style @param {Host} host @param {Exchange} control */
function drainOnTerm(style, host, control) {
  let draining = false;
  // What a shared connection has to say goes out at the end of the turn.
  const idle = () => setImmediate(leave, control, 0);
  process.on("SIGTERM", () => {
    if (draining) return;
    draining = true;
    host.listener.close();
    style.close();
    style.onIdle = idle;
    if (style.active() === 0) idle();
  });
}
