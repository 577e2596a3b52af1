// The suite over plain processes: no root needed, and what it finds is the shim's own. test/runtimes/ runs it in real sandboxes.

import { availableRuntimes } from "./launch.ts";
import { runRuntimeSuite } from "./suite.ts";

for (const runtime of availableRuntimes()) runRuntimeSuite(runtime);
