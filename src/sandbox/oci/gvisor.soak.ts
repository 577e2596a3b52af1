// Class gvisor of the oci driver passes the suite of all drivers.

import { gvisorOn, ociOn, openGround, plainLinks, whyNot } from "../fixtures/harness.ts";
import { runSandboxSuite } from "../suite.ts";

runSandboxSuite("gvisor", {
  skipAll: whyNot(["/usr/sbin/ip", "/usr/bin/runsc"]),
  open: async () => {
    const ground = await openGround();
    const links = plainLinks();
    const driver = ociOn(ground, { network: links });
    await driver.start();
    return {
      driver: gvisorOn(driver),
      code: ground.code,
      close: async () => {
        await driver.stop();
        await ground.close();
        links.close();
      },
    };
  },
});
