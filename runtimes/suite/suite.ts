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
import { sharedConnectionSuite } from "./shared-connection.ts";
import type { Runtime } from "./support.ts";

/** Parts, and tests of a part, that run side by side: a test is mostly waiting for its process to start. */
const sideBySide = 2;

/** `every`: the cases too that are like others but for what a cheaper test shows. */
const parts = {
  behaviour: behaviourSuite,
  lifecycle: lifecycleSuite,
  output: outputSuite,
  event: eventSuite,
  loading: loadingSuite,
  handlerFiles: (runtime, every) => handlerFilesSuite(runtime, every ? "every" : null),
  own: (runtime) => {
    if (runtime.language === "node") {
      nodeSuite(runtime);
      sharedConnectionSuite(runtime);
    }
    if (runtime.language === "python") pythonSuite(runtime);
  },
} satisfies Record<string, (runtime: Runtime, every: boolean) => void>;

export type Part = keyof typeof parts;

/** Those that only a machine without sandboxes, and the soak, run in the other surroundings too: each case is a start. */
export const everyPart = Object.keys(parts) as readonly Part[];
export const inProcesses: readonly Part[] = ["loading", "handlerFiles"];
export const inSandboxes: readonly Part[] = everyPart.filter((part) => !inProcesses.includes(part));

export function runRuntimeSuite(runtime: Runtime, chosen: readonly Part[], every = false): void {
  describe(runtime.name, { concurrency: sideBySide }, () => {
    for (const part of chosen) parts[part](runtime, every);
  });
}
