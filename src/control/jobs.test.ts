// Jobs through the commands: deployed, run, refused, and what a deploy over one does.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { settleContainer } from "#app/container-settings.ts";
import { recogniseFolder } from "#app/list-folder.ts";
import { readApp } from "#app/read.ts";
import { settle } from "#app/settings.ts";
import { settleImageJob, settleJob } from "#app/settle-job.ts";
import { EbbError } from "#model/errors.ts";
import { jobDefaults } from "#model/limits.ts";
import type { RunOverrides } from "#model/run.ts";
import type { Image } from "#images/door.ts";
import { isOfImage } from "#model/workload.ts";
import { createWorld, type World } from "./world.testing.ts";

let world: World;
before(async () => {
  world = await createWorld({
    app: { readApp, recognise: recogniseFolder, settle, settleContainer, settleJob, settleImageJob },
  });
});
after(() => world.stop());

const yaml = `jobs:
  report:
    source: ./report
    command: [node, report.js]
    args: [--all]
    retries: 2
`;
const files = { "ebb.yaml": yaml, "report/report.js": "console.log(1)" };
const none: RunOverrides = { env: {}, args: null, memoryMb: null, parallelism: null };
const is = (code: string, words: RegExp) => (error: unknown) =>
  error instanceof EbbError && error.code === code && words.test(error.message + JSON.stringify(error.extra));

test("a job is deployed with every default filled in, is not loaded, and answers nowhere", async () => {
  const steps = await world.deploy(files);
  const last = steps.at(-1);
  assert.ok(last?.step === "deployed");
  const [{ kind, runtime, command, url, public: open } = assert.fail()] = last.results;
  assert.deepEqual([kind, runtime, command, url, open], ["job", "node26", ["node", "report.js", "--all"], null, false]);
  assert.deepEqual([last.kept, last.keptMore], [[], 0], "it is declared, and not told as left over");
  const { revision } = world.mirror.workload("default", "report")!;
  assert.ok(revision.kind === "job");
  const { retries, memoryMb, timeoutSeconds, parallelism, rerunOnInterrupt, egress } = revision.settings;
  assert.deepEqual(
    { retries, memoryMb, timeoutSeconds, parallelism, rerunOnInterrupt, egress },
    {
      retries: 2,
      memoryMb: jobDefaults.memoryMb,
      timeoutSeconds: 86_400,
      parallelism: 1,
      rerunOnInterrupt: true,
      egress: "internet",
    },
  );
  assert.deepEqual([revision.settingSources.retries, revision.settingSources.memoryMb], ["app file", "default"]);
  assert.deepEqual(world.loads, []);
});

test("the same job again is no new revision; another argument is", async () => {
  await world.deploy(files);
  assert.equal(world.mirror.workload("default", "report")?.revision.number, 1);
  await world.deploy({ ...files, "ebb.yaml": yaml.replace("--all", "--none") });
  assert.equal(world.mirror.workload("default", "report")?.revision.number, 2);
  await world.control.rollback(world.admin, "default", "report", null);
  assert.equal(world.mirror.workload("default", "report")?.revision.number, 1);
});

test("a program that is not there, or cannot be run, is refused with its name", async () => {
  const with_ = (command: string): Promise<unknown> =>
    world.deploy({ ...files, "ebb.yaml": yaml.replace("[node, report.js]", command) });
  await assert.rejects(
    with_("[./missing.sh]"),
    is("deploy_refused", /there is no \.\/missing\.sh in the source of report/),
  );
  await assert.rejects(with_("[./report.js]"), is("deploy_refused", /not executable/));
  await assert.rejects(
    world.deploy({ ...files, "ebb.yaml": `${yaml}    secrets: [NOPE]\n` }),
    is("deploy_refused", /needs the secret NOPE/),
  );
});

test("a run is accepted with its audit row, of the revision that serves at that time", async () => {
  const run = await world.control.runJob(world.admin, "default", "report", { ...none, env: { A: "1" } });
  assert.deepEqual([run.state, run.revision.number, run.overrides.env], ["queued", 1, { A: "1" }]);
  assert.ok(world.effects.includes(`accepted ${run.id}`));
  assert.deepEqual(world.audits.at(-1)?.detail, `run ${run.id} of r1`);
  assert.equal((await world.store.runs({ project: "default", limit: 1 }))[0]?.id, run.id);
});

test("what a run says is held to bounds before anything is accepted", async () => {
  const run = (overrides: Partial<RunOverrides>): Promise<unknown> =>
    world.control.runJob(world.admin, "default", "report", { ...none, ...overrides });
  await assert.rejects(run({ env: { EBB_RUN: "x" } }), is("bad_request", /set by ebb/));
  await assert.rejects(run({ env: { A: "\0" } }), is("bad_request", /NUL/));
  await assert.rejects(run({ args: ["x".repeat(40_000)] }), is("bad_request", /at most 32768 bytes/));
  await assert.rejects(run({ memoryMb: 1 }), is("bad_request", /memoryMb: expected a whole number from 32/));
  await assert.rejects(run({ parallelism: 0 }), is("bad_request", /parallelism: expected/));
});

test("a run in class gvisor is held to the memory that its class needs, as its deploy is", async () => {
  const own = yaml.replace("retries: 2", "isolation: gvisor\n    memoryMb: 64");
  await world.deploy({ ...files, "ebb.yaml": own.replace("report:", "apart:") });
  const run = (memoryMb: number): Promise<unknown> =>
    world.control.runJob(world.admin, "default", "apart", { ...none, memoryMb });
  await assert.rejects(run(63), is("bad_request", /apart: isolation: gvisor takes .* memoryMb: 64 or more/));
  await run(64);
});

test("a function is not run, and a job is not restarted; each says what to do", async () => {
  await world.deploy({ "index.js": "1" }, { name: "hello" });
  await assert.rejects(world.control.runJob(world.admin, "default", "hello", none), is("conflict", /is a function/));
  await assert.rejects(world.control.restart(world.admin, "default", "report"), is("conflict", /ebb jobs run report/));
  await assert.rejects(world.control.runJob(world.admin, "default", "nobody", none), is("not_found", /no workload/));
  await assert.rejects(world.control.stopRun(world.admin, "default", "x"), is("not_found", /no run "x"/));
});

const image: Image = {
  digest: `sha256:${"a".repeat(64)}`,
  reference: "registry.example.com/report:1",
  config: {
    entrypoint: ["/report"],
    command: ["--month"],
    env: {},
    workingDirectory: "/srv",
    user: "app",
    port: null,
    stopSignal: null,
  },
  layers: [],
  bytes: 1,
};
const ofImage = (more = "") => ({
  "ebb.yaml": `jobs: { batch: { image: "${image.reference}", memoryMb: 64${more} } }`,
});

test("a job of an image has it pinned; what it runs is what the image says, with what the app file says in its place", async () => {
  world.images.set(image.reference, image);
  const steps = await world.deploy(ofImage());
  assert.deepEqual(
    steps.map(({ step }) => step),
    ["received", "image", "checking", "checked", "deployed"],
  );
  const last = steps.at(-1);
  assert.ok(last?.step === "deployed");
  const [{ kind, runtime, image: name, imageDigest, command, url } = assert.fail()] = last.results;
  assert.deepEqual([kind, runtime, name, imageDigest, url], ["job", null, image.reference, image.digest, null]);
  assert.deepEqual(command, ["/report", "--month"]);
  const { revision } = world.mirror.workload("default", "batch")!;
  assert.ok(revision.kind === "job" && isOfImage(revision));
  const { settings, settingSources: from } = revision;
  assert.deepEqual([settings.command, settings.args, settings.writableMb], [["/report"], ["--month"], 64]);
  assert.deepEqual([from.command, from.args, from.image, from.writableMb], ["image", "image", "app file", "default"]);
  assert.equal((await world.store.contentDigests()).has(image.digest), true, "it is not collected");

  await world.deploy(ofImage(", args: [--year]"));
  const second = world.mirror.workload("default", "batch")!.revision;
  assert.ok(second.kind === "job");
  assert.deepEqual([second.number, second.settings.command, second.settings.args], [2, ["/report"], ["--year"]]);
  await world.deploy(ofImage(", command: [/bin/other]"));
  const third = world.mirror.workload("default", "batch")!.revision;
  assert.ok(third.kind === "job");
  assert.deepEqual([third.number, third.settings.command, third.settings.args], [3, ["/bin/other"], []]);
});

test("an image that cannot be had, run or started by name is refused in words, and the job stays as it is", async () => {
  const none = { "ebb.yaml": `jobs: { batch: { image: "registry.example.com/none:1" } }` };
  await assert.rejects(world.deploy(none), is("deploy_refused", /batch: there is no such image/));
  world.images.set("silent", { ...image, config: { ...image.config, entrypoint: [], command: [] } });
  const silent = { "ebb.yaml": `jobs: { batch: { image: silent } }` };
  await assert.rejects(world.deploy(silent), is("deploy_refused", /batch: the image does not say what is run in it/));
  const strange: Image = { ...image, digest: `sha256:${"b".repeat(64)}` };
  world.images.set("strange", strange);
  const message = 'the image cannot be run: its user "x" is nobody';
  world.loadFailures.set(strange.digest, { fault: "function", message, stack: null, hint: null });
  await assert.rejects(
    world.deploy({ "ebb.yaml": `jobs: { batch: { image: strange } }` }),
    is("deploy_refused", /batch: the image cannot be run/),
  );
  await assert.rejects(world.deploy(ofImage(", pullSecret: NOPE")), is("deploy_refused", /needs the secret NOPE/));
  assert.equal(world.mirror.workload("default", "batch")?.revision.number, 3);
});

test("a run of which the store did not say whether it has it is looked for later", async () => {
  const apply = world.store.apply.bind(world.store);
  world.store.apply = async () => Promise.reject(new EbbError("store_unavailable", "the store's worker died"));
  await assert.rejects(world.control.runJob(world.admin, "default", "report", none), is("store_unavailable", /died/));
  world.store.apply = apply;
  assert.match(world.effects.at(-1) ?? "", /^doubtful /);
});
