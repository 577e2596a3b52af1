// The embedded store passes the suite; and in its real worker thread what shows each call that goes there. The soak has all of it there.

import { storeSuite } from "../suite.ts";
import { inItsWorker, onThisThread } from "./stores.testing.ts";

storeSuite("sqlite", onThisThread);
storeSuite("sqlite in its worker", inItsWorker, [
  "shows a change in the mirror when apply resolves, and in load",
  "rolls back to a revision that only the store still has",
  "applies all of a change or nothing of it",
  "keeps a run with the command that asks for it, and where it is now",
  "names the code of runs that have not ended, though its revision is gone",
  "answers audits newest first, by project and time, also those without a change",
  "answers records as they were given, newest first",
  "adds up totals by hour, project and workload",
  "counts records by project and day, and deletes the oldest of one of them",
]);
