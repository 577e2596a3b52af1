// The runtimes' suite in the sandbox that functions really run in: read-only root, no shell, no network, user 1000 as process 1.

import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { behaviourSuite } from "../../runtimes/suite/behaviour.ts";
import { handlerFilesSuite } from "../../runtimes/suite/handler-files.ts";
import { nodeShapesSuite, webObjectsSuite } from "../../runtimes/suite/node-web-objects.ts";
import { runtimesBy } from "../../runtimes/suite/launch.ts";
import { inSandboxes as partsHere, runRuntimeSuite } from "../../runtimes/suite/suite.ts";
import { codeOf, serving, type Runtime } from "../../runtimes/suite/support.ts";
import { openSandboxes, whyNoSandbox, type Sandboxes } from "./sandboxed.ts";

const whyNot = await whyNoSandbox();

if (whyNot === null) await inSandboxes(await openSandboxes());
else test("the runtimes' suite in real sandboxes", { skip: whyNot }, () => {});

async function inSandboxes(sandboxes: Sandboxes): Promise<void> {
  after(() => sandboxes.close());
  const node26: Runtime = { name: "node26", language: "node", launcher: sandboxes.launcherOf("node26") };

  test("what the suite runs in is a sandbox", async (t) => {
    const code = codeOf(t, {
      "index.mjs": `import fs from "node:fs"; import os from "node:os"; export default () => Response.json({
        pid: process.pid, uid: process.getuid(), hostname: os.hostname(), shell: fs.existsSync("/bin/sh"),
        map: fs.readFileSync("/proc/self/uid_map", "utf8").trim().split(/\\s+/).map(Number), tree: fs.readdirSync(".") });`,
    });
    const instance = await serving(t, node26, code);
    const { map, ...seen } = JSON.parse((await instance.request({})).text) as { map: number[] };
    assert.deepEqual(seen, { pid: 1, uid: 1000, hostname: "sandbox", shell: false, tree: ["index.mjs"] });
    assert.ok(map[1]! >= 0x7000_0000 && map[2] === 65_536, `its ids are ${map.join(" ")}`);
  });

  const python3: Runtime = { name: "python3", language: "python", launcher: sandboxes.launcherOf("python3") };

  test("the libraries that Python wheels link to are there", async (t) => {
    const code = codeOf(t, {
      "main.py": `import ctypes\ndef handle(event, context):\n    return [ctypes.CDLL(name)._name for name in ("libstdc++.so.6", "libgcc_s.so.1", "libz.so.1")]\n`,
    });
    const instance = await serving(t, python3, code);
    assert.equal((await instance.request({})).status, 200, instance.output.stderr);
  });

  describe("in a sandbox", () => {
    runRuntimeSuite(node26, partsHere);
    runRuntimeSuite(python3, partsHere);
    // Of the shapes, which plain processes show all, those that bring the most with them: packages, and a server of their own.
    handlerFilesSuite(node26, ["express"]);
    handlerFilesSuite(python3, ["fastapi"]);
  });

  // What differs between versions of Node is its own objects; the rest of the suite is the shim's, which is the same file: the oldest
  // Node has it here. The sandbox has no part in it: over plain processes, and in sandboxes in test/daemon/runtimes.test.ts and the soak.
  for (const name of ["node22", "node24"] as const) {
    const found = await sandboxes.fetch(name);
    if ("path" in found)
      describe(`${name}, fetched`, { concurrency: 2 }, () => {
        const [runtime] = runtimesBy({ [name]: found.path });
        assert.ok(runtime);
        webObjectsSuite(runtime);
        if (name === "node24") return;
        behaviourSuite(runtime);
        nodeShapesSuite(runtime);
      });
    else test(`${name}, fetched`, { skip: found.missing }, () => {});
  }
}
