// examples/grpc as its first lines say, in a real ebb: its image is built, and serves every kind of call from zero. The image that it is
// made from is made here, of the pinned Node: no registry outside is asked.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { installation } from "#config.ts";
import { imageOf, startRegistry, writeLayout, type Registry } from "#images/images.testing.ts";
import { eventually, removeDirectory, startDaemon, temporaryDirectory, type Daemon } from "./fixture.ts";
import { install, nodeLayer } from "./node-image.ts";

describe("examples/grpc", () => {
  const folder = temporaryDirectory();
  let registry: Registry;
  let daemon: Daemon;

  before(async () => {
    registry = await startRegistry(folder);
    const layout = writeLayout(join(folder, "node"), imageOf([await nodeLayer()], { config: { Env: ["PATH=/bin"] } }));
    const to = `docker://${registry.host}/library/node:26-slim`;
    const pushed = spawnSync("skopeo", ["copy", "--dest-tls-verify=false", `oci:${layout}`, to], { encoding: "utf8" });
    assert.equal(pushed.status, 0, pushed.stderr);
    daemon = await startDaemon({ args: ["--registry", registry.host] });
    cpSync(join(installation, "examples/grpc"), join(folder, "grpc"), { recursive: true });
    const dockerfile = join(folder, "grpc/greeter/Dockerfile");
    const words = readFileSync(dockerfile, "utf8");
    assert.match(words, /^FROM docker\.io\/library\/node:26-slim$/m);
    writeFileSync(dockerfile, words.replace("docker.io/", `${registry.host}/`));
    install(join(folder, "grpc/greeter"));
    const deployed = await daemon.ebb(["deploy", join(folder, "grpc")]);
    assert.equal(deployed.code, 0, deployed.stderr + daemon.log());
  });
  after(async () => {
    await daemon?.stop();
    await registry?.stop();
    if (daemon) removeDirectory(daemon.directory);
    removeDirectory(folder);
  });

  const client = () => {
    const env = { ...process.env, EBB: `127.0.0.1:${daemon.port}` };
    return spawnSync(process.execPath, [join(folder, "grpc/greeter/client.mjs")], { env, encoding: "utf8" });
  };

  test("its client gets an answer to every kind of call, from zero and again", async () => {
    for (let turn = 0; turn < 2; turn++) {
      const { stdout, stderr } = client();
      assert.equal(stdout, "Hello, Ada!\ncounted 1 2 3 4 5\ntheir sum is 15\nHello, Grace!\nHello, Edsger!\n", stderr);
    }
    const records = await daemon.client.workloads.invocations("default", "greeter");
    assert.equal(records.length, 8);
    assert.ok(records.every(({ outcome, status }) => outcome === "ok" && status === 200));
    assert.equal(records.filter(({ cold }) => cold).length, 1);
    assert.equal((await daemon.ebb(["rm", "greeter", "--yes"])).code, 0);
    await eventually("it is gone", async () =>
      (await daemon.client.workloads.list("default")).every((one) => one.name !== "greeter"),
    );
  });
});
