// When a command of a build is the same as one before, and what goes first of those that are kept.

import assert from "node:assert/strict";
import { test } from "node:test";
import { stepCacheLimits } from "#model/limits.ts";
import { keyOfRun, keyOfTimes, leastUsed, outdated, type CachedStep, type StepSubject } from "./cached-steps.ts";

const subject: StepSubject = {
  project: "default",
  diffIds: ["sha256:a", "sha256:b"],
  env: { PATH: "/bin", A: "1" },
  workingDirectory: "/app",
  user: "",
  command: ["/bin/sh", "-c", "npm ci"],
  values: new Map([
    ["VERSION", "1"],
    ["MODE", "x"],
  ]),
  network: true,
  leftOut: ["root/.cache"],
};

test("a command is the same where all that it can see is, in whatever order its variables stand", () => {
  const other = { ...subject, env: { A: "1", PATH: "/bin" }, values: new Map([...subject.values].toReversed()) };
  assert.equal(keyOfRun(other), keyOfRun(subject));
});

test("a command is another one where anything that it can see is", () => {
  const others: ReadonlyArray<Partial<StepSubject>> = [
    { project: "other" },
    { diffIds: ["sha256:a"] },
    { diffIds: ["sha256:b", "sha256:a"] },
    { env: { PATH: "/bin", A: "2" } },
    { env: { PATH: "/bin" } },
    { workingDirectory: "/" },
    { user: "1000" },
    { command: ["/bin/bash", "-c", "npm ci"] },
    { command: ["/bin/sh", "-c npm ci"] },
    { values: new Map([["VERSION", "1"]]) },
    // A variable of the file is none of the image.
    { values: new Map(), env: { PATH: "/bin", A: "1", VERSION: "1", MODE: "x" } },
    { network: false },
    { leftOut: [] },
  ];
  const keys = [{}, ...others].map((one) => keyOfRun({ ...subject, ...one }));
  assert.equal(new Set(keys).size, keys.length);
  assert.notEqual(keyOfTimes("default", "sha256:a"), keyOfTimes("other", "sha256:a"));
});

const now = 1e12;
let count = 0;
const step = (project: string, bytes: number, agoMs: number): CachedStep => ({
  version: 2,
  sha256: "0".repeat(64),
  key: String(++count),
  project,
  digest: "sha256:a",
  bytes,
  usedMs: now - agoMs,
  boot: "",
  synced: true,
});

test("what nobody has used for long goes, also where a clock jumped; what fits stays", () => {
  const { unusedMs } = stepCacheLimits;
  const [young, old, ahead] = [step("a", 1, unusedMs), step("a", 1, unusedMs + 1), step("a", 1, -unusedMs - 1)];
  assert.deepEqual(new Set(outdated([young, old, ahead], now)), new Set([old, ahead]));
});

test("of a project with too much the least recently used go, and no other project's", () => {
  const half = stepCacheLimits.bytesPerProject / 2;
  const steps = [step("a", half, 1), step("a", half, 3), step("a", half, 2), step("b", half, 9)];
  assert.deepEqual(outdated(steps, now), [steps[1]]);
  const many = Array.from({ length: stepCacheLimits.perProject + 2 }, (_, index) => step("a", 0, index));
  assert.deepEqual(outdated([...many, step("b", 0, 1e6)], now), many.slice(-2).toReversed());
});

test("where all together are too much, whoever has most gives way", () => {
  const { bytesPerProject, bytesInAll } = stepCacheLimits;
  const others = Array.from({ length: bytesInAll / bytesPerProject }, (_, index) =>
    step(`p${index}`, bytesPerProject - 1, 1),
  );
  const small = step("small", 2 * others.length, 1_000);
  const both = [step("large", 1, 8), step("large", bytesPerProject - 1, 7)];
  assert.deepEqual(outdated([small, ...others], now), [others[0]]);
  assert.deepEqual(outdated([step("small", 4, 1_000), ...others.slice(1), ...both], now), both.slice(0, 1));
});

test("a full disk takes the least recently used", () => {
  const steps = [step("a", 1, 1), step("b", 1, 3), step("b", 1, 2)];
  assert.equal(leastUsed(steps), steps[1]);
  assert.equal(leastUsed([]), null);
});
