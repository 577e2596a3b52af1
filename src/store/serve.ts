// The worker's side of the store: takes calls from the port, one after the other, and answers them.

import type { MessagePort } from "node:worker_threads";
import { giveBack } from "#lib/give-back.ts";
import { EbbError } from "#model/errors.ts";
import type { StoreDriver } from "./driver.ts";
import { sendError, type FromWorker, type Method, type ToWorker } from "./protocol.ts";

/** What looks after the journal in this worker (metering/keeper.ts). */
export interface JournalKeeping {
  start(): Promise<void>;
  wake(): void;
  load(): Promise<unknown>;
  stop(): Promise<void>;
}

export interface ServeOptions {
  readonly port: MessagePort;
  readonly driver: StoreDriver;
  /** Called once the driver is open. */
  readonly keep: (failed: (where: string, error: unknown) => void) => JournalKeeping;
}

const methods: ReadonlySet<string> = new Set<Method>([
  ...([
    "load",
    "apply",
    "audit",
    "audits",
    "revisions",
    "runs",
    "openRuns",
    "updateRuns",
    "contentDigests",
    "invocations",
    "usage",
    "retention",
  ] as const),
  ...(["journal", "commit", "recordDays", "deleteRecords", "totalHours", "deleteTotals"] as const),
  ...(["lastRetention", "retained"] as const),
]);
/** These answer for what has run until now, so the journal is loaded to its end first. */
const ofLedger: ReadonlySet<string> = new Set<Method>(["invocations", "usage", "retention"]);

export async function serveStore({ port, driver, keep }: ServeOptions): Promise<void> {
  const send = (message: FromWorker): void => port.postMessage(message);
  try {
    await driver.open();
  } catch (error) {
    send({ kind: "cannot_open", error: sendError(error) });
    port.close();
    return;
  }
  const failed = (where: string, error: unknown): void => send({ kind: "defect", where, error: sendError(error) });
  const keeper = keep(failed);
  await keeper.start();
  // One at a time, in the order they came: the mirror applies answers as they arrive.
  let turn: Promise<void> = Promise.resolve();

  const call = async (id: number, method: Method, args: readonly unknown[]): Promise<void> => {
    try {
      if (!methods.has(method)) throw new EbbError("internal", `the store has no method ${method}`);
      if (ofLedger.has(method)) await keeper.load();
      const run = driver[method] as (...args: unknown[]) => Promise<unknown>;
      send({ kind: "answer", id, value: await run(...args) });
    } catch (error) {
      send({ kind: "failed", id, error: sendError(error) });
    }
  };
  const rest = async (): Promise<void> => {
    await driver.rest().catch((error: unknown) => failed("store: rest", error));
    giveBack({ thoroughly: true });
  };
  const stop = async (): Promise<void> => {
    let problem: unknown = null;
    for (const step of [() => keeper.stop(), () => driver.close()])
      try {
        await step();
      } catch (error) {
        problem ??= error;
      }
    send({ kind: "stopped", error: problem === null ? null : sendError(problem) });
    port.close();
  };

  port.on("message", (message: ToWorker) => {
    if (message.kind === "wake") return keeper.wake();
    turn = turn.then(() => {
      if (message.kind === "rest") return rest();
      return message.kind === "call" ? call(message.id, message.method, message.args) : stop();
    });
  });
  send({ kind: "ready" });
}
