// The rehearsal of a pooled Node shim: what it leaves in the process is what was there before.

import assert from "node:assert/strict";
import { existsSync, readFileSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { execFile } from "node:child_process";
import { PerformanceObserver, constants } from "node:perf_hooks";
import { test } from "node:test";
import { promisify } from "node:util";
import { rehearse } from "../node/rehearsal.mjs";
import { emptyNursery } from "../node/warm.mjs";

const skip = process.platform === "linux" ? false : "Linux alone rehearses";

test("a rehearsal puts back what it changes, and leaves nothing open", { skip }, async () => {
  const state = (): unknown => ({
    folder: process.cwd(),
    env: { ...process.env },
    globals: ["Request", "Response", "Headers", "fetch"].map((name) =>
      Object.getOwnPropertyDescriptor(globalThis, name),
    ),
    listeners: ["SIGTERM", "exit", "uncaughtException", "unhandledRejection"].map((name) =>
      process.listenerCount(name),
    ),
    stdout: Object.getOwnPropertyDescriptor(process, "stdout"),
  });
  const open = (): string[] => process.getActiveResourcesInfo().filter((name) => /Pipe|Server|TCP/.test(name));
  const [before, openBefore] = [state(), open()];
  await rehearse(2, () => false);
  assert.deepEqual(state(), before);
  while (open().length > openBefore.length) await new Promise((resolve) => void setImmediate(resolve));
});

test("a rehearsal ends in its middle when there is an assignment", { skip }, async () => {
  let asked = 0;
  await rehearse(1_000, () => ++asked > 3);
  assert.equal(asked, 4);
});

test("nobody else can come to a rehearsal: without isolation it is on the machine itself", { skip }, async () => {
  /** Where this process listens for it: a path, or (with an @) a name for whoever is in its network namespace. */
  const places = (): string[] =>
    readFileSync("/proc/net/unix", "latin1")
      .split("\n")
      .flatMap((line) => new RegExp(` 00010000 .* (\\S*ebb-rehearsal-${process.pid}-\\S*)$`).exec(line)?.[1] ?? []);
  const seen: [string, number | undefined][] = [];
  await rehearse(1, () => {
    for (const place of places()) seen.push([place, statSync(dirname(place), { throwIfNoEntry: false })?.mode]);
    return false;
  });
  assert.ok(seen.length > 0);
  for (const [place, mode] of seen) {
    assert.match(place, /^\//);
    assert.equal((mode ?? 0) & 0o777, 0o700);
    assert.ok(!existsSync(dirname(place)), "nothing is left");
  }
});

test("a rehearsal, and so a start, loads nothing of Node's that only some functions need", { skip }, async () => {
  const from = new URL("../node/rehearsal.mjs", import.meta.url).href;
  const script = `const { rehearse } = await import(${JSON.stringify(from)});
    await rehearse(1, () => false);
    console.log(JSON.stringify(process.moduleLoadList));`;
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "--eval", script]);
  const loaded = new Set(JSON.parse(stdout) as string[]);
  assert.ok(loaded.has("NativeModule net"));
  const costly = ["internal/deps/undici/undici", "internal/webstreams/readablestream", "http", "cluster", "perf_hooks"];
  assert.deepEqual(
    costly.filter((name) => loaded.has(`NativeModule ${name}`)),
    [],
  );
});

test("the nursery is collected before a function comes, and not while it starts", async () => {
  const collected = new Promise<number>((resolve) => {
    const observer = new PerformanceObserver((list) => {
      observer.disconnect();
      resolve((list.getEntries()[0] as { detail?: { kind: number } }).detail?.kind ?? 0);
    });
    observer.observe({ entryTypes: ["gc"] });
  });
  emptyNursery();
  assert.equal(await collected, constants.NODE_PERFORMANCE_GC_MINOR);
});
