// The suite over plain processes: no root needed. Where there can be sandboxes the whole of it runs in them (test/runtimes/), and here
// what a process is by itself: how it lives, ends and prints. All of it on processes there too is processes.soak.ts.

import { describe } from "node:test";
import { whyNoSandbox } from "../../test/runtimes/sandboxed.ts";
import { availableRuntimes } from "./launch.ts";
import { lifecycleSuite } from "./lifecycle.ts";
import { outputSuite } from "./output.ts";
import { runRuntimeSuite, sideBySide } from "./suite.ts";

const inSandboxesToo = (await whyNoSandbox()) === null;

for (const runtime of availableRuntimes())
  if (inSandboxesToo)
    describe(runtime.name, { concurrency: sideBySide }, () => {
      lifecycleSuite(runtime);
      outputSuite(runtime);
    });
  else runRuntimeSuite(runtime);
