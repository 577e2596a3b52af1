// The suite of all drivers by one of the engines that the oci driver knows, on a ground that several can share.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { after, describe } from "node:test";
import { ociOn, openGround, plainLinks, whyNot, type Ground } from "../fixtures/harness.ts";
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

export interface EngineGround {
  readonly open: () => Promise<Ground>;
  readonly links: ReturnType<typeof plainLinks>;
}

/** Opened by the first that asks: roots are made and links tied once. At the end of the file nothing of it is left. */
export function engineGround(): EngineGround {
  const links = plainLinks();
  let opened: Promise<Ground> | undefined;
  after(async () => {
    if (opened === undefined) return;
    const ground = await opened;
    await ground.close();
    const { runDir } = ground.allocator;
    const { paths } = findCgroups(`ebb-${runDir.slice(runDir.lastIndexOf("/") + 1)}`).parent(1);
    assert.deepEqual(
      paths.filter((path) => existsSync(path)),
      [],
    );
    links.close();
  });
  return { links, open: () => (opened ??= openGround()) };
}

/** `only`: these behaviours; all of them where it is left out. */
export function runEngineSuite(engine: Engine, { open, links }: EngineGround, only?: readonly string[]): void {
  describe(engine, () => {
    runSandboxSuite(`oci by ${engine}`, {
      skipAll: whyNotEngine(engine),
      ...(only ? { only } : {}),
      open: async () => {
        const ground = await open();
        const driver = ociOn(ground, { network: links, engines: [engine] });
        await driver.start();
        return {
          driver,
          code: ground.code,
          close: async () => {
            await driver.stop();
            assert.equal(links.open, 0);
          },
        };
      },
    });
  });
}
