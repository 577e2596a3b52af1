// A pooled shim's rehearsal: an assignment and some invocations of a sample function, over real sockets, so that nothing of it runs
// for the first time when its own function comes. What it changes in the process it puts back.

import { assign } from "./assign.mjs";
import { Connection } from "./http1.mjs";
import { listenAlone } from "./listen.mjs";
import { Output } from "./output.mjs";

/** @import { Socket } from "node:net" */
/** @import { Assignment, Style } from "./assign.mjs" */
/** @import { Exchange } from "./http1.mjs" */

const fs = process.getBuiltinModule("node:fs");
const net = process.getBuiltinModule("node:net");

/** Where this file is, and what it loads in place of a function. */
const code = import.meta.dirname;
const samples = /** @type {const} */ ([
  { entry: "warm-module.mjs", handler: null, signature: "web" },
  { entry: "warm-module.cjs", handler: "handle", signature: "event" },
]);
const assignmentBytes = 64 * 1024;

/** @param {number} rounds of each style @param {() => boolean} over there is an assignment: it ends as soon as it can */
export async function rehearse(rounds, over) {
  const folder = process.cwd();
  /** @type {((style: Style) => void) | null} */
  let served = null;
  /** @type {PromiseWithResolvers<Style>} */
  let serving = Promise.withResolvers();
  /** @type {Set<Connection>} */
  const controls = new Set();
  // Behind a folder that is its own: whoever connected could have it load what he likes, and without isolation others are there.
  const place = fs.mkdtempSync(`/tmp/ebb-rehearsal-${process.pid}-`);
  const path = `${place}/s`;
  const nowhere = fs.openSync("/dev/null", "w");
  const listener = net.createServer({ pauseOnConnect: true }, (socket) => {
    if (served === null) {
      served = serving.resolve;
      controls.add(
        new Connection(
          socket,
          (exchange) => void taken(exchange),
          (control) => controls.delete(control),
        ),
      );
    } else {
      // The second, as in earnest, waits for the assignment's end.
      void serving.promise.then((style) => style.accept(socket));
    }
  });
  /** @param {Exchange} exchange */
  const taken = async (exchange) => {
    const body = await exchange.body.all(assignmentBytes);
    exchange.begin(200, ["content-type", "application/x-ndjson"]);
    // What it marks goes nowhere.
    const output = new Output("", 1, [nowhere]);
    const rehearsal = { output, served: (/** @type {Style} */ style) => served?.(style) };
    await assign(exchange, body, { bootMs: 0, listener, serving() {}, rehearsal });
  };
  try {
    await new Promise((resolve, reject) => {
      listener.on("error", reject);
      listenAlone(listener, path, () => resolve(undefined));
    });
    for (let round = 0; round < rounds; round++)
      for (const sample of samples) {
        if (over()) return;
        served = null;
        serving = Promise.withResolvers();
        await play(path, sample);
      }
  } finally {
    listener.close();
    fs.closeSync(nowhere);
    fs.rmSync(place, { recursive: true });
    process.chdir(folder);
  }
}

/** @param {string} path @param {(typeof samples)[number]} sample */
async function play(path, sample) {
  /** @type {Assignment} */
  const assignment = {
    ...sample,
    nonce: "",
    instance: "",
    code,
    concurrency: 1,
    env: {},
    limits: { timeoutMs: 1_000, bufferedBodyBytes: 1_024, memoryMb: 128, loadMs: 1_000 },
    check: false,
  };
  const body = JSON.stringify(assignment);
  const control = net.connect(path);
  const data = net.connect(path);
  try {
    control.write(
      "POST /ebb/v1/assign HTTP/1.1\r\nhost: warm\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    const ready = until(control, "}\n");
    control.write(`${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`);
    await ready;
    const answer = until(data, "warm");
    data.write(
      "POST /?warm=1 HTTP/1.1\r\nhost: warm\r\ncontent-type: application/json\r\ncontent-length: 2\r\nebb-invocation-id: warm\r\nebb-deadline-ms: 1000\r\n\r\n{}",
    );
    await answer;
  } finally {
    control.destroy();
    data.destroy();
  }
}

/** @param {Socket} socket @param {string} text @returns {Promise<void>} once it has been received */
function until(socket, text) {
  return new Promise((resolve, reject) => {
    let received = "";
    socket.on("data", (chunk) => {
      received += chunk.toString("latin1");
      if (received.includes(text)) resolve();
    });
    socket.on("close", () => reject(new Error(`the rehearsal went wrong: ${received}`)));
    socket.on("error", () => {});
  });
}
