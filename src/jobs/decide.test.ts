// Where a run goes, whatever happens to its tasks: tables, and what holds for every history.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { ErrorCode } from "#model/errors.ts";
import { jobLimits } from "#model/limits.ts";
import { hasEnded, type Run } from "#model/run.ts";
import type { JobSettings } from "#model/workload.ts";
import { accept, advance, backoffMs, due, interrupt, isLive, stop, type Ending, type TaskEvent } from "./decide.ts";
import { jobOf, noOverrides } from "./job.testing.ts";

function runOf(settings: Partial<JobSettings> = {}, parallelism: number | null = null): Run {
  const overrides = { ...noOverrides, parallelism };
  return accept({ id: "r", revision: jobOf("report", settings), overrides, createdBy: "test" }, 1_000);
}

const began: TaskEvent = { kind: "began", execution: "e", instance: "i" };

function ended(exit: Partial<Ending["exit"]>, asked: Ending["asked"] = null): TaskEvent {
  const ending = { asked, exit: { reason: "exited", code: 0, message: "words", ...exit }, resultBytes: null } as const;
  return { kind: "ended", ending, chance: 1 };
}

/** What one task comes to; it begins before each event that is an end. */
function story(run: Run, events: readonly TaskEvent[]): Run {
  let nowMs = 2_000;
  let at = run;
  for (const event of events) {
    if (event.kind === "ended" && !isLive(at.tasks[0]!)) at = advance(at, 0, began, nowMs++);
    at = advance(at, 0, event, nowMs++);
  }
  return at;
}

const notStarted = (fault: "function" | "platform", code?: ErrorCode): TaskEvent => ({
  kind: "failed_to_start",
  fault,
  message: "words",
  ...(code && { code }),
  chance: 1,
});

const table: ReadonlyArray<
  readonly [what: string, settings: Partial<JobSettings>, events: readonly TaskEvent[], state: string, reason: string | null]
> = [
  ["a new one", {}, [], "queued", null],
  ["one that runs", {}, [began], "running", null],
  ["exit code 0", {}, [ended({})], "succeeded", null],
  ["exit code 3", {}, [ended({ code: 3 })], "failed", "error"],
  ["exit code 3, with a retry left", { retries: 1 }, [ended({ code: 3 })], "retrying", "error"],
  ["exit code 3 twice, with one retry", { retries: 1 }, [ended({ code: 3 }), ended({ code: 3 })], "failed", "error"],
  ["a retry that does it", { retries: 1 }, [ended({ code: 3 }), ended({})], "succeeded", null],
  ["too much memory", {}, [ended({ reason: "memory", code: 137 })], "failed", "memory"],
  ["too long", {}, [ended({ reason: "stopped", code: 143 }, "timeout")], "failed", "timeout"],
  ["too long, and killed", { retries: 1 }, [ended({ reason: "killed", code: 137 }, "timeout")], "retrying", "timeout"],
  ["stopped by somebody", { retries: 9 }, [ended({ reason: "stopped", code: 143 }, "stopped")], "stopped", "stopped"],
  ["a planned stop", {}, [ended({ reason: "stopped", code: 0 }, "interrupted")], "queued", "interrupted"],
  ["a spawner that died", {}, [ended({ reason: "lost", code: null })], "queued", "interrupted"],
  ["an interruption that ends it", { rerunOnInterrupt: false }, [ended({ reason: "lost", code: null })], "interrupted", "interrupted"],
  ["an interruption uses no retry", { retries: 1 }, [ended({ reason: "lost" }), ended({ code: 3 })], "retrying", "error"],
  ["one that was done as ebb stopped", {}, [ended({}, "interrupted")], "succeeded", null],
  ["a start that its author can mend", {}, [notStarted("function")], "failed", "not_started"],
  ["a start that the platform failed", {}, [notStarted("platform")], "queued", "not_started"],
  ["starts that the platform keeps failing", {}, Array.from({ length: jobLimits.platformTries }, () => notStarted("platform")), "failed", "not_started"],
  ["an image that cannot be run", { retries: 1 }, [notStarted("function", "image_refused")], "retrying", "invalid_image"],
  ["an image that has gone", {}, [notStarted("platform", "image_not_found")], "failed", "image_not_found"],
  ["no memory yet", {}, [{ kind: "held", why: "capacity" }], "queued", "capacity"],
  ["a quota", {}, [{ kind: "held", why: "over_quota" }], "queued", "over_quota"],
]; // prettier-ignore

for (const [what, settings, events, state, reason] of table)
  test(`a run: ${what}`, () => {
    const run = story(runOf(settings), events);
    assert.deepEqual([run.state, run.reason], [state, reason]);
    assert.equal(run.endedMs !== null, hasEnded(run.state));
  });

test("words say what shells say with a number", () => {
  assert.match(story(runOf(), [ended({ code: 127 })]).message ?? "", /command was not found/);
  assert.match(story(runOf(), [ended({ code: 126 })]).message ?? "", /cannot be executed/);
});

test("a stop ends what waits at once, and what runs when it has gone", () => {
  let run = advance(runOf({}, 3), 1, began, 2_000);
  run = stop(run, "stopped", 3_000);
  assert.deepEqual(
    run.tasks.map(({ state }) => state),
    ["stopped", "stopping", "stopped"],
  );
  assert.equal(run.state, "stopping");
  run = advance(run, 1, ended({ reason: "killed", code: 137 }, "stopped"), 4_000);
  assert.deepEqual([run.state, run.reason, run.endedMs], ["stopped", "stopped", 4_000]);
});

test("one failed task fails the run when the others have ended, whose work counts", () => {
  let run = advance(runOf({}, 2), 0, began, 2_000);
  run = advance(run, 0, ended({ code: 3 }), 3_000);
  assert.equal(run.state, "queued");
  run = advance(advance(run, 1, began, 4_000), 1, ended({}), 5_000);
  assert.deepEqual([run.state, run.reason, run.message, run.endedMs], ["failed", "error", "task 0: words", 5_000]);
});

test("the first that may begin is told, or when the next one may", () => {
  let run = runOf({ retries: 1 }, 2);
  assert.equal((due(run, 2_000) as { index: number }).index, 0);
  run = advance(advance(run, 0, began, 2_000), 0, ended({ code: 1 }), 2_000);
  run = advance(run, 1, began, 2_000);
  assert.deepEqual(due(run, 2_000), { atMs: 2_000 + jobLimits.retryFirstMs });
  assert.equal((due(run, 2_000 + jobLimits.retryFirstMs) as { index: number }).index, 0);
  run = advance(run, 0, began, 9_000);
  assert.equal(due(run, 9_000), null);
});

test("back-off doubles up to its bound, and chance takes at most half", () => {
  assert.deepEqual([1, 2, 3, 30].map((n) => backoffMs(n, 1)), [1_000, 2_000, 4_000, jobLimits.retryMaxMs]); // prettier-ignore
  assert.equal(backoffMs(3, 0), 2_000);
});

const anyExit = fc.record({
  reason: fc.constantFrom("stopped", "exited", "memory", "killed", "lost"),
  code: fc.constantFrom(0, 1, 137, null),
  message: fc.constant("words"),
});
const anyEvent: fc.Arbitrary<TaskEvent> = fc.oneof(
  fc.constant(began),
  fc.constant<TaskEvent>({ kind: "held", why: "capacity" }),
  fc.record({
    kind: fc.constant("ended" as const),
    ending: fc.record({
      asked: fc.constantFrom("timeout", "stopped", "interrupted", null),
      exit: anyExit,
      resultBytes: fc.constant(null),
    }),
    chance: fc.constant(0.5),
  }),
  fc.constantFrom(notStarted("function"), notStarted("platform"), notStarted("platform", "image_not_found")),
);
const anyStep = fc.oneof(
  { weight: 8, arbitrary: fc.tuple(fc.nat(2), anyEvent) },
  { weight: 1, arbitrary: fc.constantFrom("stop" as const, "interrupt" as const) },
);

test("whatever happens: what has ended stays, attempts only grow, retries are never exceeded, and the run is what its tasks are", () => {
  fc.assert(
    fc.property(fc.nat(3), fc.boolean(), fc.array(anyStep, { maxLength: 60 }), (retries, rerunOnInterrupt, steps) => {
      let run = runOf({ retries, rerunOnInterrupt }, 3);
      let nowMs = 2_000;
      for (const step of steps) {
        nowMs += 1_000;
        const before = run;
        if (step === "stop") run = stop(run, "stopped", nowMs);
        else if (step === "interrupt") run = interrupt(run, 0.5, nowMs);
        else run = advance(run, step[0], step[1], nowMs);
        for (const [index, task] of run.tasks.entries()) {
          const was = before.tasks[index]!;
          if (hasEnded(was.state)) assert.deepEqual(task, was);
          assert.ok(task.attempts >= was.attempts && task.failures >= was.failures);
          assert.ok(task.failures <= retries + 1);
          if (task.failures === retries + 1) assert.equal(task.state, "failed");
          assert.equal(hasEnded(task.state), task.endedMs !== null);
          if (task.state === "interrupted") assert.equal(rerunOnInterrupt, false);
          if (task.failures > was.failures && task.state === "retrying") assert.ok(task.notBeforeMs! > nowMs - 1_000);
        }
        assert.equal(
          hasEnded(run.state),
          run.tasks.every(({ state }) => hasEnded(state)),
        );
        assert.equal(
          run.state === "succeeded",
          run.tasks.every(({ state }) => state === "succeeded"),
        );
        if (step === "interrupt") assert.ok(!run.tasks.some(isLive));
      }
    }),
    { numRuns: 300 },
  );
});
