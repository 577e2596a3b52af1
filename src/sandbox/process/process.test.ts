// The process driver under the suite.

import { openGround, processOn, whyNot } from "../fixtures/harness.ts";
import { runSandboxSuite } from "../suite.ts";

runSandboxSuite("process", {
  // The ground's run directory is root's; the daemon has another for the development driver.
  skipAll: whyNot(),
  open: async () => {
    const ground = await openGround();
    const driver = processOn(ground);
    await driver.start();
    return {
      driver,
      code: ground.code,
      close: async () => {
        await driver.stop();
        await ground.close();
      },
    };
  },
});
