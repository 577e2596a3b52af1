// The one suite that every runtime passes, whatever its language and whoever starts it.

import { describe } from "node:test";
import { behaviourSuite } from "./behaviour.ts";
import { eventSuite } from "./event.ts";
import { handlerFilesSuite } from "./handler-files.ts";
import { lifecycleSuite } from "./lifecycle.ts";
import { loadingSuite } from "./loading.ts";
import { nodeSuite } from "./node-web-objects.ts";
import { outputSuite } from "./output.ts";
import { pythonSuite } from "./python.ts";
import type { Runtime } from "./support.ts";

/** Parts, and tests of a part, that run side by side: a test is mostly waiting for its process to start. */
export const sideBySide = 2;

export function runRuntimeSuite(runtime: Runtime): void {
  describe(runtime.name, { concurrency: sideBySide }, () => {
    behaviourSuite(runtime);
    lifecycleSuite(runtime);
    outputSuite(runtime);
    eventSuite(runtime);
    loadingSuite(runtime);
    handlerFilesSuite(runtime);
    if (runtime.language === "node") nodeSuite(runtime);
    if (runtime.language === "python") pythonSuite(runtime);
  });
}
