// The isolation checklist for class gvisor: some seconds of processor time, most of them runsc's own.

import { runIsolationChecklist } from "./isolation.testing.ts";

runIsolationChecklist("gvisor");
