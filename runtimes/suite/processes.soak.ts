// The long form of processes.test.ts: what runs in sandboxes runs over plain processes too.

import { availableRuntimes } from "./launch.ts";
import { everyPart, inProcesses, runRuntimeSuite } from "./suite.ts";

const others = everyPart.filter((part) => !inProcesses.includes(part));

for (const runtime of availableRuntimes()) runRuntimeSuite(runtime, others);
