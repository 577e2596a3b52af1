// The long form of sandboxed.test.ts: what runs over plain processes runs in sandboxes too.

import { after, describe, test } from "node:test";
import { behaviourSuite } from "../../runtimes/suite/behaviour.ts";
import { nodeShapesSuite } from "../../runtimes/suite/node-web-objects.ts";
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
  const missing = await sandboxes.fetch("node24");
  if (missing === null)
    describe("node24", () => {
      const runtime = { name: "node24", language: "node", launcher: sandboxes.launcherOf("node24") };
      behaviourSuite(runtime);
      nodeShapesSuite(runtime);
    });
  else test("node24 in a sandbox", { skip: missing }, () => {});
} else test("the runtimes' suite in real sandboxes", { skip: whyNot }, () => {});
