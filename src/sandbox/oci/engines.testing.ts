// The suite of all drivers by one of the engines that the oci driver knows.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { describe } from "node:test";
import { ociOn, openGround, plainLinks, whyNot } from "../fixtures/harness.ts";
import { runSandboxSuite } from "../suite.ts";
import { findCgroups } from "./cgroups.ts";

type Engine = "crun" | "runc";
const programOf = { crun: "/usr/bin/crun", runc: "/usr/sbin/runc" };

/** Why it cannot run here; null: it can. */
export function whyNotEngine(engine: Engine): string | null {
  return whyNot([programOf[engine], "/usr/sbin/ip"]) ?? (engine === "crun" ? crunRefuses() : null);
}

/** On a hybrid machine whose v2 mount has a controller crun refuses everything: that is runc's case. */
function crunRefuses(): string | null {
  const unified = "/sys/fs/cgroup/unified/cgroup.controllers";
  return existsSync(unified) && readFileSync(unified, "latin1").trim() !== "" ? "crun refuses hybrid cgroups" : null;
}

/** `only`: these behaviours; all of them where it is left out. */
export function runEngineSuite(engine: Engine, only?: readonly string[]): void {
  describe(engine, () => {
    const links = plainLinks();
    runSandboxSuite(`oci by ${engine}`, {
      skipAll: whyNotEngine(engine),
      ...(only ? { only } : {}),
      open: async () => {
        const ground = await openGround();
        const driver = ociOn(ground, { network: links, engines: [engine] });
        await driver.start();
        return {
          driver,
          code: ground.code,
          close: async () => {
            await driver.stop();
            await ground.close();
            const { runDir } = ground.allocator;
            const { paths } = findCgroups(`ebb-${runDir.slice(runDir.lastIndexOf("/") + 1)}`).parent(1);
            assert.deepEqual(
              paths.filter((path) => existsSync(path)),
              [],
            );
            assert.equal(links.open, 0);
            links.close();
          },
        };
      },
    });
  });
}
