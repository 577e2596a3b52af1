// The room as control uses it: received, built, kept by content, collected; and what it costs the main loop.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { Readable } from "node:stream";
import { after, before, beforeEach, test } from "node:test";
import { Worker } from "node:worker_threads";
import type { Clock } from "#model/clock.ts";
import { EbbError } from "#model/errors.ts";
import { deployLimits } from "#model/limits.ts";
import type { Fact } from "#model/fact.ts";
import { archive, packed, type RawEntry } from "./archives.testing.ts";
import { createBuilds } from "./builds.ts";
import { graceMs } from "./code-store.ts";
import type { BuiltCode, Builds } from "./door.ts";
import { plainSpawner, toolbox } from "./plain-run.testing.ts";

const directory = mkdtempSync(join(tmpdir(), "ebb-builds-"));
const facts: Fact[] = [];
/** What was given to another process to be removed. */
const removed: string[] = [];
let nowMs = Date.now();
/** What waits for its time; a test that lets it come calls it. */
const timers = new Set<{ readonly ms: number; readonly call: () => void }>();
const clock: Clock = {
  wallMs: () => nowMs,
  monotonicUs: () => 0,
  after: (ms, call) => {
    const timer = { ms, call };
    timers.add(timer);
    return () => void timers.delete(timer);
  },
};
let builds: Builds;

function create(): Builds {
  return createBuilds({
    directory,
    run: () => assert.fail("no sandbox is needed"),
    spawner: { exec: (argv) => (removed.push(argv.at(-1)!), plainSpawner.exec(argv)) },
    tell: (fact) => facts.push(fact),
    clock,
    toolbox,
  });
}

before(async () => {
  builds = create();
  await builds.start();
});
beforeEach(() => void (nowMs = Date.now()));
after(async () => {
  await builds.stop();
  assert.deepEqual(facts, []);
  assert.deepEqual(readdirSync(join(directory, "uploads")), []);
  rmSync(directory, { recursive: true, force: true });
});

async function built(files: Record<string, string>, source = "."): Promise<BuiltCode> {
  const upload = await builds.receive(packed(files));
  try {
    return await builds.build(upload, source);
  } finally {
    await upload.discard();
  }
}

async function codeOf(run: Promise<unknown>): Promise<string> {
  const error: unknown = await run.then(
    () => null,
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof EbbError, String(error));
  return error.code;
}

const digest = async (...entries: RawEntry[]): Promise<string> => {
  const upload = await builds.receive(archive(...entries));
  const { digest } = await builds.build(upload, ".");
  await upload.discard();
  return digest;
};

test("code is kept by its content: readable by all, written by none, the same whoever packed it", async () => {
  const one = await built({ "a.js": "1", "d/b.js": "2" });
  const two = await built({ "d/b.js": "2", "./a.js": "1" });
  assert.equal(one.digest, two.digest);
  assert.deepEqual([one.files, one.bytes, one.transpiled], [2, 2, 0]);
  const folder = builds.folderOf(one.digest);
  assert.equal(readFileSync(join(folder, "d/b.js"), "utf8"), "2");
  const mode = (path: string): number => statSync(join(folder, path)).mode & 0o7777;
  assert.deepEqual([mode("."), mode("d"), mode("a.js")], [0o555, 0o555, 0o444]);
});

test("names, x bits, contents, link targets and empty folders change the digest; nothing else does", async () => {
  const digests = [
    await digest({ name: "a", body: "1" }),
    await digest({ name: "b", body: "1" }),
    await digest({ name: "a", body: "2" }),
    await digest({ name: "a", body: "1", mode: 0o755 }),
    await digest({ name: "a", flag: "2", link: "1" }),
    await digest({ name: "a", flag: "2", link: "2" }),
    await digest({ name: "a", body: "1" }, { name: "d", flag: "5" }),
  ];
  assert.equal(new Set(digests).size, digests.length);
  assert.equal(await digest({ name: "a", body: "1", mode: 0o600 }), digests[0]);
});

test("one upload builds several functions: folders, a file, and links within each", async () => {
  const upload = await builds.receive(
    archive(
      { name: "ebb.yaml", body: "" },
      { name: "api/index.js", body: "a" },
      { name: "api/l", flag: "2", link: "index.js" },
      { name: "one.js", body: "1" },
      { name: "bad/l", flag: "2", link: "../one.js" },
    ),
  );
  const api = builds.folderOf((await builds.build(upload, "./api/")).digest);
  assert.deepEqual([readdirSync(api).toSorted(), readlinkSync(join(api, "l"))], [["index.js", "l"], "index.js"]);
  const one = builds.folderOf((await builds.build(upload, "one.js")).digest);
  assert.deepEqual(readdirSync(one), ["one.js"]);
  for (const source of ["bad", "nowhere", "../api", "api/../..", "api/l", "/etc"])
    assert.equal(await codeOf(builds.build(upload, source)), "invalid_archive", source);
  await upload.discard();
  await upload.discard();
  assert.ok(existsSync(join(api, "index.js")), "the code outlives its upload");
});

test("a refused archive leaves nothing behind", async () => {
  assert.equal(await codeOf(builds.receive(packed({ fine: "1", "../x": "2" }))), "invalid_archive");
  assert.deepEqual(readdirSync(join(directory, "uploads")), []);
});

test("the same code built many times at once is stored once", async () => {
  const all = await Promise.all(Array.from({ length: 8 }, () => built({ "same.js": "same" })));
  assert.equal(new Set(all.map(({ digest }) => digest)).size, 1);
});

test("code that nobody names goes after its grace; named, young and rebuilt code stays", async () => {
  const [named, young, old, again] = await Promise.all(
    ["named", "young", "old", "again"].map((text) => built({ "x.js": text })),
  );
  const there = (code: BuiltCode | undefined): boolean => existsSync(builds.folderOf(code!.digest));
  await builds.collect(new Set([named!.digest]));
  assert.deepEqual([named, young, old, again].map(there), [true, true, true, true]);
  nowMs += graceMs + 60_000;
  await built({ "x.js": "again" });
  await built({ "x.js": "young" });
  assert.ok((await builds.collect(new Set([named!.digest]))) >= 1);
  assert.deepEqual([named, young, old, again].map(there), [true, true, false, true]);
  assert.equal((await built({ "x.js": "old" })).digest, old!.digest);
  assert.ok(there(old), "what was collected is stored anew, whatever is remembered");
});

test("a start removes what a crash left half done, and keeps the code", async () => {
  const code = await built({ "k.js": "kept" });
  mkdirSync(join(directory, "code/.half/sub"), { recursive: true, mode: 0o755 });
  mkdirSync(join(directory, "uploads/gone"));
  writeFileSync(join(directory, "uploads/gone/x"), "");
  const next = create();
  await next.start();
  assert.deepEqual(readdirSync(join(directory, "uploads")), []);
  assert.ok(!existsSync(join(directory, "code/.half")));
  assert.ok(existsSync(next.folderOf(code.digest)));
});

test("uploads and collected code are removed by another process, which holds up no loop", async () => {
  const upload = await builds.receive(packed({ "r.js": "removed" }));
  const code = await builds.build(upload, ".");
  removed.length = 0;
  await upload.discard();
  nowMs += graceMs + 60_000;
  const count = await builds.collect(new Set());
  assert.ok(!existsSync(upload.folder) && !existsSync(builds.folderOf(code.digest)));
  assert.equal(removed.length, 1 + count);
});

test("CommonJS is CommonJS, whatever package stands above the data directory", async () => {
  writeFileSync(join(directory, "package.json"), '{ "type": "module" }');
  const { digest } = await built({ "index.js": "module.exports = 1; console.log(typeof require);" });
  assert.equal(
    execFileSync(process.execPath, [join(builds.folderOf(digest), "index.js")], { encoding: "utf8" }),
    "function\n",
  );
});

test("only a digest names a folder", () => {
  for (const digest of ["", "..", "../x", "A".repeat(64), "a".repeat(63)])
    assert.throws(() => builds.folderOf(digest), EbbError, digest);
});

/** How late a thread is that has nothing to do: what the machine and its other work do to any loop. */
const idleLoop = `const { parentPort } = require("node:worker_threads");
const delay = require("node:perf_hooks").monitorEventLoopDelay({ resolution: 1 });
delay.enable();
parentPort.once("message", () => parentPort.postMessage(delay.percentile(99) / 1e6));`;

test("1,000 files are received and stored without holding up the loop", async (t) => {
  const files = Object.fromEntries(
    Array.from({ length: 1_000 }, (_, i) => [`node_modules/p${i % 100}/f${i}.js`, `${i}`.repeat(400)]),
  );
  const source = packed(files);
  await new Promise((resolve) => setImmediate(resolve));
  const idle = new Worker(idleLoop, { eval: true });
  t.after(() => idle.terminate());
  await once(idle, "online");
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const begun = performance.now();
  const upload = await builds.receive(source);
  const received = performance.now();
  const code = await builds.build(upload, ".");
  const stored = performance.now();
  delay.disable();
  const noise = once(idle, "message");
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  idle.postMessage("how late were you?");
  const [noiseMs] = (await noise) as [number];
  await upload.discard();
  assert.equal(code.files, 1_000);
  t.diagnostic(
    `received ${(received - begun).toFixed(0)} ms, stored ${(stored - received).toFixed(0)} ms, loop p50 ${(delay.percentile(50) / 1e6).toFixed(1)} p99 ${(delay.percentile(99) / 1e6).toFixed(1)} max ${(delay.max / 1e6).toFixed(1)} ms, a loop that does nothing meanwhile p99 ${noiseMs.toFixed(1)}`,
  );
  // Beyond the machine's own noise; a tree read or hashed in one go takes hundreds.
  assert.ok(delay.percentile(99) / 1e6 < 25 + noiseMs, `p99 ${delay.percentile(99) / 1e6} ms`);
});

test("an upload that stops coming, or never ends, is given up in words, and its timers with it", async () => {
  for (const ms of [deployLimits.uploadStallMs, deployLimits.uploadMs]) {
    const source = new Readable({ read: () => {} });
    const received = builds.receive(source);
    const refused = assert.rejects(received, { code: "request_timeout" });
    source.push(Buffer.from([0x1f, 0x8b]));
    await eventually(() => timers.size === 2);
    for (const timer of timers) if (timer.ms === ms) timer.call();
    await refused;
    assert.equal(timers.size, 0);
  }
});

test("nothing is received once it stops", async () => {
  const other = createBuilds({
    directory: join(directory, "other"),
    run: () => assert.fail(),
    spawner: plainSpawner,
    tell: (fact) => facts.push(fact),
    clock,
    toolbox,
  });
  await other.start();
  await other.stop();
  assert.equal(await codeOf(other.receive(packed({ a: "1" }))), "stopping");
});

async function eventually(holds: () => boolean): Promise<void> {
  const untilMs = performance.now() + 10_000;
  while (!holds() && performance.now() < untilMs) await new Promise((resolve) => setImmediate(resolve));
  assert.ok(holds());
}
