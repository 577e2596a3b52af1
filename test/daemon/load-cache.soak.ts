// All the nonsense that a load check may tell, through a real ebb; load-cache.test.ts has what passes each of the two places where it ends.

import { after, before, test } from "node:test";
import { removeDirectory, startDaemon, type Daemon } from "./fixture.ts";
import { tellsNonsense } from "./told-caches.ts";

let daemon: Daemon;
before(async () => {
  daemon = await startDaemon();
});
after(async () => {
  await daemon?.stop();
  if (daemon) removeDirectory(daemon.directory);
});

test("a check that tells nonsense instead gets nothing, whatever it is, and its function serves", async () => {
  await tellsNonsense(daemon, ["escape", "shadow", "many", "bomb", "flood", "noise"]);
});
