// The worker's side in time that is moved by hand: when lines are looked at, and what is known by then.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { VirtualClock } from "#lib/virtual-clock.ts";
import { newInvocationId, type InvocationId } from "#model/ids.ts";
import { logLimits } from "#model/limits.ts";
import type { LogLine } from "./door.ts";
import type { FromWorker } from "./protocol.ts";
import { TelemetryServer } from "./serve.ts";

const nonce = "0123456789abcdef0123456789abcdef";

class Worker {
  readonly clock = new VirtualClock();
  readonly server: TelemetryServer;
  readonly #answers: FromWorker[] = [];
  readonly #out: number;
  readonly #frames: number;

  constructor(t: TestContext, concurrency: number) {
    const directory = fs.mkdtempSync(join(os.tmpdir(), "ebb-telemetry-"));
    this.server = new TelemetryServer({
      directory: join(directory, "logs"),
      keptBytes: null,
      segmentBytes: null,
      clock: this.clock,
      post: (message) => void this.#answers.push(message),
    });
    const [stdout, stderr, frames] = ["1", "2", "4"].map((name) => join(directory, name)) as [string, string, string];
    execFileSync("mkfifo", [stdout, stderr, frames]);
    const options = { instance: "i1", project: "default", workload: "hello", nonce, concurrency };
    this.server.receive({ kind: "attach", options: { ...options, source: { kind: "fifo", stdout, stderr, frames } } });
    // As whoever holds them open does: nobody waits for a reader.
    this.#out = fs.openSync(stdout, "r+");
    this.#frames = fs.openSync(frames, "r+");
    t.after(async () => {
      this.server.receive({ kind: "stop" });
      await this.#answer((message) => message.kind === "stopped");
      for (const fd of [this.#out, this.#frames]) fs.closeSync(fd);
      fs.rmSync(directory, { recursive: true });
    });
  }

  tell(id: InvocationId): void {
    this.server.receive({ kind: "active", told: `i1 ${id}\n` });
  }

  /** Resolves when so many lines have been read. */
  async writes(text: string, lines: number): Promise<void> {
    fs.writeSync(this.#out, text);
    await this.#read(lines);
  }

  async frames(id: InvocationId, text: string, lines: number): Promise<void> {
    fs.writeSync(this.#frames, `${JSON.stringify({ i: id, s: "out", m: text })}\n`);
    await this.#read(lines);
  }

  async #read(lines: number): Promise<void> {
    for (;;) {
      this.server.receive({ kind: "counters", id: 1 });
      const answer = await this.#answer((message) => message.kind === "answer" && message.id === 1);
      if (answer.kind === "answer" && (answer.value as { lines: number }).lines >= lines) return;
    }
  }

  /** What a follower got since the last time, at once. */
  followed(): string[][] {
    return this.#answers
      .splice(0)
      .flatMap((message) => (message.kind === "lines" ? [message.lines.map((line) => line.message)] : []));
  }

  async log(): Promise<[string, string | null][]> {
    this.server.receive({ kind: "logs", id: 2, query: { project: "default", limit: 100 } });
    const answer = await this.#answer((message) => message.kind === "answer" && message.id === 2);
    const lines = answer.kind === "answer" ? (answer.value as LogLine[]) : [];
    return lines.map(({ message, invocation }) => [message, invocation]);
  }

  async #answer(which: (message: FromWorker) => boolean): Promise<FromWorker> {
    for (let turn = 0; turn < 100_000; turn++) {
      const at = this.#answers.findIndex(which);
      if (at >= 0) return this.#answers.splice(at, 1)[0]!;
      await new Promise((resolve) => void setImmediate(resolve));
    }
    throw new Error("no answer");
  }
}

const marked = (id: InvocationId, text: string): string => `\x1e${nonce} + ${id}\n${text}\n\x1e${nonce} - ${id}\n`;
const [first, second, foreign] = [newInvocationId(1), newInvocationId(2), newInvocationId(3)];

for (const concurrency of [1, 10])
  test(`a line that is looked at before its id is told has its invocation all the same (concurrency ${concurrency})`, async (t) => {
    const worker = new Worker(t, concurrency);
    worker.tell(first);
    await worker.writes("loaded\n", 1);
    await worker.clock.advance(logLimits.flushMs - logLimits.idToldWithinMs - 1);
    if (concurrency === 1) await worker.writes(marked(second, "hello"), 2);
    else await worker.frames(second, "hello", 2);
    await worker.writes("behind it\n", 3);
    await worker.clock.advance(1);
    worker.tell(second);
    await worker.clock.advance(logLimits.idToldWithinMs);
    assert.deepEqual(await worker.log(), [
      ["loaded", null],
      ["hello", second],
      ["behind it", null],
    ]);
  });

test("what somebody asks for takes nothing from a call that began meanwhile", async (t) => {
  const worker = new Worker(t, 1);
  worker.tell(first);
  await worker.writes(marked(first, "before") + marked(second, "hello"), 2);
  assert.deepEqual(await worker.log(), [["before", first]]);
  worker.tell(second);
  assert.deepEqual(await worker.log(), [
    ["before", first],
    ["hello", second],
  ]);
});

test("after a pause the first line is with a follower at once; those behind it come together", async (t) => {
  const worker = new Worker(t, 1);
  worker.server.receive({ kind: "follow", id: 9, query: { project: "default" } });
  await worker.writes("first\n", 1);
  await worker.clock.advance(logLimits.firstFlushMs);
  assert.deepEqual(worker.followed(), [["first"]]);
  await worker.writes("second\n", 2);
  await worker.clock.advance(logLimits.firstFlushMs);
  await worker.writes("third\n", 3);
  assert.deepEqual(worker.followed(), []);
  await worker.clock.advance(logLimits.flushMs);
  assert.deepEqual(worker.followed(), [["second", "third"]]);
});

test("a line with an id that is told to nobody is written within a flush, without it", async (t) => {
  const worker = new Worker(t, 1);
  worker.tell(first);
  await worker.writes(marked(foreign, "forged"), 1);
  await worker.clock.advance(logLimits.flushMs);
  assert.deepEqual(await worker.log(), [["forged", null]]);
});
