// What a pooled shim does while it waits: it loads and runs once whatever its function's first moment would otherwise pay for.

import { Connection } from "./http1.mjs";
import { connections } from "./connections.mjs";
import { eventStyle } from "./event.mjs";
import { Invocations } from "./invocation.mjs";
import { recognise } from "./recognise.mjs";
import { webStyle } from "./web.mjs";
import { Response } from "./web-response.mjs";

/** @import { Socket } from "node:net" */
/** @import { Output } from "./output.mjs" */
/** @import { Exchange } from "./http1.mjs" */
/** @import { Recognised } from "./recognise.mjs" */

/** Rehearsals of each style: enough for V8 to have compiled and warmed what they run through. */
const rounds = 20;

/** Every shape may come; nothing here knows or touches any code of a tenant's, or writes any output. */
export async function warm() {
  await Promise.all([
    import("./assign.mjs"),
    import("./compile-cache.mjs"),
    import("./node-style.mjs"),
    import("./server.mjs"),
    import("./warm-module.cjs"),
  ]);
  process.getBuiltinModule("node:http").createServer();
  process.getBuiltinModule("node:async_hooks");
  // Node's own fetch and its classes take 30 ms to load at their first use.
  await fetch("data:,");
  const silent = /** @type {Output} */ (
    /** @type {unknown} */ ({
      context: null,
      begin() {},
      end() {},
      error() {},
      run: (/** @type {string} */ _id, /** @type {() => unknown} */ call) => call(),
    })
  );
  const invocations = new Invocations(silent, () => {});
  const settings = { limitBytes: 1024, memoryMb: 0, env: {} };
  const event = eventStyle(() => ({ statusCode: 200, body: "warm" }), undefined, invocations, settings);
  const web = webStyle(rehearsed("fetch"), invocations, {});
  for (let round = 0; round < rounds; round++) {
    rehearse(event);
    rehearse(web);
  }
  rehearse((exchange) => {
    exchange.begin(200, ["content-type", "application/x-ndjson"]);
    exchange.write("{}\n");
  });
  connections(event, () => {});
}

/** @param {string} name @returns {Recognised} */
function rehearsed(name) {
  const module = { default: { [name]: () => new Response("warm") } };
  return /** @type {Recognised} */ (recognise(module, { handler: null, signature: null, listens: false }));
}

const request = Buffer.from(
  "POST /?warm=1 HTTP/1.1\r\nhost: warm.localhost\r\ncontent-type: application/json\r\ncontent-length: 2\r\nebb-invocation-id: warm\r\nebb-deadline-ms: 1000\r\n\r\n{}",
);

/** One request through parser, handler and answer, on a socket that is none. @param {(exchange: Exchange) => void} serve */
function rehearse(serve) {
  /** @type {Record<string, (chunk: Buffer) => void>} */
  const listeners = {};
  const socket = {
    on: (/** @type {string} */ event, /** @type {(chunk: Buffer) => void} */ call) => void (listeners[event] = call),
    write: () => true,
    cork() {},
    uncork() {},
    resume() {},
    pause() {},
    end() {},
    destroy() {},
  };
  const connection = new Connection(/** @type {Socket} */ (/** @type {unknown} */ (socket)), serve, () => {});
  listeners["data"]?.(request);
  connection.finish();
}
