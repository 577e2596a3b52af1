// Telemetry as the daemon uses it: real FIFOs, the real worker thread, its death under load, a flood, followers, retention.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { Worker } from "node:worker_threads";
import { systemClock } from "#model/clock.ts";
import { newInvocationId } from "#model/ids.ts";
import { logLimits } from "#model/limits.ts";
import { createTelemetry, type TelemetryOptions } from "./client.ts";
import type { AttachOptions, LogLine, Telemetry } from "./door.ts";
import type { TelemetryWorkerData } from "./protocol.ts";

const MiB = 1024 * 1024;
const nonce = "0123456789abcdef0123456789abcdef";

interface Setup {
  readonly directory: string;
  readonly telemetry: Telemetry;
  readonly workers: Worker[];
  readonly fatal: string[];
  readonly attach: (instance: string, options?: Partial<AttachOptions>) => { out: number; err: number; frames: number };
}

async function setup(t: TestContext, options: Partial<TelemetryOptions> = {}): Promise<Setup> {
  const directory = fs.mkdtempSync(join(os.tmpdir(), "ebb-telemetry-"));
  const workers: Worker[] = [];
  const fatal: string[] = [];
  const startWorker = (data: TelemetryWorkerData): Worker => {
    const worker = new Worker(new URL("../threads/telemetry.ts", import.meta.url), { workerData: data });
    workers.push(worker);
    return worker;
  };
  const telemetry = createTelemetry({
    directory,
    clock: systemClock,
    fatal: (reason) => fatal.push(reason),
    startWorker,
    runningIn: () => [],
    ...options,
  });
  await telemetry.start();
  const fds: number[] = [];
  t.after(async () => {
    await telemetry.stop();
    for (const fd of fds) fs.closeSync(fd);
    fs.rmSync(directory, { recursive: true });
  });
  const attach: Setup["attach"] = (instance, attachOptions = {}) => {
    const paths = ["out", "err", "frames"].map((name) => join(directory, `${instance}.${name}`));
    execFileSync("mkfifo", paths);
    const [stdout, stderr, frames] = paths as [string, string, string];
    telemetry.attach({
      instance,
      project: "default",
      workload: "hello",
      source: { kind: "fifo", stdout, stderr, frames },
      nonce,
      concurrency: 1,
      ...attachOptions,
    });
    const [out, err, framesFd] = paths.map((path) => fs.openSync(path, fs.constants.O_WRONLY)) as [
      number,
      number,
      number,
    ];
    fds.push(out, err, framesFd);
    return { out, err, frames: framesFd };
  };
  return { directory, telemetry, workers, fatal, attach };
}

/** Asks until it is so: what is written comes by other threads. Fails after 20 s. */
async function until<T>(ask: () => Promise<T>, enough: (value: T) => boolean): Promise<T> {
  const endMs = Date.now() + 20_000;
  for (;;) {
    const value = await ask();
    if (enough(value)) return value;
    assert.ok(Date.now() < endMs, `not within 20 s: ${JSON.stringify(value).slice(0, 500)}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const short = (line: LogLine): readonly unknown[] => [line.stream, line.invocation, line.level, line.message];

test("lines of stdout and stderr carry the invocation between the marks of each", async (t) => {
  const { telemetry, attach } = await setup(t);
  const { out, err } = attach("i1");
  const id = newInvocationId(Date.now());
  telemetry.active("i1", id);
  fs.writeSync(
    out,
    `load\n\x1e${nonce} + ${id}\nhello\n{"level":"warn","msg":"careful"}\nno end\x1e${nonce} - ${id}\n`,
  );
  fs.writeSync(err, `\x1e${nonce} + ${id}\nError: \x1b[31mred\n\x1e${nonce} - ${id}\nafterwards\n`);
  const lines = await until(
    () => telemetry.logs({ project: "default", limit: 100 }),
    (found) => found.length === 6,
  );
  assert.deepEqual(lines.filter((line) => line.stream === "stdout").map(short), [
    ["stdout", null, "info", "load"],
    ["stdout", id, "info", "hello"],
    ["stdout", id, "warn", '{"level":"warn","msg":"careful"}'],
    ["stdout", id, "info", "no end"],
  ]);
  assert.deepEqual(lines.filter((line) => line.stream === "stderr").map(short), [
    ["stderr", id, "error", "Error: ␛[31mred"],
    ["stderr", null, "error", "afterwards"],
  ]);
  const ofId = await telemetry.logs({ project: "default", invocation: id, limit: 100 });
  assert.equal(ofId.length, 4);
  assert.deepEqual(await telemetry.logs({ project: "default", workload: "other", limit: 100 }), []);
  assert.deepEqual(await telemetry.logs({ project: "other", limit: 100 }), []);
  const newest = await telemetry.logs({ project: "default", invocation: id, limit: 1 });
  assert.deepEqual(newest, ofId.slice(-1));
});

test("a mark with the right nonce and a foreign id reaches nobody else's invocation", async (t) => {
  const { telemetry, attach } = await setup(t);
  const { out } = attach("i1");
  const own = newInvocationId(Date.now());
  const foreign = newInvocationId(Date.now());
  telemetry.active("i1", own);
  // Told with whatever is asked next: before the first is, marks alone decide.
  await telemetry.logs({ project: "default", limit: 10 });
  fs.writeSync(out, `\x1e${nonce} + ${own}\nmine\n\x1e${nonce} + ${foreign}\nforged\n`);
  const lines = await until(
    () => telemetry.logs({ project: "default", limit: 10 }),
    (found) => found.length === 2,
  );
  assert.deepEqual(lines.map(short), [
    ["stdout", own, "info", "mine"],
    ["stdout", null, "info", "forged"],
  ]);
});

test("above concurrency 1 frames say whose a line is, if that id runs there; raw output is nobody's", async (t) => {
  const { telemetry, attach } = await setup(t);
  const { out, frames } = attach("i1", { concurrency: 10 });
  const own = newInvocationId(Date.now());
  const foreign = newInvocationId(Date.now());
  const frame = (id: string | null, text: string): string =>
    JSON.stringify({ i: id, s: "out", t: Date.now(), m: text });
  fs.writeSync(
    frames,
    `${frame(own, "mine\nstill mine\n")}\n${frame(foreign, "forged\n")}\n{"nonsense\n${frame(null, "load\n")}\n`,
  );
  telemetry.active("i1", own);
  fs.writeSync(out, `\x1e${nonce} + ${own}\nraw\n`);
  const lines = await until(
    () => telemetry.logs({ project: "default", limit: 10 }),
    (found) => found.length === 6,
  );
  assert.deepEqual(
    lines.map((line) => `${line.invocation} ${line.message}`).toSorted(),
    [`${own} mine`, `${own} still mine`, "null forged", "null load", "null raw", `null ␞${nonce} + ${own}`].toSorted(),
  );
});

test("the last lines of an instance can be had while it runs and after it is gone, the unfinished one too", async (t) => {
  const { telemetry, attach } = await setup(t);
  const { err } = attach("i1");
  fs.writeSync(err, "one\ntwo\nSyntaxError: unfinished");
  const running = await telemetry.tail("i1", 2);
  assert.deepEqual(
    running.map((line) => line.message),
    ["two", "SyntaxError: unfinished"],
  );
  fs.writeSync(err, "last words");
  telemetry.detach("i1");
  const gone = await telemetry.tail("i1", 100);
  assert.deepEqual(
    gone.map((line) => line.message),
    ["one", "two", "SyntaxError: unfinished", "last words"],
  );
  assert.deepEqual(await telemetry.tail("nobody", 10), []);
});

test("a follower gets what it asked for, from now on, until it stops", async (t) => {
  const { telemetry, attach } = await setup(t);
  const one = attach("i1");
  const two = attach("i2", { workload: "other" });
  fs.writeSync(one.out, "before\n");
  await until(
    () => telemetry.logs({ project: "default", limit: 10 }),
    (found) => found.length === 1,
  );
  const seen: string[] = [];
  const following = telemetry.follow({ project: "default", workload: "hello" }, (line) => seen.push(line.message));
  fs.writeSync(two.out, "not this\n");
  fs.writeSync(one.out, "this\n");
  telemetry.tell({
    kind: "instance_failed",
    instance: "i1",
    project: "default",
    workload: "hello",
    revision: 3,
    failure: {
      fault: "function",
      message: "out of memory: 256 MiB, peak 256; raise memoryMb.",
      stack: null,
      hint: null,
    },
  });
  await until(
    async () => seen,
    (found) => found.length === 2,
  );
  assert.deepEqual(seen.toSorted(), [
    "instance i1 (r3) failed: out of memory: 256 MiB, peak 256; raise memoryMb.",
    "this",
  ]);
  following.stop();
});

test("a flood is read at full speed and kept within its rate, which is said; the disk is bounded", async (t) => {
  const { telemetry, attach, directory } = await setup(t, { keptBytes: 4 * MiB, segmentBytes: MiB });
  attach("i1");
  const floodBytes = 64 * MiB;
  const started = Date.now();
  const flood = spawn("sh", [
    "-c",
    `yes "$0" | head -c ${floodBytes} > "$1"`,
    "x".repeat(99),
    join(directory, "i1.out"),
  ]);
  await new Promise((resolve) => flood.once("exit", resolve));
  telemetry.detach("i1");
  const [notice] = await until(
    () =>
      telemetry
        .logs({ project: "default", limit: 10_000 })
        .then((found) => found.filter((line) => line.stream === "ebb")),
    (found) => found.length > 0,
  );
  assert.match(notice!.message, /^dropped \d+ lines \(\d+\.\d MB\): more than 1 MiB\/s$/);
  const seconds = (Date.now() - started) / 1000;
  const metrics = await telemetry.metrics();
  assert.match(metrics, new RegExp(`^ebb_log_read_bytes_total ${floodBytes}$`, "m"));
  const kept = Number(/^ebb_log_lines_total (\d+)$/m.exec(metrics)?.[1]) * 100;
  assert.ok(kept <= logLimits.burstBytes + seconds * logLimits.bytesPerSecond, `${kept} bytes kept in ${seconds} s`);
  const files = fs.readdirSync(join(directory, "logs", "default"));
  const sizes = files.map((name) => fs.statSync(join(directory, "logs", "default", name)).size);
  assert.ok(sizes.reduce((sum, size) => sum + size, 0) <= 4 * MiB, `${sizes.join(" + ")} bytes on the disk`);
  t.diagnostic(`${(floodBytes / 1e6 / seconds).toFixed(0)} MB/s`);
});

test("a worker that dies under load is replaced; nobody's write fails, and what comes afterwards is there", async (t) => {
  const id = newInvocationId(Date.now());
  const runningIn = (instance: string): string[] => (instance === "i1" ? [id] : []);
  const { telemetry, attach, workers, fatal } = await setup(t, { runningIn });
  const { out } = attach("i1");
  telemetry.active("i1", id);
  const seen: string[] = [];
  telemetry.follow({ project: "default" }, (line) => seen.push(line.message));
  fs.writeSync(out, "before\n");
  await until(
    () => telemetry.logs({ project: "default", limit: 10 }),
    (found) => found.length === 1,
  );
  const asked = assert.rejects(
    (async () => {
      for (;;) await telemetry.logs({ project: "default", limit: 10 });
    })(),
    { code: "store_unavailable" },
  );
  await workers[0]!.terminate();
  await asked;
  fs.writeSync(out, `\x1e${nonce} + ${id}\nafter\n`);
  const lines = await until(
    () => telemetry.logs({ project: "default", limit: 10 }).catch(() => []),
    (found) => found.length === 2,
  );
  assert.deepEqual(
    lines.map((line) => [line.invocation, line.message]),
    [
      [null, "before"],
      [id, "after"],
    ],
  );
  await until(
    async () => seen,
    (found) => found.includes("after"),
  );
  assert.equal(workers.length, 2);
  assert.match(await telemetry.metrics(), /^ebb_restarts_total\{part="telemetry"\} 1$/m);
  assert.deepEqual(fatal, []);
});

test("three deaths within a minute are the end, with the reason", async (t) => {
  const { workers, fatal } = await setup(t);
  for (let death = 0; death < 3; death++) {
    await until(
      async () => workers.length,
      (count) => count === death + 1,
    );
    await workers[death]!.terminate();
  }
  await until(
    async () => fatal,
    (found) => found.length === 1,
  );
  assert.match(fatal[0]!, /telemetry worker died 3 times within a minute/);
});

test("what an instance wrote before it ended is read, though its FIFOs have no name any more", async (t) => {
  const { telemetry, attach, directory } = await setup(t);
  const { out } = attach("i1");
  fs.writeSync(out, "famous last words\n");
  for (const name of ["out", "err", "frames"]) fs.rmSync(join(directory, `i1.${name}`));
  telemetry.detach("i1");
  const lines = await until(
    () => telemetry.logs({ project: "default", limit: 10 }),
    (found) => found.length === 1,
  );
  assert.equal(lines[0]?.message, "famous last words");
});

test("stop writes what was read, and leaves no descriptor open", async (t) => {
  const before = fs.readdirSync("/proc/self/fd").length;
  const { telemetry, attach, directory } = await setup(t);
  const { out, err, frames } = attach("i1");
  fs.writeSync(out, "at the very end\n");
  await telemetry.stop();
  const [file] = fs.readdirSync(join(directory, "logs", "default"));
  assert.match(fs.readFileSync(join(directory, "logs", "default", file!), "utf8"), /at the very end/);
  assert.ok(out && err && frames);
  // The three write ends are the test's own.
  assert.ok(fs.readdirSync("/proc/self/fd").length <= before + 3);
});
