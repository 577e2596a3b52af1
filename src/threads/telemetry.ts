// The telemetry worker thread: reads the sandboxes' output, so that the main thread never does. Wiring, no logic.

import { parentPort, workerData } from "node:worker_threads";
import { yieldToMain } from "#lib/thread-priority.ts";
import { systemClock } from "#model/clock.ts";
import { Gathering } from "#telemetry/gathering.ts";
import type { FromWorker, TelemetryWorkerData, ToWorker } from "#telemetry/protocol.ts";
import { TelemetryServer } from "#telemetry/serve.ts";

const port = parentPort;
if (!port) throw new Error("the telemetry worker is started by the daemon, not by hand");
yieldToMain();
const post = (message: FromWorker): void => {
  port.postMessage(message);
  if (message.kind === "stopped") port.close();
};
const cell = new Int32Array(new SharedArrayBuffer(4));
const gathering = new Gathering({ sleep: (ms) => void Atomics.wait(cell, 0, 0, ms), afterTurn: setImmediate });
const server = new TelemetryServer({ ...(workerData as TelemetryWorkerData), clock: systemClock, post, gathering });
port.on("message", (message: ToWorker) => server.receive(message));
post({ kind: "ready" });
