// The long form of processes.test.ts: the whole suite over plain processes, also where it runs in sandboxes.

import { availableRuntimes } from "./launch.ts";
import { runRuntimeSuite } from "./suite.ts";

for (const runtime of availableRuntimes()) runRuntimeSuite(runtime);
