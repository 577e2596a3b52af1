// Deploys through the real reading, recognising and settling of app/.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { recogniseFolder } from "#app/list-folder.ts";
import { readApp } from "#app/read.ts";
import { settleContainer } from "#app/container-settings.ts";
import { settle } from "#app/settings.ts";
import { settleImageJob, settleJob } from "#app/settle-job.ts";
import { EbbError } from "#model/errors.ts";
import { createWorld, functionOf, type World } from "./world.testing.ts";

let world: World;
before(async () => {
  world = await createWorld({
    app: { readApp, recognise: recogniseFolder, settle, settleContainer, settleJob, settleImageJob },
  });
});
after(() => world.stop());

const yaml = `project: photos
functions:
  thumbnail:
    source: ./thumbnail
    memoryMb: 512
    env: { LEVEL: info }
    secrets: [DB_PASSWORD]
  text:
    source: ./text
    runtime: python3
`;
const code = { "thumbnail/index.js": "export default () => {}", "text/main.py": "def handle(event, context): pass" };

test("an app file's settings reach the revision, with their sources", async () => {
  await world.control.createProject(world.admin, "photos");
  await world.control.setSecret(world.admin, "photos", "DB_PASSWORD", "x");
  await world.deploy({ "ebb.yaml": yaml, ...code }, { env: { LEVEL: "debug" } });
  const { settings, settingSources } = functionOf(world, "thumbnail", "photos");
  assert.deepEqual([settings.memoryMb, settings.env, settings.secrets], [512, { LEVEL: "debug" }, ["DB_PASSWORD"]]);
  assert.deepEqual(
    [settingSources.memoryMb, settingSources.env, settingSources.runtime, settingSources.max],
    ["app file", "flag", "recognised", "default"],
  );
  assert.equal(functionOf(world, "text", "photos").settings.runtime, "python3");
});

test("the order in which an app file is written means nothing", async () => {
  const again = yaml.replace(
    "    memoryMb: 512\n    env: { LEVEL: info }\n",
    "    env: { LEVEL: info }\n    memoryMb: 512\n",
  );
  assert.notEqual(again, yaml);
  const last = (await world.deploy({ "ebb.yaml": again, ...code }, { env: { LEVEL: "debug" } })).at(-1);
  assert.ok(last?.step === "deployed" && last.results.every(({ unchanged }) => unchanged));
});

test("every wrong line of an app file is told", async () => {
  const wrong = yaml.replace("512", "lots").replace("python3", "cobol");
  await assert.rejects(world.deploy({ "ebb.yaml": wrong, ...code }), (error) => {
    assert.ok(error instanceof EbbError);
    assert.equal(error.code, "invalid_app");
    assert.match(error.message, /^ebb\.yaml:5: functions\.thumbnail\.memoryMb: .*\(and 1 more\)$/);
    return true;
  });
});

test("a folder in which nothing is recognised is refused with what was looked for", async () => {
  await assert.rejects(world.deploy({ "README.md": "# hi" }, { name: "docs" }), { code: "deploy_refused" });
});

test("what nothing holds or measures without isolation is refused, for functions and jobs alike", async () => {
  const app = { readApp, recognise: recogniseFolder, settle, settleContainer, settleJob, settleImageJob };
  const bare = await createWorld({ app, isolation: "process" });
  const refused = async (kind: string, setting: string, words: RegExp): Promise<void> => {
    const yaml = `${kind}:\n  a: { source: ./a${kind === "jobs" ? ", command: [node, index.js]" : ""}, ${setting} }\n`;
    const files = { "ebb.yaml": yaml, "a/index.js": "export default () => {}" };
    await assert.rejects(
      bare.deploy(files),
      (error) => error instanceof EbbError && words.test(error.message),
      setting,
    );
  };
  try {
    for (const kind of ["functions", "jobs"]) {
      await refused(kind, 'egress: ["example.com:443"]', /a: egress cannot be held .*--isolation none/);
      await refused(kind, "egress: none", /a: egress cannot be held .*--isolation none/);
      await refused(kind, "isolation: container", /isolation: container cannot be given: .*--isolation none/);
    }
    await refused("functions", "scaling: { cpuPercent: 60 }", /a: what an instance uses is not measured; .*none/);
  } finally {
    await bare.stop();
  }
});

test("isolation gvisor is refused where it has too little memory, or the machine cannot give it, with what to do", async () => {
  const app = { readApp, recognise: recogniseFolder, settle, settleContainer, settleJob, settleImageJob };
  const without = await createWorld({ app, gvisorProblem: "isolation: gvisor needs runsc" });
  const deployed = (settings: string): Promise<unknown> =>
    without.deploy({
      "ebb.yaml": `functions:\n  a: { source: ./a, isolation: gvisor, ${settings} }\n`,
      "a/index.js": "export default () => {}",
    });
  try {
    await assert.rejects(deployed("memoryMb: 128"), /a: isolation: gvisor needs runsc/);
    await assert.rejects(deployed("memoryMb: 32"), /a: isolation: gvisor takes .* memoryMb: 64 or more/);
  } finally {
    await without.stop();
  }
});

test("a private entry of an egress list is refused at deploy until the operator permits it, and the audit says what he did", async () => {
  const listed =
    "project: lists\nfunctions:\n  a:\n    source: ./a\n    egress: [api.example.com:443, 10.1.0.0/16:6379]\n";
  const files = { "ebb.yaml": listed, "a/index.js": "export default () => {}" };
  const { control, admin, mirror, audits } = world;
  await control.createProject(admin, "lists");
  await assert.rejects(world.deploy(files), (error) => {
    assert.ok(error instanceof EbbError);
    assert.equal(error.code, "deploy_refused");
    assert.match(
      error.message,
      /a: egress "10\.1\.0\.0\/16:6379": 10\.1\.0\.0\/16 is not public, .* ask the operator for: ebb projects set lists --egress-permit 10\.1\.0\.0\/16:6379/,
    );
    return true;
  });
  const set = (egressPermit: readonly string[] | null): Promise<unknown> =>
    control.setProject(admin, "lists", { egressPermit });
  for (const wrong of ["8.8.8.0/24", "127.0.0.1:80", "10.1.0.0/16:0", "db.internal:80"])
    await assert.rejects(set([wrong]), { code: "bad_request" }, wrong);
  await assert.rejects(set(Array.from({ length: 33 }, (_, i) => `10.0.${i}.0/24`)), /at most 32 networks, found 33/);
  await set(["10.1.0.0/16:6379", " 10.1.0.0/16:6379/tcp", "10.2.0.1/32"]);
  assert.deepEqual(mirror.project("lists")?.egressPermit, ["10.1.0.0/16:6379", "10.2.0.1"]);
  assert.match(audits.at(-1)?.detail ?? "", /egressPermit 10\.1\.0\.0\/16:6379 10\.2\.0\.1$/);
  await control.setProject(admin, "lists", { instances: 5 });
  assert.equal(mirror.project("lists")?.egressPermit?.length, 2, "what is left out stays");
  await world.deploy(files);
  assert.deepEqual(mirror.workload("lists", "a")?.revision.settings.egress, [
    "api.example.com:443",
    "10.1.0.0/16:6379",
  ]);
  const { identity } = await world.mint("admin", "lists");
  await assert.rejects(control.setProject(identity, "lists", { egressPermit: ["10.0.0.0/8"] }), { code: "forbidden" });
  await set(null);
  assert.deepEqual(mirror.project("lists")?.egressPermit, []);
  await assert.rejects(world.deploy({ ...files, "a/index.js": "export default () => 1" }), { code: "deploy_refused" });
});
