// The second engine, when the first refuses this machine: said at the start, and then a daemon like any other.

import assert from "node:assert/strict";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { installation } from "#config.ts";
import { eventually, folderOf, removeDirectory, startDaemon, temporaryDirectory } from "./fixture.ts";
import { livesOf, nothingLeftOf, programsOf } from "./traces.ts";

/** What crun reads to tell whether a hybrid machine's v2 mount has a controller left, which it does not want. */
const controllers = "/sys/fs/cgroup/unified/cgroup.controllers";
const here = (...paths: string[]): boolean => paths.some((path) => existsSync(path));

function cannotRun(): string | null {
  if (process.getuid?.() !== 0) return "needs root";
  if (!existsSync(controllers)) return "crun refuses only hybrid cgroups, and this machine's are none";
  if (!here("/usr/bin/crun", "/usr/local/bin/crun")) return "crun is not installed";
  if (!here("/usr/sbin/runc", "/usr/bin/runc", "/usr/local/bin/runc")) return "runc is not installed";
  return null;
}

test(
  "where crun refuses the machine's cgroups runc serves, which is said once at the start, and nothing is left",
  {
    skip: cannotRun() ?? false,
  },
  async (t) => {
    const folder = temporaryDirectory();
    const code = folderOf({ "index.mjs": "export default () => new Response('served');" });
    t.after(() => [folder, code].forEach(removeDirectory));
    // In a mount namespace of its own a controller is left to v2; the machine's stay as they are.
    writeFileSync(join(folder, "left"), "hugetlb\n");
    const launcher = join(folder, "ebb");
    const mounting = `mount --bind "${join(folder, "left")}" ${controllers} && exec "${join(installation, "ebb")}" "$@"`;
    writeFileSync(launcher, `#!/bin/sh\nexec unshare --mount sh -c '${mounting}' ebb "$@"\n`, { mode: 0o755 });
    const daemon = await startDaemon({ launcher, directory: join(folder, "data") });
    const lives = livesOf(daemon.process.pid ?? 0);
    try {
      const said = daemon.log().trim().split("\n");
      assert.equal(said.length, 1, daemon.log());
      assert.match(said[0]!, /^ebb: crun cannot isolate here, runc serves: .*hybrid/);
      const deployed = await daemon.ebb(["deploy", code, "--name", "plain", "--public"]);
      assert.equal(deployed.code, 0, deployed.stderr);
      assert.equal((await daemon.fetch("plain.localhost", "/")).text, "served");
      await eventually("its engine is runc", async () =>
        programsOf(lives).some((program) => program.endsWith("/runc")),
      );
      assert.deepEqual(
        programsOf(lives).filter((program) => program.endsWith("/crun")),
        [],
      );
    } finally {
      assert.equal(await daemon.stop(), 0, daemon.log());
    }
    await nothingLeftOf(lives);
    assert.equal(daemon.log().trim().split("\n").length, 1, daemon.log());
  },
);
