// The isolation checklist for the class that everything has unless it says otherwise.

import { runIsolationChecklist } from "./isolation.testing.ts";

runIsolationChecklist("container");
