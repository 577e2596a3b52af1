// The long form of processes.test.ts: what runs in sandboxes runs over plain processes too, and so does every case.

import { availableRuntimes } from "./launch.ts";
import { everyPart, runRuntimeSuite } from "./suite.ts";

for (const runtime of availableRuntimes()) runRuntimeSuite(runtime, everyPart, true);
