// What the commands promise: who may, what changes, what is told, what is audited.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { EbbError } from "#model/errors.ts";
import { deployLimits } from "#model/limits.ts";
import type { DeployProgress } from "./door.ts";
import { createWorld, functionOf, type World } from "./world.testing.ts";

let world: World;
beforeEach(async () => {
  world = await createWorld();
});
afterEach(() => world.stop());

function last(steps: readonly DeployProgress[]): Extract<DeployProgress, { step: "deployed" }> {
  const step = steps.at(-1);
  assert.ok(step?.step === "deployed");
  return step;
}

function app(
  functions: ReadonlyArray<{ name: string; source?: string; [key: string]: unknown }>,
  more: object = {},
): string {
  return JSON.stringify({ ...more, functions: functions.map((one) => ({ source: `./${one.name}`, ...one })) });
}

const syntaxError = {
  fault: "function",
  message: "SyntaxError: Unexpected token '}' (index.js:3)",
  stack: "/code/index.js:3\n}",
  hint: null,
} as const;

test("a plain folder becomes revision 1 of one function, recognised and told", async () => {
  const steps = await world.deploy({ "index.js": "a" }, { folderName: "hello", gitCommit: "0123abc" });
  assert.deepEqual(
    steps.map(({ step }) => step),
    ["received", "building", "built", "checking", "checked", "deployed"],
  );
  const [result] = last(steps).results;
  assert.deepEqual(
    [result?.workload, result?.revision, result?.before, result?.handler, result?.url],
    ["hello", 1, null, "default", "http://hello.localhost:8080"],
  );
  const revision = functionOf(world, "hello");
  assert.equal(revision.gitCommit, "0123abc");
  assert.equal(revision.createdBy, world.admin.name);
  assert.equal(revision.settingSources.handler, "recognised");
  assert.deepEqual(world.effects, ["changed hello r1"]);
  assert.deepEqual(
    [world.audits.at(-1)?.command, world.audits.at(-1)?.outcome, world.audits.at(-1)?.detail],
    ["workloads deploy", "ok", "hello r1"],
  );
  assert.equal(world.uploadsOpen(), 0);
});

test("an interpreter that is not there yet is fetched before the load check, and told", async () => {
  world.missing.add("node24");
  const files = { "ebb.yaml": app([{ name: "a", runtime: "node24" }]), "a/i": "1" };
  const steps = await world.deploy(files);
  assert.deepEqual(steps.filter(({ step }) => !["received", "building", "built"].includes(step)).slice(0, 3), [
    { step: "fetching", workload: "a", what: "an interpreter for node24" },
    { step: "checking", workload: "a" },
    { step: "checked", workload: "a", runtime: "node24", entry: "index.js", handler: "default", signature: "web" },
  ]);
  const again = await world.deploy({ ...files, "a/i": "2" });
  assert.ok(!again.some(({ step }) => step === "fetching"));
});

test("redeploying the same changes nothing and loads nothing", async () => {
  await world.deploy({ "index.js": "a" }, { name: "hello" });
  const again = last(await world.deploy({ "index.js": "a" }, { name: "hello" }));
  assert.deepEqual([again.results[0]?.revision, again.results[0]?.before, again.results[0]?.unchanged], [1, 1, true]);
  assert.deepEqual(world.loads, ["hello"]);
  assert.deepEqual(world.effects, ["changed hello r1"]);
});

test("other code or another setting is a new revision", async () => {
  await world.deploy({ "index.js": "a" }, { name: "hello" });
  assert.equal(last(await world.deploy({ "index.js": "b" }, { name: "hello" })).results[0]?.revision, 2);
  assert.equal(last(await world.deploy({ "index.js": "b" }, { name: "hello", memoryMb: 512 })).results[0]?.revision, 3);
  assert.equal(
    last(await world.deploy({ "index.js": "b" }, { name: "hello", memoryMb: 512, env: { A: "1" } })).results[0]?.before,
    3,
  );
});

test("code that does not load is refused with its author's error, and the old revision goes on", async () => {
  await world.deploy({ "index.js": "good" }, { name: "hello" });
  world.loadFailures.set("broken", syntaxError);
  await assert.rejects(world.deploy({ "index.js": "broken" }, { name: "hello" }), (error) => {
    assert.ok(error instanceof EbbError);
    assert.equal(error.code, "deploy_refused");
    assert.match(error.message, /^hello: SyntaxError: Unexpected token '}' \(index\.js:3\)/);
    assert.deepEqual(error.extra["problems"], [
      {
        workload: "hello",
        message: syntaxError.message,
        stack: syntaxError.stack,
        hint: null,
        output: "printed while loading\n",
      },
    ]);
    return true;
  });
  assert.equal(world.mirror.workload("default", "hello")?.workload.current, 1);
  assert.equal(world.audits.at(-1)?.outcome, "refused");
  assert.deepEqual(world.effects, ["changed hello r1"]);
  assert.equal(world.uploadsOpen(), 0);
});

test("all functions of an app are checked, every problem is told, and nothing is switched", async () => {
  world.loadFailures.set("broken", syntaxError);
  const files = {
    "ebb.yaml": app([{ name: "a" }, { name: "b" }, { name: "c" }]),
    "a/i": "broken 1",
    "b/i": "fine",
    "c/i": "broken 2",
  };
  await assert.rejects(world.deploy(files), (error) => {
    assert.ok(error instanceof EbbError);
    const problems: unknown = error.extra["problems"];
    assert.ok(Array.isArray(problems));
    assert.deepEqual(
      problems.map(({ workload }) => workload),
      ["a", "c"],
    );
    assert.match(error.message, /\(and 1 more\)$/);
    return true;
  });
  assert.deepEqual([...world.mirror.workloads("default")], []);
});

test("several functions are switched in one transaction, what left the app file is kept and named, prune removes what it names", async () => {
  await world.deploy({ "ebb.yaml": app([{ name: "a" }, { name: "b" }]), "a/i": "1", "b/i": "1" });
  const kept = last(await world.deploy({ "ebb.yaml": app([{ name: "a" }]), "a/i": "2" }));
  assert.deepEqual([kept.kept, kept.removed, kept.results[0]?.revision], [["b"], [], 2]);
  world.effects.length = 0;
  const pruned = last(await world.deploy({ "ebb.yaml": app([{ name: "a" }]), "a/i": "2" }, { prune: ["b"] }));
  assert.deepEqual([pruned.kept, pruned.removed], [[], ["b"]]);
  assert.deepEqual(world.effects, ["changed b gone"]);
  assert.equal(world.mirror.workload("default", "b"), null);
});

test("prune removes the names that were agreed, and none that has appeared since", async () => {
  await world.deploy({ "ebb.yaml": app([{ name: "a" }, { name: "b" }]), "a/i": "1", "b/i": "1" });
  await world.deploy({ i: "1" }, { name: "late" });
  const files = { "ebb.yaml": app([{ name: "a" }]), "a/i": "1" };
  const pruned = last(await world.deploy(files, { prune: ["b", "gone-already"] }));
  assert.deepEqual([pruned.kept, pruned.removed], [["late"], ["b"]]);
  assert.ok(world.mirror.workload("default", "late"));
});

test("what the app file declares cannot be pruned", async () => {
  const files = { "ebb.yaml": app([{ name: "a" }]), "a/i": "1" };
  await assert.rejects(world.deploy(files, { prune: ["a"] }), {
    code: "bad_request",
    message: 'prune: "a" is declared in ebb.yaml; only what it does not declare can be removed',
  });
  assert.deepEqual(world.loads, []);
});

test("a secret that nobody set refuses the deploy with the command that sets it", async () => {
  const files = { "ebb.yaml": app([{ name: "thumbnail", secrets: ["DB_PASSWORD"] }]), "thumbnail/i": "1" };
  await assert.rejects(world.deploy(files), {
    code: "deploy_refused",
    message: "thumbnail needs the secret DB_PASSWORD; set it: ebb secrets set DB_PASSWORD",
  });
  assert.deepEqual(world.loads, []);
  await world.control.setSecret(world.admin, "default", "DB_PASSWORD", "x");
  assert.equal(last(await world.deploy(files)).results[0]?.revision, 1);
});

test("a missing package is told with the command that installs it", async () => {
  world.loadFailures.set("sharp", {
    fault: "function",
    message: "Error [ERR_MODULE_NOT_FOUND]: Cannot find package 'sharp' imported from /code/index.js",
    stack: "file:///code/index.js:1\nimport sharp from 'sharp'",
    hint: null,
  });
  const files = { "ebb.yaml": app([{ name: "thumbnail" }]), "thumbnail/index.js": "sharp" };
  await assert.rejects(world.deploy(files), {
    message: 'thumbnail: cannot find package "sharp" (index.js:1). Run npm install in ./thumbnail, then deploy.',
  });
});

test("a wrong app file is refused with file, line and what was expected", async () => {
  await assert.rejects(world.deploy({ "ebb.yaml": "!expected a whole number" }), {
    code: "invalid_app",
    message: "ebb.yaml:3: functions.a.memoryMb: expected a whole number",
  });
});

test("nothing of an archive is read for whoever may not deploy", async () => {
  const reader = (await world.mint("read", "default")).identity;
  let read = false;
  const { Readable } = await import("node:stream");
  const archive = new Readable({
    read() {
      read = true;
      this.push(null);
    },
  });
  await assert.rejects(world.deploy({}, { archive, name: "x" }, reader), { code: "forbidden" });
  assert.equal(read, false);
  assert.deepEqual([world.audits.at(-1)?.outcome, world.audits.at(-1)?.identity], ["refused", reader.name]);
});

test("the app file's project counts, and a token of another project is refused", async () => {
  const photos = { "ebb.yaml": app([{ name: "a" }], { project: "photos" }), "a/i": "1" };
  assert.equal(last(await world.deploy(photos)).results[0]?.project, "photos");
  const other = (await world.mint("deploy", "other")).identity;
  await assert.rejects(world.deploy(photos, { project: "photos" }, other), { code: "forbidden" });
  await assert.rejects(world.deploy(photos, {}, other), { code: "forbidden" });
  const deployer = (await world.mint("deploy", null)).identity;
  const nowhere = { "ebb.yaml": app([{ name: "a" }], { project: "nowhere" }), "a/i": "1" };
  await assert.rejects(world.deploy(nowhere, {}, deployer), /there is no project "nowhere"; an admin creates it/);
});

test("deploys of one project come one after the other, and a rollback does not wait for them", async () => {
  await world.deploy({ i: "1" }, { name: "a" });
  await world.deploy({ i: "2" }, { name: "a" });
  const { promise, resolve } = Promise.withResolvers<void>();
  world.gate = promise;
  const third = world.deploy({ i: "3" }, { name: "a" });
  const fourth = world.deploy({ i: "4" }, { name: "a" });
  assert.equal((await world.control.rollback(world.admin, "default", "a", null)).number, 1);
  resolve();
  // Which upload is through first is the disk's to say; the revisions that they become follow each other.
  const made = [last(await third).results[0]?.revision ?? 0, last(await fourth).results[0]?.revision ?? 0];
  assert.deepEqual(
    made.toSorted((a, b) => a - b),
    [3, 4],
  );
  assert.deepEqual(world.effects, ["changed a r1", "changed a r2", "changed a r1", "changed a r3", "changed a r4"]);
});

test("a deploy that was the same when it began is a new revision when a rollback came between", async () => {
  await world.deploy({ i: "1" }, { name: "a" });
  await world.deploy({ i: "2" }, { name: "a" });
  const steps: DeployProgress[] = [];
  const { Readable } = await import("node:stream");
  const request = {
    project: null,
    name: "a",
    memoryMb: null,
    env: {},
    public: null,
    prune: [],
    gitCommit: null,
    archive: Readable.from(['{"i":"2"}']),
  };
  const rolled: Promise<unknown>[] = [];
  await world.control.deploy(world.admin, request, (step) => {
    if (step.step === "checked") rolled.push(world.control.rollback(world.admin, "default", "a", 1));
    steps.push(step);
  });
  await Promise.all(rolled);
  assert.equal(last(steps).results[0]?.revision, 3);
  assert.equal(functionOf(world, "a").settings.handler, "default");
});

test("old revisions are collected, but never the one that serves", async () => {
  for (let i = 1; i <= deployLimits.revisionsKept; i++) await world.deploy({ i: `${i}` }, { name: "a" });
  await world.control.rollback(world.admin, "default", "a", 1);
  await world.deploy({ i: "new" }, { name: "a" });
  await world.deploy({ i: "newer" }, { name: "a" });
  const kept = (await world.store.revisions({ project: "default", workload: "a" })).map(({ number }) => number);
  assert.equal(kept.length, deployLimits.revisionsKept);
  assert.equal(kept[0], deployLimits.revisionsKept + 2);
  assert.ok(!kept.includes(1));
});

test("rollback goes to the previous or to a named revision, and says what is kept", async () => {
  await world.deploy({ i: "1" }, { name: "a" });
  await assert.rejects(
    world.control.rollback(world.admin, "default", "a", null),
    /a has no revision before r1; kept: r1/,
  );
  await world.deploy({ i: "2" }, { name: "a" });
  await assert.rejects(world.control.rollback(world.admin, "default", "a", 9), /a has no r9; kept: r2, r1/);
  await assert.rejects(world.control.rollback(world.admin, "default", "a", 2), /r2 of a is the one that serves/);
  await world.control.rollback(world.admin, "default", "a", 1);
  assert.equal(world.mirror.workload("default", "a")?.revision.number, 1);
  assert.equal(world.audits.at(-1)?.detail, "r2 -> r1");
});

test("a new secret value replaces the instances of the workloads that name it", async () => {
  await world.control.setSecret(world.admin, "default", "KEY", "one");
  await world.deploy({ "ebb.yaml": app([{ name: "a", secrets: ["KEY"] }, { name: "b" }]), "a/i": "1", "b/i": "1" });
  world.effects.length = 0;
  assert.deepEqual(await world.control.setSecret(world.admin, "default", "KEY", "two"), {
    version: 2,
    replaced: ["a"],
  });
  assert.deepEqual(world.effects, ["replaced a r1"]);
  assert.equal(world.access.open(world.mirror.secret("default", "KEY")!), "two");
  await assert.rejects(world.control.removeSecret(world.admin, "default", "KEY"), /a needs the secret KEY/);
  assert.ok(!JSON.stringify(world.audits).includes("two"));
});

test("names are judged before anything is touched", async () => {
  const bad = ["../../etc/passwd", "A", "a\0", "a".repeat(65_536), "", "a--b", "r1--a"];
  for (const name of bad) {
    await assert.rejects(world.control.createProject(world.admin, name), { code: "invalid_name" }, name);
    await assert.rejects(world.control.restart(world.admin, "default", name), { code: "invalid_name" }, name);
    await assert.rejects(world.deploy({ i: "" }, { folderName: name }), /./, name);
  }
  for (const name of ["../x", "a b", "PORT", "EBB_X", "", "1A"])
    await assert.rejects(world.control.setSecret(world.admin, "default", name, "v"), { code: "invalid_name" }, name);
  assert.ok(world.audits.every(({ target }) => (target ?? "").length <= 100));
});

test("a value that no environment can hold is refused", async () => {
  await assert.rejects(world.control.setSecret(world.admin, "default", "A", "a\0b"), /NUL/);
  await assert.rejects(world.control.setSecret(world.admin, "default", "A", "x".repeat(70_000)), {
    code: "payload_too_large",
  });
});

test("a project holds its quotas at deploy, and is removed with everything only when asked", async () => {
  await world.control.createProject(world.admin, "photos");
  await world.control.setProject(world.admin, "photos", { memoryMb: 128 });
  await assert.rejects(
    world.deploy({ i: "1" }, { project: "photos", name: "a" }),
    /256 MiB is more than the 128 MiB of project "photos"/,
  );
  await world.control.setProject(world.admin, "photos", { memoryMb: null, instances: 3 });
  assert.deepEqual(world.mirror.project("photos")?.quotas, { memoryMb: null, instances: 3, ratePerSecond: null });
  await world.deploy({ i: "1" }, { project: "photos", name: "a" });
  const { text } = await world.mint("deploy", "photos");
  await assert.rejects(world.control.removeProject(world.admin, "photos", false), { code: "precondition_required" });
  await world.control.removeProject(world.admin, "photos", true);
  assert.equal(world.mirror.project("photos"), null);
  assert.equal(world.access.authenticate(text, world.clock.nowMs), null);
  assert.deepEqual(world.effects.slice(-2), ["changed a gone", "images of photos forgotten"]);
  await assert.rejects(world.control.removeProject(world.admin, "default", true), { code: "conflict" });
});

test("tokens: made for a project, removed at once, and the last admin stays", async () => {
  const made = await world.control.createToken(world.admin, {
    name: "ci",
    project: "default",
    scope: "deploy",
    expiresMs: null,
  });
  assert.equal(world.access.authenticate(made.token, world.clock.nowMs)?.scope, "deploy");
  assert.ok(!JSON.stringify([...world.mirror.tokens(null)]).includes(made.token));
  await world.control.removeToken(world.admin, "default", made.id);
  assert.equal(world.access.authenticate(made.token, world.clock.nowMs), null);

  const admins = [...world.mirror.tokens(null)].filter(({ project }) => project === null);
  await world.control.removeToken(world.admin, null, admins[0]!.id);
  await assert.rejects(world.control.removeToken(world.admin, null, admins[1]!.id), /the last admin token/);
  const past = { name: "x", project: null, scope: "read", expiresMs: world.clock.nowMs } as const;
  await assert.rejects(world.control.createToken(world.admin, past), /in the future/);
});

test("a project's admin stays inside the project", async () => {
  await world.control.createProject(world.admin, "photos");
  const boss = (await world.mint("admin", "photos")).identity;
  await assert.rejects(world.control.createToken(boss, { name: "x", project: null, scope: "read", expiresMs: null }), {
    code: "forbidden",
  });
  await assert.rejects(world.control.setProject(boss, "photos", { memoryMb: null }), { code: "forbidden" });
  await assert.rejects(world.control.createProject(boss, "more"), { code: "forbidden" });
  await world.control.createToken(boss, { name: "x", project: "photos", scope: "admin", expiresMs: null });
});

test("names have their lengths, and what ebb needs for itself is reserved where it would collide", async () => {
  const refused = (name: string): Promise<void> =>
    assert.rejects(world.deploy({ i: "1" }, { name }), { code: "invalid_name" }, name);
  for (const name of ["console", "api", "a".repeat(41), "r3--hello", "a--b", "-a", "a-", "Hello"]) await refused(name);
  await assert.rejects(world.control.createProject(world.admin, "a".repeat(22)), { code: "invalid_name" });
  await world.control.createProject(world.admin, "p".repeat(21));
  await world.deploy({ i: "1" }, { name: "a".repeat(40) });
  for (const name of ["console", "api"]) await world.deploy({ i: "1" }, { project: "p".repeat(21), name });
});

test("bootstrap keeps a token that works, and replaces one that does not", async () => {
  const text = await world.control.bootstrap("ebb_nonsense");
  assert.equal(world.access.authenticate(text, 1)?.scope, "admin");
  assert.equal(await world.control.bootstrap(text), text);
  const next = await world.control.bootstrap(null);
  assert.equal(world.access.authenticate(text, 1), null, "the lost one does not stay valid");
  assert.equal(world.access.authenticate(next, 1)?.scope, "admin");
});

test("when the store is away, a command fails and says so", async () => {
  const away = new EbbError("store_unavailable", "ebb's store is restarting");
  world.store.apply = async () => Promise.reject(away);
  world.store.audit = async () => Promise.reject(away);
  await assert.rejects(world.control.createProject(world.admin, "photos"), { code: "store_unavailable" });
  assert.equal(world.mirror.project("photos"), null);
  assert.ok(world.facts.some((fact) => fact.kind === "defect" && fact.where === "audit of projects create"));
});
