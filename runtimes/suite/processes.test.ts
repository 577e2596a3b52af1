// The suite over plain processes: no root needed, and what it finds is the shim's own. Where there can be sandboxes, test/runtimes/
// runs most of it in them, and here is what depends on the code alone: how it is recognised and loads, or does not.

import { whyNoSandbox } from "../../test/runtimes/sandboxed.ts";
import { availableRuntimes } from "./launch.ts";
import { everyPart, inProcesses, runRuntimeSuite } from "./suite.ts";

const parts = (await whyNoSandbox()) === null ? inProcesses : everyPart;

for (const runtime of availableRuntimes()) runRuntimeSuite(runtime, parts);
