// The long form of sandboxed.test.ts: what runs over plain processes runs in sandboxes too.

import { after, describe, test } from "node:test";
import { behaviourSuite } from "../../runtimes/suite/behaviour.ts";
import { nodeSuite } from "../../runtimes/suite/node-web-objects.ts";
import { everyPart, inSandboxes, runRuntimeSuite } from "../../runtimes/suite/suite.ts";
import { openSandboxes, whyNoSandbox } from "./sandboxed.ts";

const whyNot = await whyNoSandbox();

if (whyNot === null) {
  const sandboxes = await openSandboxes();
  after(() => sandboxes.close());
  const others = everyPart.filter((part) => !inSandboxes.includes(part));
  for (const [name, language] of [
    ["node26", "node"],
    ["python3", "python"],
  ] as const)
    runRuntimeSuite({ name, language, launcher: sandboxes.launcherOf(name) }, others, true);
  for (const name of ["node22", "node24"] as const) {
    const found = await sandboxes.fetch(name);
    if ("path" in found)
      describe(name, () => {
        const runtime = { name, language: "node", launcher: sandboxes.launcherOf(name) };
        behaviourSuite(runtime);
        nodeSuite(runtime);
      });
    else test(`${name} in a sandbox`, { skip: found.missing }, () => {});
  }
} else test("the runtimes' suite in real sandboxes", { skip: whyNot }, () => {});
