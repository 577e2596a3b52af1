// The ends of deaths.test.ts that take long: with many instances, and of the other worker.

import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { appOfDeaths, drains, endsByDeathsOf, startMortal, type Mortal } from "./deaths.ts";
import { folderOf, removeDirectory, temporaryDirectory } from "./fixture.ts";

const [code, control, directory] = [appOfDeaths(), folderOf({}), temporaryDirectory()];
let mortal: Mortal;

beforeEach(async () => {
  mortal = await startMortal(control, { directory });
});

before(async () => {
  mortal = await startMortal(control, { directory });
  const { code: exit, stderr } = await mortal.daemon.ebb(["deploy", code]);
  assert.equal(exit, 0, stderr);
  await mortal.daemon.stop();
});

after(async () => {
  await mortal?.daemon.stop();
  [code, control, directory].forEach(removeDirectory);
});

for (const worker of ["store", "telemetry"] as const)
  test(`three deaths of the ${worker} worker in a minute end ebb with exit 1, and leave nothing`, () =>
    endsByDeathsOf(worker, mortal));

test("SIGTERM cuts off what is open after 8 s, be it in twenty instances, and leaves nothing", async () => {
  await drains(mortal, { endless: 3, deaf: 17 });
});
