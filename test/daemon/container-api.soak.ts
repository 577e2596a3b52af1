// examples/container-api by README's words and its own first lines, in a real ebb on a machine of its own: its image is built, its tests
// run in the build, and it serves from a PostgreSQL that it reaches by its list. The image that it is made from is made here.

import assert from "node:assert/strict";
import { spawnSync, type ChildProcess } from "node:child_process";
import { appendFileSync, cpSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { installation } from "#config.ts";
import { imageOf, startOwnRegistry, type Registry } from "#images/images.testing.ts";
import { cannotRun, insideMachine, startWorld, stopChild, world } from "#network/testing/machine.ts";
import { launcherAsking, removeDirectory, startDaemon, temporaryDirectory, type Daemon } from "./fixture.ts";
import { install, nodeLayer } from "./node-image.ts";
import { cannotServe, startDatabase, type Database } from "./postgresql.ts";

const whyNot =
  cannotRun() ??
  cannotServe() ??
  ["/usr/bin/skopeo", "/usr/bin/buildah", "/bin/busybox", "/usr/bin/curl"]
    .map((path) => (existsSync(path) ? null : `no ${path}`))
    .find(Boolean) ??
  null;

function suite(): void {
  const folder = temporaryDirectory();
  const folders = [folder];
  const dockerfile = join(folder, "links/Dockerfile");
  let others: ChildProcess;
  let database: Database;
  let registry: Registry;
  let daemon: Daemon;

  before(async () => {
    others = await startWorld();
    database = await startDatabase("links");
    const shell = [
      { name: "bin/busybox", mode: 0o755, content: readFileSync("/bin/busybox") },
      { name: "bin/sh", type: "symlink" as const, linkname: "busybox" },
    ];
    registry = await startOwnRegistry(imageOf([await nodeLayer(shell)], { config: { Env: ["PATH=/bin"] } }));
    const asking = launcherAsking(world.public);
    folders.push(dirname(asking));
    daemon = await startDaemon({ args: ["--registry", registry.host], launcher: asking });
    folders.push(daemon.directory);
    cpSync(join(installation, "examples/container-api"), folder, { recursive: true });
    const words = readFileSync(dockerfile, "utf8");
    assert.match(words, /^FROM docker\.io\/library\/node:26-slim$/m);
    writeFileSync(dockerfile, words.replace(/^FROM .*$/m, `FROM ${registry.host}/node`));
    install(join(folder, "links"));
  });
  after(async () => {
    await daemon?.stop();
    await registry?.stop();
    await database?.stop();
    if (others) await stopChild(others);
    for (const path of folders) removeDirectory(path);
  });

  const deploy = () => daemon.ebb(["deploy", folder]);

  test("before what its first lines say is done, its deploy says what is missing", async () => {
    const said = readFileSync(join(folder, "ebb.yaml"), "utf8");
    const [, permit] = /^# +ebb (projects set default --egress-permit \S+) /m.exec(said) ?? [];
    const [, url, secret] = /^# +echo (\S+) \| ebb (secrets set \S+)$/m.exec(said) ?? [];
    assert.equal(url, database.url().replace(/:[^:@/]+@/, ":…@"));
    const refused = await deploy();
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /DATABASE_URL/);
    assert.ok(permit && secret);
    assert.equal((await daemon.ebb(permit.split(" "))).code, 0);
    assert.equal((await daemon.ebb(secret.split(" "), { stdin: database.url() })).code, 0);
  });

  test("what does not pass its tests is not deployed", async () => {
    const tests = join(folder, "links/link.test.mjs");
    const right = readFileSync(tests);
    appendFileSync(tests, '\ntest("never holds", () => assert.equal(addressOf("http://a"), "b"));\n');
    const { code, stderr } = await deploy();
    writeFileSync(tests, right);
    assert.equal(code, 1, stderr);
    assert.match(stderr, /^links \| .*never holds/m);
    assert.match(stderr, /^links: Dockerfile:5: It exited with code 1: RUN node --test/m);
    assert.deepEqual(await daemon.client.workloads.list("default"), []);
  });

  test("README's command makes a link, which leads where it was told though its instance is another", async () => {
    const { code, stderr } = await deploy();
    assert.equal(code, 0, stderr + daemon.log());
    assert.match(stderr, /^links \| .*pass 3$/m);
    const row = readFileSync(join(installation, "README.md"), "utf8")
      .split("\n")
      .find((line) => line.startsWith("| [examples/container-api]"));
    const [, words] = /\| `curl ([^`]+)` \|$/.exec(row ?? "") ?? [];
    assert.ok(words, String(row));
    const argv = words.replace(":8080", `:${daemon.port}`).split(" ");
    const { stdout, stderr: why } = spawnSync("curl", ["-sS", ...argv], { encoding: "utf8" });
    assert.match(stdout, /^\{"code":"[2-9a-z]{8}","address":"https:\/\/example\.com\/"\}\n$/, why);
    const made = JSON.parse(stdout) as { code: string };
    const get = (path: string) => daemon.fetch("links.localhost", `/${path}`);
    for (const visits of [1, 2]) {
      const { status, headers } = await get(made.code);
      assert.deepEqual([status, headers.location], [302, "https://example.com/"]);
      assert.equal((await daemon.ebb(["restart", "links"])).code, 0);
      const { text } = await get(`${made.code}/visits`);
      assert.deepEqual(JSON.parse(text), { address: "https://example.com/", visits });
    }
    assert.equal((await get("none")).status, 404);
    assert.equal((await database.sql("select code || ' ' || visits from links")).trim(), `${made.code} 2`);
    const [first] = await daemon.client.workloads.list("default");
    assert.deepEqual([first?.name, first?.kind], ["links", "container"]);
    assert.doesNotMatch(daemon.log(), /something in ebb failed/);
  });
}

if (whyNot !== null) test("examples/container-api", { skip: whyNot }, () => {});
else if (insideMachine()) void describe("examples/container-api", suite);
