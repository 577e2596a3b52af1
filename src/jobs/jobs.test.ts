// The room over the real fleet and a fake driver: what users see of runs, whatever happens to tasks, room and ebb itself.

import assert from "node:assert/strict";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterEach, test } from "node:test";
import { EbbError } from "#model/errors.ts";
import { jobLimits, sandboxLimits } from "#model/limits.ts";
import type { Assignment } from "#sandbox/door.ts";
import { audit } from "#store/fixtures/things.ts";
import { jobOf, noOverrides } from "./job.testing.ts";
import { exits, lasts, put, World, type WorldOptions } from "./world.testing.ts";

let world: World | null = null;
async function begin(options: WorldOptions = {}): Promise<World> {
  world = new World(options);
  await world.start();
  return world;
}
afterEach(async () => {
  await world?.end();
  world = null;
});

/** The disk is no part of the clock that is moved by hand. */
async function eventually(holds: () => boolean): Promise<void> {
  for (let turn = 0; turn < 10_000 && !holds(); turn++) await new Promise((resolve) => void setImmediate(resolve));
  assert.ok(holds());
}

const attemptOf = ({ env }: Assignment): number => Number(env["EBB_JOB_ATTEMPT"]);

test("a run goes from accepted to succeeded, is metered, and leaves nothing", async () => {
  const w = await begin();
  const id = await w.run(jobOf("report", { args: ["--all"], env: { LEVEL: "info" } }), { env: { MONTH: "11" } });
  await w.clock.advance(1_000);
  const run = await w.look(id);
  assert.deepEqual([run.state, run.reason, run.tasks[0]?.exitCode], ["succeeded", null, 0]);
  const [{ command, env, probe, codeDigest } = assert.fail()] = w.assigned;
  assert.deepEqual(command, ["node", "report.js", "--all"]);
  assert.deepEqual([probe, codeDigest], [null, "0".repeat(64)]);
  const { EBB_RUN, LEVEL, MONTH, EBB_JOB_INDEX, EBB_JOB_COUNT, EBB_JOB_ATTEMPT, EBB_RESULT, PORT } = env;
  assert.deepEqual([EBB_RUN, LEVEL, MONTH], [id, "info", "11"]);
  assert.deepEqual([EBB_JOB_INDEX, EBB_JOB_COUNT, EBB_JOB_ATTEMPT, EBB_RESULT], ["0", "1", "1", "/ebb/result"]);
  assert.equal(PORT, undefined);
  assert.deepEqual(
    w.marks.map((mark) => [mark.workload, mark.begin.trigger, mark.begin.id, mark.end?.outcome]),
    [["report", "manual", run.tasks[0]?.execution, "ok"]],
  );
  assert.deepEqual([w.driver.living, w.fleet.state().memoryBytes, w.clock.pending()], [0, 0, 0]);
});

test("what a run says itself takes the place of the job's, and is held to the same bounds", async () => {
  const w = await begin({ memoryMb: 4_096 });
  const job = jobOf("report", { args: ["--all"], parallelism: 3 });
  const id = await w.run(job, { args: ["--none"], memoryMb: 512, parallelism: 1 });
  await w.clock.advance(1_000);
  assert.deepEqual(w.assigned.map(({ command }) => command), [["node", "report.js", "--none"]]); // prettier-ignore
  assert.equal(w.marks[0]?.memoryMb, 512);
  assert.equal((await w.look(id)).tasks.length, 1);
  const refused = (error: unknown): boolean => error instanceof EbbError && error.code === "capacity";
  await assert.rejects(w.run(job, { memoryMb: 60_000 }), refused);
});

test("a task that fails is tried again after a pause that grows, as often as the job says", async () => {
  const w = await begin({ script: (assignment) => exits(attemptOf(assignment) === 3 ? 0 : 7) });
  const id = await w.run(jobOf("report", { retries: 2 }));
  await w.clock.advance(500);
  let run = await w.look(id);
  assert.deepEqual([run.state, run.reason, run.message], ["retrying", "error", "It exited with code 7."]);
  await w.clock.advance(jobLimits.retryFirstMs + 300);
  run = await w.look(id);
  assert.deepEqual([run.state, run.tasks[0]?.attempts], ["retrying", 2]);
  await w.clock.advance(2 * jobLimits.retryFirstMs);
  run = await w.look(id);
  assert.deepEqual([run.state, run.tasks[0]?.attempts, run.message], ["succeeded", 3, null]);
  assert.deepEqual(w.marks.map(({ end }) => end?.outcome), ["error", "error", "ok"]); // prettier-ignore
});

test("what takes longer than it may is asked to end, and then killed", async () => {
  const w = await begin({ script: () => ({ ...lasts, ignoresTerm: true }) });
  const id = await w.run(jobOf("report", { timeoutSeconds: 60 }));
  await w.clock.advance(59_000);
  assert.equal((await w.look(id)).state, "running");
  await w.clock.advance(2_000 + jobLimits.stopGraceMs);
  const run = await w.look(id);
  assert.deepEqual([run.state, run.reason, run.message], ["failed", "timeout", "It took longer than 60 s."]);
  assert.deepEqual([w.marks[0]?.end?.outcome, w.driver.living], ["timeout", 0]);
});

test("each task of a run knows which one it is, and one that fails fails the run", async () => {
  const w = await begin({ script: ({ env }) => exits(env["EBB_JOB_INDEX"] === "2" ? 1 : 0) });
  const id = await w.run(jobOf("report", { parallelism: 4 }));
  await w.clock.advance(2_000);
  const run = await w.look(id);
  assert.deepEqual(run.tasks.map(({ state }) => state), ["succeeded", "succeeded", "failed", "succeeded"]); // prettier-ignore
  assert.deepEqual([run.state, run.message], ["failed", "task 2: It exited with code 1."]);
  const told = w.assigned.map(({ env }) =>
    [env["EBB_JOB_INDEX"], env["EBB_JOB_COUNT"], env["CLOUD_RUN_TASK_INDEX"]].join(" of "),
  );
  assert.deepEqual(new Set(told), new Set(["0 of 4 of 0", "1 of 4 of 1", "2 of 4 of 2", "3 of 4 of 3"]));
});

test("a stop ends what waits and what runs, and is no failure", async () => {
  const w = await begin({ script: () => lasts, memoryMb: 1_024 });
  const job = jobOf("report", { memoryMb: 400, retries: 3 });
  const [runs, waits] = [await w.run(job), await w.run(job)];
  await w.clock.advance(500);
  assert.deepEqual([(await w.look(runs)).state, (await w.look(waits)).reason], ["running", "capacity"]);
  await Promise.all([w.jobs.stopRun(waits), w.jobs.stopRun(runs)]);
  assert.deepEqual([(await w.look(runs)).state, (await w.look(waits)).state], ["stopping", "stopped"]);
  await w.clock.advance(500);
  assert.equal((await w.look(runs)).state, "stopped");
  assert.deepEqual([w.driver.living, w.fleet.state().memoryBytes], [0, 0]);
  await w.jobs.stopRun(runs);
  assert.equal((await w.look(runs)).state, "stopped");
});

test("runs wait for memory and quotas, say so, and begin in their order as there is room", async () => {
  const quotas = { small: { memoryMb: 300, instances: null, ratePerSecond: null } };
  const w = await begin({ script: () => exits(0, 1_000), quotas });
  const small = jobOf("report", {}, "small");
  const ids = [await w.run(small), await w.run(small), await w.run(small)];
  const other = await w.run(jobOf("other"));
  await w.clock.advance(500);
  const states = async (): Promise<string[]> =>
    Promise.all(ids.map(async (id) => ((run) => run.reason ?? run.state)(await w.look(id, "small"))));
  assert.deepEqual(await states(), ["running", "over_quota", "queued"]);
  assert.equal((await w.look(other)).state, "running");
  await w.clock.advance(1_000);
  assert.deepEqual(await states(), ["succeeded", "running", "over_quota"]);
  await w.clock.advance(3_000);
  assert.deepEqual(await states(), ["succeeded", "succeeded", "succeeded"]);
});

test("a planned stop interrupts what runs; the next ebb runs it again, and no retry is used", async () => {
  const w = await begin({ script: (assignment) => (attemptOf(assignment) === 1 ? lasts : exits(0)) });
  const id = await w.run(jobOf("report"));
  const last = await w.run(jobOf("once", { rerunOnInterrupt: false }));
  await w.clock.advance(500);
  await w.stop();
  let [run] = await w.store.runs({ project: "default", id, limit: 1 });
  assert.deepEqual([run?.state, run?.reason], ["queued", "interrupted"]);
  assert.deepEqual(w.marks.map(({ end }) => end?.outcome), ["interrupted", "interrupted"]); // prettier-ignore
  await w.rise();
  await w.clock.advance(500);
  run = await w.look(id);
  assert.deepEqual([run.state, run.tasks[0]?.attempts, run.tasks[0]?.failures], ["succeeded", 2, 0]);
  assert.equal((await w.look(last)).state, "interrupted");
});

test("what an ebb that was killed has left is run again, but not what was being stopped", async () => {
  const w = await begin({ script: (assignment) => (attemptOf(assignment) === 1 ? lasts : exits(0)) });
  const [id, stopping] = [await w.run(jobOf("report")), await w.run(jobOf("other"))];
  await w.clock.advance(500);
  // It is dying at this very moment.
  void w.jobs.stopRun(stopping);
  await w.clock.advance(1);
  assert.equal((await w.look(stopping)).state, "stopping");
  const killed = w.jobs;
  await w.rise();
  await w.clock.advance(500);
  assert.deepEqual([(await w.look(id)).state, (await w.look(stopping)).state], ["succeeded", "stopped"]);
  void killed.stop();
});

test("a start that the platform fails is tried again without a retry; one that its author can mend is told", async () => {
  let broken = 2;
  const w = await begin({ script: () => (broken-- > 0 ? { assignThrows: "no sandbox today" } : exits(0)) });
  const id = await w.run(jobOf("report"));
  await w.clock.advance(100);
  const run = await w.look(id);
  assert.deepEqual([run.state, run.reason, run.message], ["queued", "not_started", "no sandbox today"]);
  await w.clock.advance(5_000);
  assert.equal((await w.look(id)).state, "succeeded");
  const secret = await w.run(jobOf("secret", { secrets: ["KEY"] }));
  await w.clock.advance(100);
  const failed = await w.look(secret);
  assert.deepEqual([failed.state, failed.reason], ["failed", "not_started"]);
  assert.match(failed.message ?? "", /secret KEY is not set/);
  assert.equal(w.fleet.state().memoryBytes, 0);
});

test("sandboxes that are not made in time hold no turn any more, and their tasks are tried again; what comes of them late is ended", async () => {
  const w = await begin();
  w.prepareMs = 3_600_000;
  const held = await Promise.all(Array.from({ length: 6 }, (_, i) => w.run(jobOf(`held${i}`))));
  await w.clock.advance(1);
  w.prepareMs = 0;
  await w.clock.advance(sandboxLimits.startMs);
  const { state, reason, message } = await w.look(held[0]!);
  assert.deepEqual([state, reason, message], ["queued", "not_started", "no sandbox could be made in 30 s."]);
  await w.clock.advance(60_000);
  for (const id of held) assert.equal((await w.look(id)).state, "succeeded");
  assert.ok(w.fleet.state().memoryBytes > 0, "one that may still come keeps its memory");
  await w.clock.advance(3_600_000);
  assert.deepEqual([w.driver.living, w.fleet.state().memoryBytes, w.clock.pending()], [0, 0, 0]);
});

test("a store that is away for a while delays what is to be remembered, and loses nothing", async () => {
  const w = await begin();
  const works = w.store.updateRuns.bind(w.store);
  w.store.updateRuns = async () => Promise.reject(new EbbError("store_unavailable", "restarting"));
  const id = await w.run(jobOf("report"));
  await w.clock.advance(3_000);
  assert.equal(w.driver.prepared, 0, "what is not on the disk does not begin");
  w.store.updateRuns = works;
  await w.clock.advance(3_000);
  assert.equal((await w.look(id)).state, "succeeded");
});

test("the runs of a job that is removed end", async () => {
  const w = await begin({ script: () => lasts });
  const job = jobOf("report");
  const id = await w.run(job);
  await w.clock.advance(500);
  assert.equal(w.jobs.running(job), 1);
  await w.store.apply({
    mutations: [{ kind: "remove_workload", key: job }],
    audit: { timeMs: 1, identity: "test", command: "rm", project: null, target: null, outcome: "ok", detail: "" },
  });
  w.jobs.removed(job);
  await w.clock.advance(jobLimits.stopGraceMs);
  assert.deepEqual([w.driver.living, w.jobs.running(job)], [0, 0]);
  assert.deepEqual(await w.store.runs({ project: "default", id, limit: 1 }), []);
});

test("a job that is removed takes what its own runs left, and not what a new one of its name has by then", async () => {
  const w = await begin({ script: () => ({ ...lasts, stopMs: 3_000 }) });
  const job = jobOf("report");
  const left = (id: string): string => join(w.directory, "default", "report", `${id}.0`);
  const old = await w.run(job);
  mkdirSync(dirname(left(old)), { recursive: true });
  writeFileSync(left(old), "old");
  await w.clock.advance(500);
  w.jobs.removed(job);
  await w.clock.advance(500);
  const fresh = await w.run(job);
  writeFileSync(left(fresh), "new");
  await w.clock.advance(jobLimits.stopGraceMs);
  await eventually(() => !existsSync(left(old)));
  assert.ok(existsSync(left(fresh)));
});

test("a run that is told of as accepted when its job is gone already is not begun", async () => {
  const w = await begin({ script: () => lasts });
  w.isThere = () => false;
  await w.run(jobOf("report"));
  await w.clock.advance(500);
  assert.deepEqual([w.assigned.length, w.jobs.running(jobOf("report"))], [0, 0]);
});

test("whoever waits for a run hears of its end at once, or of its time being up", async () => {
  const w = await begin({ script: () => exits(0, 10_000) });
  const id = await w.run(jobOf("report"));
  let heard = "";
  void w.jobs.ended(id, 1_000).then(() => (heard += "late "));
  void w.jobs.ended(id, 60_000).then(() => (heard += "ended"));
  await w.clock.advance(2_000);
  assert.equal(heard, "late ");
  await w.clock.advance(9_000);
  assert.equal(heard, "late ended");
  await w.jobs.ended(id, 60_000);
});

test("one that takes no time is metered with what it has used all the same", async () => {
  const usage = { cpuNs: 3_000_000, memoryPeakBytes: null };
  const exit = { reason: "exited", code: 0, message: "It exited with code 0.", usage } as const;
  const w = await begin({ script: () => ({ dies: { afterMs: 10, exit } }) });
  const execute = w.fleet.execute.bind(w.fleet);
  w.fleet.execute = (spec) => {
    const execution = execute(spec);
    // Nobody hears of its beginning before it has ended.
    const start: typeof execution.start = async (opened) => {
      const failure = await execution.start(opened);
      await execution.over;
      return failure;
    };
    return { ...execution, start };
  };
  const id = await w.run(jobOf("report"));
  await w.clock.advance(1_000);
  assert.equal((await w.look(id)).state, "succeeded");
  const [{ cpuAtBegin, cpuAtEnd } = assert.fail()] = w.marks;
  assert.deepEqual([cpuAtBegin, cpuAtEnd], [0, 3_000_000]);
});

test("what a run uses before anybody hears of its beginning is its own too", async () => {
  const w = await begin({ script: () => lasts });
  const execute = w.fleet.execute.bind(w.fleet);
  let cpuNs = 1_000;
  w.fleet.execute = (spec) => {
    const execution = execute(spec);
    const start: typeof execution.start = async (opened) => {
      const failure = await execution.start(opened);
      cpuNs = 5_000;
      return failure;
    };
    return { ...execution, start, usage: () => ({ cpuNs, memoryPeakBytes: null }) };
  };
  await w.run(jobOf("report"));
  await w.clock.advance(500);
  assert.equal(w.marks[0]?.cpuAtBegin, 1_000);
});

test("a run that is accepted while ebb looks for what is left is begun once", async () => {
  const w = new World({ script: () => lasts });
  world = w;
  await w.store.start();
  await w.fleet.start();
  const id = await w.run(jobOf("report"));
  await w.clock.advance(500);
  assert.equal((await w.look(id)).state, "running");
  await w.jobs.start();
  await w.clock.advance(500);
  assert.deepEqual([w.assigned.length, (await w.look(id)).state], [1, "running"]);
});

test("whatever breaks an attempt, its task has ended, or begins again where it may", async () => {
  const w = await begin({ script: () => lasts });
  w.breaks = 2;
  const once = await w.run(jobOf("once", { rerunOnInterrupt: false }));
  await w.clock.advance(500);
  const again = await w.run(jobOf("again"));
  await w.clock.advance(500);
  assert.deepEqual([(await w.look(once)).state, (await w.look(again)).state], ["interrupted", "queued"]);
  assert.equal(w.driver.living, 0);
  await w.clock.advance(2_000);
  assert.equal((await w.look(again)).state, "running");
});

test("what cannot be metered is ended at once, and not begun again where it may not be", async () => {
  const w = await begin({ script: () => ({ ...lasts, ignoresTerm: true }) });
  w.noRoom = new EbbError("storage_full", "the disk is full");
  const id = await w.run(jobOf("once", { rerunOnInterrupt: false }));
  const again = await w.run(jobOf("again"));
  await w.clock.advance(500);
  const run = await w.look(id);
  assert.deepEqual([run.state, run.message], ["interrupted", "the disk is full"]);
  assert.deepEqual([(await w.look(again)).state, w.driver.living], ["queued", 0]);
  w.noRoom = null;
  await w.clock.advance(5_000);
  assert.equal((await w.look(again)).state, "running");
});

test("what runs of a project that have not ended hold has a bound, and those that end make room", async () => {
  const w = await begin({ script: () => exits(0) });
  const job = jobOf("report");
  const env = { LONG: "x".repeat(jobLimits.overrideBytes - 100) };
  const make = () => w.jobs.make({ revision: job, overrides: { ...noOverrides, env }, createdBy: "test" });
  const most = Math.floor(jobLimits.openRunsBytesPerProject / jobLimits.overrideBytes);
  const refused = (error: unknown): boolean => error instanceof EbbError && error.code === "over_quota";
  const accept = async (): Promise<void> => {
    for (let n = 0; n < most; n++) w.jobs.accepted(make());
  };
  await assert.rejects(accept, refused);
  w.jobs.removed(job);
  await w.clock.advance(10_000);
  make();
});

test("a run of which nobody knows whether it was stored runs when it was", async () => {
  const w = await begin();
  const [stored, lost] = ["stored", "lost"].map((name) =>
    w.jobs.make({ revision: jobOf(name), overrides: noOverrides, createdBy: "test" }),
  );
  const runs = w.store.runs.bind(w.store);
  w.store.runs = async () => Promise.reject(new EbbError("store_unavailable", "restarting"));
  w.jobs.doubtful(stored!);
  w.jobs.doubtful(lost!);
  await w.store.apply({ mutations: put(stored!), audit: audit("jobs run") });
  await w.clock.advance(3_000);
  assert.equal(w.assigned.length, 0);
  w.store.runs = runs;
  await w.clock.advance(3_000);
  assert.equal((await w.look(stored!.id)).state, "succeeded");
  assert.deepEqual([w.assigned.length, w.clock.pending()], [1, 0]);
});
