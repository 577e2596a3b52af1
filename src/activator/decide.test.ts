// The activator's decisions, as tables.

import assert from "node:assert/strict";
import test from "node:test";
import type { Exit } from "#sandbox/door.ts";
import type { Breakage } from "./instance-connection.ts";
import {
  exitError,
  exitOutcome,
  mayRetry,
  outcomeOfStatus,
  queueDeadlineError,
  queueFullError,
  smooth,
  startError,
  startFailureReachesWaiting,
} from "./decide.ts";

const exits: ReadonlyArray<[Exit["reason"], code: string, outcome: string]> = [
  ["memory", "out_of_memory", "memory"],
  ["exited", "instance_exited", "exited"],
  ["killed", "instance_exited", "exited"],
  ["stopped", "platform_lost_instance", "interrupted"],
  ["lost", "platform_lost_instance", "interrupted"],
];
for (const [reason, code, outcome] of exits) {
  test(`an instance that ${reason}: ${code}, ${outcome}; after the answer: interrupted`, () => {
    const exit = { reason, code: null, message: "words" };
    assert.equal(exitError("hello", exit).code, code);
    assert.equal(exitError("hello", exit).message, "hello: words");
    assert.equal(exitOutcome(exit, false), outcome);
    assert.equal(exitOutcome(exit, true), "interrupted");
  });
}

const stale: Breakage = { kind: "closed", message: "", silent: true, whole: true, unsent: false, reused: true };
const retries: ReadonlyArray<
  [name: string, breakage: Partial<Breakage>, method: string, retried: boolean, expected: boolean]
> = [
  ["a GET on a stale connection", {}, "GET", false, true],
  ["a PUT on a stale connection", {}, "PUT", false, true],
  ["a POST on a stale connection", {}, "POST", false, false],
  ["a POST that was never completely written", { unsent: true }, "POST", false, true],
  ["a second time", {}, "GET", true, false],
  ["on a fresh connection", { reused: false }, "GET", false, false],
  ["after a byte of the answer", { silent: false }, "GET", false, false],
  ["after a byte of the body", { whole: false }, "PUT", false, false],
  ["after nonsense", { kind: "malformed" }, "GET", false, false],
];
for (const [name, breakage, method, retried, expected] of retries) {
  test(`${name} is ${expected ? "" : "not "}sent again`, () => {
    assert.equal(mayRetry({ ...stale, ...breakage }, method, retried), expected);
  });
}

test("a failed start reaches those who wait only where nothing else can serve them and it is the function's fault", () => {
  const failure = { fault: "function", message: "m", stack: null, hint: null } as const;
  assert.equal(startFailureReachesWaiting(failure, { ready: 0, starting: 0 }), true);
  assert.equal(startFailureReachesWaiting(failure, { ready: 1, starting: 0 }), false);
  assert.equal(startFailureReachesWaiting(failure, { ready: 0, starting: 1 }), false);
  assert.equal(startFailureReachesWaiting({ ...failure, fault: "platform" }, { ready: 0, starting: 0 }), false);
});

test("the words of waiting in vain name what was in the way", () => {
  const failure = { fault: "platform", message: "no spawner.", stack: null, hint: null } as const;
  assert.equal(queueDeadlineError("hello", 30_000, null, null).message, "hello: waited 30 s; no instance became free.");
  assert.match(queueDeadlineError("hello", 30_000, null, failure).message, /the last start failed: no spawner\.$/);
  assert.equal(queueDeadlineError("hello", 30_000, "capacity", null).status, 503);
  assert.equal(queueDeadlineError("hello", 30_000, "over_quota", null).status, 429);
  // Every one of them says when to come again.
  const refusals = [null, "capacity", "over_quota"] as const;
  const said = refusals.map((obstacle) => queueDeadlineError("hello", 30_000, obstacle, null));
  for (const one of [
    ...said,
    queueFullError("hello", 1_000, "workload"),
    queueFullError("hello", 10_000, "all"),
    queueFullError("hello", 10_000, "bodies"),
  ])
    assert.ok((one.retryAfterSeconds ?? 0) >= 1, one.code);
});

test("a start's failure carries stack and hint, and a crash loop when it ends", () => {
  const failure = { fault: "function", message: "m.", stack: "at x", hint: "npm install" } as const;
  assert.deepEqual(startError("hello", failure, 0).extra, { stack: "at x", hint: "npm install" });
  const loop = startError("hello", failure, 1_200);
  assert.deepEqual(
    [loop.code, loop.retryAfterSeconds, loop.message],
    ["crash_loop", 2, "hello: m. The next start is tried in 2 s."],
  );
});

test("statuses from 500 are errors; averages follow slowly", () => {
  assert.deepEqual([200, 404, 499, 500, 599].map(outcomeOfStatus), ["ok", "ok", "ok", "error", "error"]);
  assert.equal(smooth(null, 10), 10);
  assert.equal(smooth(10, 20), 12);
});
