// A project's log on the disk: what is found again, and what is thrown away, whatever the clock does.

import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { newInvocationId } from "#model/ids.ts";
import { logLimits } from "#model/limits.ts";
import { ProjectLog } from "./project-log.ts";
import { encodeRecord } from "./record.ts";

const dayMs = 86_400_000;
const startMs = Date.UTC(2026, 10, 1);

function folder(t: TestContext): string {
  const directory = fs.mkdtempSync(join(os.tmpdir(), "ebb-log-"));
  t.after(() => fs.rmSync(directory, { recursive: true }));
  return directory;
}

function add(
  log: ProjectLog,
  time: number,
  message: string,
  workload = "hello",
  invocation: string | null = null,
): void {
  log.append(
    encodeRecord({ time, workload, instance: "i1", invocation, stream: "stdout", level: "info", message }),
    time,
  );
}

async function messages(log: ProjectLog, query: Partial<Parameters<ProjectLog["query"]>[0]> = {}): Promise<string[]> {
  return (await log.query({ project: "p", limit: 10_000, ...query })).map((line) => line.message);
}

function days(directory: string): string[] {
  return fs.readdirSync(directory).map((name) => name.slice(11, 21));
}

test("the newest so many lines that match come back, oldest first, over blocks, files and a restart", async (t) => {
  const directory = folder(t);
  const log = new ProjectLog(directory, { segmentBytes: 300_000 });
  const id = newInvocationId(startMs + 4_990);
  const all: string[] = [];
  for (let i = 0; i < 5_000; i++) {
    const message = `${i} ${'é\\"\n'.repeat(i % 97)}`;
    add(log, startMs + i, message, i % 10 === 0 ? "tenth" : "hello", i > 4_990 ? id : null);
    if (i % 500 === 0) await log.flush();
    all.push(message);
  }
  await log.flush();
  assert.ok(fs.readdirSync(directory).length > 3);
  const again = new ProjectLog(directory, { segmentBytes: 300_000 });
  assert.deepEqual(await messages(again), all);
  assert.deepEqual(await messages(again, { limit: 7 }), all.slice(-7));
  assert.deepEqual(
    await messages(again, { workload: "tenth" }),
    all.filter((_, i) => i % 10 === 0),
  );
  assert.deepEqual(await messages(again, { invocation: id }), all.slice(4_991));
  assert.deepEqual(await messages(again, { sinceMs: startMs + 4_000 }), all.slice(4_000));
  assert.deepEqual(await messages(again, { workload: "hell" }), []);
});

test("a message that looks like another workload's record is found under its own alone", async (t) => {
  const log = new ProjectLog(folder(t));
  add(log, startMs, '","w":"other","i":null', "hello");
  assert.deepEqual(await messages(log, { workload: "other" }), []);
  assert.equal((await messages(log, { workload: "hello" })).length, 1);
});

test("a line torn by a crash costs itself only", async (t) => {
  const directory = folder(t);
  const log = new ProjectLog(directory);
  add(log, startMs, "whole");
  await log.flush();
  const [name] = fs.readdirSync(directory);
  fs.appendFileSync(join(directory, name!), '{"t":1,"w":"hello","m":"tor');
  const again = new ProjectLog(directory);
  add(again, startMs + 1, "next");
  assert.deepEqual(await messages(again), ["whole", "next"]);
});

test("the bound of bytes holds with every write, and the oldest go first", async (t) => {
  const directory = folder(t);
  const log = new ProjectLog(directory, { keptBytes: 100_000, segmentBytes: 10_000 });
  for (let i = 0; i < 300; i++) {
    add(log, startMs + i, `${i} ${"x".repeat(1_000)}`);
    await log.flush();
    const bytes = fs.readdirSync(directory).reduce((sum, file) => sum + fs.statSync(join(directory, file)).size, 0);
    assert.ok(bytes <= 100_000, `${bytes} bytes`);
    assert.equal(log.bytes, bytes);
  }
  const kept = await messages(log);
  assert.ok(kept.length > 70);
  assert.match(kept.at(-1)!, /^299 /);
});

test("what is older than the newest record by 14 days goes, one day a pass", async (t) => {
  const directory = folder(t);
  const log = new ProjectLog(directory);
  for (let day = 0; day < 20; day++) add(log, startMs + day * dayMs, `day ${day}`);
  await log.flush();
  const left: number[] = [];
  for (let pass = 0; pass < 8; pass++) {
    log.expire();
    left.push(days(directory).length);
  }
  assert.deepEqual(left, [19, 18, 17, 16, 15, 15, 15, 15]);
  assert.equal((await messages(log))[0], "day 5");
  assert.equal(logLimits.keptDays, 14);
});

test("a clock that jumps ahead by years erases a day an hour, not everything; one that jumps back erases nothing", async (t) => {
  const directory = folder(t);
  const log = new ProjectLog(directory);
  for (let day = 0; day < 10; day++) add(log, startMs + day * dayMs, `day ${day}`);
  add(log, startMs + 4_000 * dayMs, "the future");
  add(log, startMs + 9 * dayMs + 1, "back again");
  await log.flush();
  log.expire();
  assert.deepEqual((await messages(log)).slice(0, 2), ["day 1", "day 2"]);
  assert.equal(days(directory).length, 11);

  const steady = folder(t);
  const other = new ProjectLog(steady);
  add(other, startMs, "now");
  add(other, startMs - 300 * dayMs, "long ago, says the clock");
  await other.flush();
  for (let day = 0; day < 3; day++) add(other, startMs + day, "now");
  await other.flush();
  assert.equal((await messages(other)).at(-1), "now");
});

test("lines that are asked for while they are written are there", async (t) => {
  const log = new ProjectLog(folder(t));
  for (let i = 0; i < 100; i++) {
    add(log, startMs + i, String(i));
    if (i % 3 === 0) void log.flush();
    if (i % 10 === 0) assert.equal((await messages(log)).length, i + 1);
  }
  await log.flush();
});
