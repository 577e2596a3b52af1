// The fleet's effects against a driver that keeps time and books: starts, drains, deaths, back-off, memory, checks, the end.

import assert from "node:assert/strict";
import { test } from "node:test";
import { executionOf, jobOf } from "#jobs/job.testing.ts";
import { contentDigestOf } from "#model/workload.ts";
import { noFaults, revisionOf, World, type WorldOptions } from "../../test/simulation/world.ts";

function world(options: Partial<WorldOptions> = {}): World {
  return new World({ seed: 7, faults: noFaults, memoryMb: 8192, ...options });
}

const failing = { ...noFaults, assignFails: 1000 };

test("a start goes from prepare to ready, with ebb's words in the environment and a credential that dies with it", async () => {
  const w = world();
  const revision = revisionOf("hello", { env: { LEVEL: "info" } }, 3, "photos");
  w.deploy(revision);
  const request = w.crowd.send(revision, 10, null);
  await w.run(200);
  assert.equal(request.end, "ok");
  const [sandbox] = w.driver.sandboxes.values();
  assert.deepEqual(sandbox?.assignment?.env, {
    LEVEL: "info",
    EBB_PROJECT: "photos",
    EBB_WORKLOAD: "hello",
    EBB_REVISION: "r3",
    EBB_INTERNAL_URL: "http://ebb.internal",
    PORT: "8080",
  });
  assert.match(sandbox.assignment.nonce, /^[0-9a-f]{32}$/);
  assert.equal(sandbox.assignment.credential, `credential of ${sandbox.assignment.instance}`);
  assert.equal(w.credentials.size, 1);
  const [view] = w.fleet.instances(revision);
  assert.equal(view?.state, "ready");
  await w.run(70_000);
  w.checkZero();
});

test("a secret that is not set fails the start with a sentence for the function's author", async () => {
  const w = world();
  const revision = revisionOf("hello", { secrets: ["DB_PASSWORD"] });
  w.deploy(revision);
  const request = w.crowd.send(revision, 10, null);
  await w.run(200);
  assert.equal(request.end, "start_failed");
  const { lastFailure } = w.fleet.workloadState(revision);
  assert.equal(lastFailure?.fault, "function");
  assert.match(lastFailure.message, /secret DB_PASSWORD is not set .* ebb secrets set DB_PASSWORD/);
});

test("a hundred cold requests to one function are answered within half a second", async () => {
  const w = world({ memoryMb: 24_576 });
  const revision = revisionOf("hello");
  w.deploy(revision);
  const requests = Array.from({ length: 100 }, () => w.crowd.send(revision, 20, null));
  await w.run(500);
  assert.deepEqual([...new Set(requests.map((request) => request.end))], ["ok"]);
});

test("a burst that one instance drains starts no more than what was on its way", async () => {
  const w = world();
  const revision = revisionOf("hello");
  w.deploy(revision);
  for (let i = 0; i < 100; i++) w.crowd.send(revision, 0.2, null);
  await w.run(1000);
  assert.ok(w.driver.prepared <= 8, `${w.driver.prepared} sandboxes for 20 ms of work`);
});

test("starts that are no longer wanted are given up before they are ready", async () => {
  const w = world();
  const revision = revisionOf("hello");
  w.fleet.want(revision, 8, ["test"]);
  await w.run(10);
  // All turns but the last, which is for another.
  assert.equal(w.fleet.workloadState(revision).starting, 3);
  w.fleet.want(revision, 0, ["test"]);
  await w.run(20);
  assert.equal(w.driver.prepared, 3);
  w.checkZero();
});

test("starts of many workloads take turns, one project after the other", async () => {
  const w = world({ concurrentStarts: 1 });
  const order: string[] = [];
  const names = ["a", "b"].flatMap((project) => ["x", "y"].map((name) => revisionOf(name, {}, 1, project)));
  for (const revision of names) w.fleet.want(revision, 2, ["test"]);
  for (const revision of names) w.current.set(revision.workload, revision);
  for (let i = 0; i < 12; i++) {
    await w.run(50);
    for (const fact of w.facts.splice(0))
      if (fact.kind === "instance_starting") order.push(fact.project + fact.workload);
  }
  // The first was alone when it asked.
  assert.deepEqual(order, ["ax", "ax", "bx", "ay", "by", "ay", "bx", "by"]);
  assert.equal(order.length, 8);
});

test("a function that does not start is tried again later and later, answered at once meanwhile, and forgiven by a deploy", async () => {
  const w = world({ faults: failing });
  const revision = revisionOf("hello");
  w.deploy(revision);
  const first = w.crowd.send(revision, 10, null);
  await w.run(200);
  assert.equal(first.end, "start_failed");
  assert.equal(w.clock.pending(), 0, "nobody waits, so nothing is retried");
  assert.equal(w.driver.prepared, 1);
  for (let i = 0; i < 10; i++) {
    w.crowd.send(revision, 10, null);
    await w.run(2_000);
  }
  assert.equal(w.fleet.workloadState(revision).state, "crash_loop");
  assert.ok(w.driver.prepared < 8, `${w.driver.prepared} tries in 20 s`);
  const before = w.driver.prepared;
  w.deploy(revisionOf("hello", {}, 2));
  assert.equal(w.fleet.workloadState(revision).state, "ready");
  w.crowd.send(revision, 10, null);
  await w.run(100);
  assert.equal(w.driver.prepared, before + 1);
});

test("a deploy lets the old instances finish what they run, and gives them nothing new", async () => {
  const w = world();
  const old = revisionOf("hello");
  w.deploy(old);
  const running = w.crowd.send(old, 1_000, null);
  await w.run(200);
  w.deploy(revisionOf("hello", {}, 2));
  assert.equal(w.fleet.workloadState(old).draining, 1);
  const next = w.crowd.send(old, 10, null);
  await w.run(500);
  assert.equal(next.slot?.instance.revision.number, 2);
  assert.equal(running.end, null);
  await w.run(600);
  assert.equal(running.end, "ok");
  assert.deepEqual(
    w.fleet.instances(old).map((view) => view.revision),
    [2],
  );
});

test("what instances, checks and runs are made of is in use until nothing of them is left", async () => {
  const w = world();
  const [old, next, job] = [revisionOf("hello"), revisionOf("next"), jobOf("report")];
  Object.assign(next, { codeDigest: "1".repeat(64) });
  Object.assign(job, { codeDigest: "2".repeat(64) });
  w.deploy(old);
  w.crowd.send(old, 1_000, null);
  const run = w.fleet.execute(executionOf(job));
  await w.run(200);
  w.fleet.retire(old, null, "removed");
  assert.equal(w.fleet.workloadState(old).draining, 1);
  const checked = w.fleet.check(next);
  await w.run(1);
  assert.deepEqual([...w.fleet.contentInUse()].toSorted(), [old, next, job].map(contentDigestOf));
  await run.stop(0);
  await w.run(2_000);
  await checked;
  assert.deepEqual([...w.fleet.contentInUse()], []);
  w.fleet.want(old, 0, ["test"]);
  await w.run(70_000);
  w.checkZero();
});

test("a full machine evicts the idle instance of another workload, but never one that `min` holds", async () => {
  const w = world({ memoryMb: 512 + 512 });
  const held = revisionOf("held", { min: 1 });
  const sleepy = revisionOf("sleepy");
  const eager = revisionOf("eager");
  for (const revision of [held, sleepy, eager]) w.deploy(revision);
  w.crowd.send(sleepy, 1, null);
  await w.run(200);
  assert.equal(w.fleet.state().memoryBytes, w.fleet.state().memoryLimitBytes);
  const first = w.crowd.send(eager, 2_000, null);
  await w.run(300);
  assert.deepEqual(
    w.fleet.instances().map((view) => view.workload),
    ["held", "eager"],
  );
  // Now nothing is idle but what min holds: it waits, and is told why.
  const second = w.crowd.send(sleepy, 1, null);
  await w.run(100);
  assert.equal(w.fleet.workloadState(sleepy).state, "capacity");
  assert.equal(w.crowd.refusals, 1);
  await w.run(2_000);
  assert.deepEqual([first.end, second.end], ["ok", "ok"]);
});

test("there is room for one ahead of its call where it starts at once and nothing goes for it, also by its quota", async () => {
  const quotas = { p: { memoryMb: null, instances: 1, ratePerSecond: null } };
  const w = world({ memoryMb: 512 + 512, quotas });
  const [one, other, quoted] = [revisionOf("one"), revisionOf("other"), revisionOf("quoted", {}, 1, "p")];
  const large = revisionOf("large", { memoryMb: 512 });
  for (const revision of [one, other, quoted, large]) w.deploy(revision);
  assert.equal(w.fleet.roomFor(large), true);
  w.crowd.send(quoted, 1, null);
  await w.run(200);
  assert.deepEqual([w.fleet.roomFor(one), w.fleet.roomFor(quoted), w.fleet.roomFor(large)], [true, false, false]);
  w.crowd.send(one, 1, null);
  await w.run(200);
  // Both are idle, and would go for a call.
  assert.equal(w.fleet.roomFor(other), false);
  assert.equal(w.fleet.instances().length, 2);
  await w.run(70_000);
  w.crowd.send(one, 1_000, null);
  await w.run(200);
  assert.equal(w.fleet.roomFor(other), true);
  const waits = w.crowd.send(large, 1, null);
  await w.run(10);
  assert.equal(w.fleet.roomFor(other), false, "somebody who was called waits for memory");
  await w.run(70_000);
  assert.equal(waits.end, "ok");
  await w.run(70_000);
  assert.equal(w.fleet.roomFor(other), true);
});

test("a quota that is raised lets those in that it held", async () => {
  const quotas = { p: { memoryMb: null, instances: 1 as number, ratePerSecond: null } };
  const w = world({ quotas });
  const revision = revisionOf("hello", {}, 1, "p");
  w.deploy(revision);
  for (let i = 0; i < 2; i++) w.crowd.send(revision, 10_000, null);
  await w.run(100);
  assert.equal(w.fleet.workloadState(revision).state, "over_quota");
  quotas.p.instances = 2;
  w.fleet.quotasChanged();
  await w.run(100);
  assert.equal(w.fleet.workloadState(revision).ready, 2);
});

test("when the spawner is replaced everything is gone, and what is needed comes back", async () => {
  const w = world();
  const revision = revisionOf("hello", { min: 2 });
  w.deploy(revision);
  await w.run(200);
  for (const sandbox of w.driver.sandboxes.values())
    w.driver.exit(sandbox, { reason: "lost", code: null, message: "the spawner was replaced" });
  assert.equal(w.fleet.workloadState(revision).ready, 0);
  await w.run(200);
  assert.equal(w.fleet.workloadState(revision).ready, 2);
});

test("a check loads the revision in a sandbox of its own that is gone afterwards", async () => {
  const w = world();
  const checking = w.fleet.check(revisionOf("hello"));
  await w.run(200);
  const result = await checking;
  assert.ok(result.ok);
  assert.equal(w.crowd.held, 0);
  w.checkZero();
});

test("beside calls that wait for a start, checks have one turn together", async () => {
  const w = world({ concurrentStarts: 4 });
  let checked = 0;
  for (let n = 0; n < 12; n++) void w.fleet.check(revisionOf("check", {}, 1, `project${n}`)).then(() => checked++);
  await w.run(1);
  assert.equal(w.driver.starting, 3, "nobody else wants a turn, and the last is for who comes");
  const calls = ["a", "b", "c", "d", "e", "f"].map((name) => {
    w.deploy(revisionOf(name));
    return w.crowd.send(revisionOf(name), 10, null);
  });
  for (let ms = 0; calls.some(({ end }) => end === null) && ms < 1_000; ms += 10) await w.run(10);
  // The three that ran, and one after another while two rounds of three calls are started.
  assert.ok(checked >= 3 && checked <= 6, `${checked} checks before six calls`);
  await w.run(2_000);
  assert.equal(checked, 12);
});

test("a check says the user's own error; one that never loads is ended at its time", async () => {
  const bad = world({ faults: failing });
  const checking = bad.fleet.check(revisionOf("hello"));
  await bad.run(200);
  const result = await checking;
  assert.ok(!result.ok);
  assert.match(result.failure.message, /SyntaxError/);
  bad.checkZero();

  const slow = world({ faults: { ...noFaults, slowStart: 1000 } });
  const waiting = slow.fleet.check(revisionOf("hello"));
  await slow.run(31_000);
  const late = await waiting;
  assert.ok(!late.ok);
  assert.equal(late.failure.message, "the function was not ready after 30 s.");
  slow.checkZero();
});

test("what would never fit is refused at once, what does not fit now after its time", async () => {
  const w = world({ memoryMb: 1024 });
  await assert.rejects(w.fleet.check(revisionOf("huge", { memoryMb: 4096 })), { code: "capacity" });
  const busy = revisionOf("busy", { memoryMb: 512 });
  w.deploy(busy);
  w.crowd.send(busy, 60_000, null);
  await w.run(200);
  const waiting = w.fleet.check(revisionOf("late"));
  const rejected = assert.rejects(waiting, { code: "capacity" });
  await w.run(30_000);
  await rejected;
});

test("stop drains, ends at its time what is still open, and leaves nothing", async () => {
  const w = world();
  const revision = revisionOf("hello");
  w.deploy(revision);
  const short = w.crowd.send(revision, 500, null);
  const long = w.crowd.send(revision, 60_000, null);
  await w.run(200);
  const stopping = w.fleet.stop(9_000);
  w.fleet.want(revision, 5, ["test"]);
  await w.run(8_900);
  assert.equal(short.end, "ok");
  assert.equal(long.end, null);
  await w.run(200);
  await stopping;
  assert.equal(w.driver.sandboxes.size, 0);
  assert.equal(w.fleet.state().memoryBytes, 0);
  assert.equal(long.end, "exited", "it was ended by ebb, and not for its own timeout");
});

test("a start takes what was started ahead, and the pool is full again a moment later", async () => {
  const w = world({ poolMb: 64 });
  const revision = revisionOf("hello");
  w.deploy(revision);
  await w.run(500);
  assert.equal(w.fleet.state().pool.sandboxes, 1);
  const [ahead] = w.driver.sandboxes.keys();
  const request = w.crowd.send(revision, 10, null);
  await w.run(500);
  assert.equal(request.end, "ok");
  assert.equal([...w.driver.byInstance.values()][0]?.id, ahead);
  assert.equal(w.fleet.state().pool.sandboxes, 1);
  await w.run(70_000);
  w.checkZero();
});

test("what was started ahead and takes no code is thrown away, and the start is made afresh: nobody's failure, no back-off", async () => {
  const w = world({ poolMb: 64, faults: { ...noFaults, deaf: 1000 } });
  const revision = revisionOf("hello");
  w.deploy(revision);
  await w.run(500);
  const request = w.crowd.send(revision, 10, null);
  await w.run(2_500);
  assert.equal(request.end, "ok");
  assert.equal(w.fleet.workloadState(revision).lastFailure, null);
  assert.deepEqual(
    w.facts.filter(({ kind }) => kind === "defect" || kind === "instance_failed").map(({ kind }) => kind),
    ["defect"],
  );
  const checking = w.fleet.check(revision);
  await w.run(3_000);
  assert.ok((await checking).ok, "a load check goes on in another as well");
  await w.run(80_000);
  w.checkZero();
});

test("what was started ahead and ends in the very turn of its taking leaves nobody waiting", async () => {
  const w = world({ poolMb: 64 });
  const revision = revisionOf("hello");
  w.deploy(revision);
  await w.run(500);
  const [ahead] = w.driver.sandboxes.values();
  const request = w.crowd.send(revision, 10, null);
  assert.equal(w.fleet.state().pool.sandboxes, 0);
  w.driver.exit(ahead!, { reason: "killed", code: null, message: "It was ended by SIGKILL." });
  await w.run(1_000);
  assert.equal(request.end, "ok");
  assert.equal(w.fleet.workloadState(revision).lastFailure, null);
});

test("a run that waits for its project's quota keeps nobody else from starting ahead; one that waits for memory does", async () => {
  const quotas = { full: { memoryMb: 256, instances: null, ratePerSecond: null } };
  const w = world({ memoryMb: 1_024, quotas });
  const one = revisionOf("one");
  w.deploy(one);
  const run = (memoryMb: number, project: string) =>
    w.fleet.execute(executionOf(jobOf("report", {}, project), memoryMb));
  const begun = run(256, "full");
  await begun.admitted;
  const held = run(256, "full");
  assert.equal(w.fleet.roomFor(one), true);
  const large = run(900, "other");
  assert.equal(w.fleet.roomFor(one), false);
  for (const execution of [begun, held, large]) await execution.stop(0);
  await w.run(70_000);
  w.checkZero();
});
