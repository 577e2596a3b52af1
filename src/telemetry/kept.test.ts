// The output of a run, kept by another process, comes into the log once: also where whoever read it died in the middle.

import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { KeptWriter } from "#lib/kept-output.ts";
import { VirtualClock } from "#lib/virtual-clock.ts";
import { newInvocationId } from "#model/ids.ts";
import { logLimits } from "#model/limits.ts";
import type { LogLine } from "./door.ts";
import type { FromWorker } from "./protocol.ts";
import { TelemetryServer } from "./serve.ts";

class Reading {
  readonly server: TelemetryServer;
  readonly clock = new VirtualClock();
  #waiting: Array<{ readonly id: number; readonly resolve: (value: unknown) => void }> = [];
  readonly #stopped = Promise.withResolvers<void>();
  #ids = 0;

  constructor(directory: string) {
    const post = (message: FromWorker): void => {
      if (message.kind === "stopped") this.#stopped.resolve();
      if (message.kind !== "answer") return;
      this.#waiting.find(({ id }) => id === message.id)?.resolve(message.value);
    };
    this.server = new TelemetryServer({ directory, keptBytes: null, segmentBytes: null, clock: this.clock, post });
  }

  async ask(message: (id: number) => Parameters<TelemetryServer["receive"]>[0]): Promise<unknown> {
    const id = ++this.#ids;
    const answer = new Promise((resolve) => this.#waiting.push({ id, resolve }));
    this.server.receive(message(id));
    return answer;
  }

  stop(): Promise<void> {
    this.server.receive({ kind: "stop" });
    return this.#stopped.promise;
  }

  async lines(): Promise<readonly LogLine[]> {
    return (await this.ask((id) => ({ kind: "logs", id, query: { project: "default", limit: 100 } }))) as LogLine[];
  }
}

test("lines that are in the log are not read again, begun ones are whole, and each has the time of its writing", async (t) => {
  const directory = fs.mkdtempSync(join(os.tmpdir(), "ebb-kept-"));
  t.after(() => fs.rmSync(directory, { recursive: true }));
  const folder = join(directory, "runs");
  fs.mkdirSync(folder);
  let nowMs = Date.now() + 10;
  const bounds = { segmentBytes: logLimits.keptSegmentBytes, segments: 4 };
  const writer = new KeptWriter(folder, bounds, () => nowMs);
  const invocation = newInvocationId(Date.now());
  const options = {
    instance: "i1",
    project: "default",
    workload: "job",
    nonce: null,
    concurrency: 1,
    source: { kind: "kept", folder } as const,
    execution: { run: "r1", invocation },
  };
  const first = new Reading(join(directory, "logs"));
  first.server.receive({ kind: "attach", options });
  writer.write(1, Buffer.from("one\ntwo\nthr"));
  writer.write(2, Buffer.from("problem\n"));
  const texts = (lines: readonly LogLine[]): string[] => lines.map(({ stream, message }) => `${stream}: ${message}`);
  assert.deepEqual(texts(await first.lines()), ["stdout: one", "stdout: two", "stderr: problem"]);
  const before = nowMs;
  // That one is dead: it says and writes nothing any more. The run goes on.
  nowMs += 60_000;
  writer.write(1, Buffer.from("ee\nfour\n"));
  writer.write(2, Buffer.from("another\n"));
  writer.write(1, Buffer.from("without an end"));
  writer.close();
  const second = new Reading(join(directory, "logs"));
  second.server.receive({ kind: "attach", options: { ...options, resumes: true } });
  second.server.receive({ kind: "detach", instance: "i1" });
  await second.ask((id) => ({ kind: "settle", id, instance: "i1", project: "default" }));
  const all = await second.lines();
  assert.deepEqual(texts(all), [
    "stdout: one",
    "stdout: two",
    "stderr: problem",
    "stdout: three",
    "stdout: four",
    "stderr: another",
    "stdout: without an end",
  ]);
  assert.deepEqual([...new Set(all.map(({ time }) => time))], [before, nowMs]);
  assert.deepEqual([...new Set(all.map((line) => line.invocation))], [invocation]);
  await first.stop();
  await second.stop();
});
