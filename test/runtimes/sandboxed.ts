// Starts shims in real sandboxes for the runtimes' suite: the oci driver, its roots and its mounts, without the daemon around it.

import { constants, openSync, readFileSync } from "node:fs";
import { Socket } from "node:net";
import { dirname, join, relative } from "node:path";
import { createInterpreters, type NodeRuntime } from "#builds/interpreters.ts";
import { readDaemonConfig } from "#config.ts";
import { EbbError } from "#model/errors.ts";
import { randomHex } from "#model/ids.ts";
import type { RuntimeName } from "#model/workload.ts";
import { ociOn, openGround, whyNot, type Ground } from "#sandbox/fixtures/harness.ts";
import { oneCpu } from "#sandbox/oci/cgroups.ts";
import { enginesHere } from "#sandbox/oci/engine.ts";
import type { OciDriver } from "#sandbox/oci/oci.ts";
import { emptyLayer } from "#sandbox/oci/roots.ts";
import { Starting } from "#sandbox/oci/sandbox.ts";
import { codeFolder } from "#sandbox/runtime-link.ts";
import { baseEnv, readShims } from "#sandbox/shims.ts";
import { Output, type Launched, type Launcher } from "../../runtimes/suite/instance.ts";
import { runtimesFolder } from "../../runtimes/suite/launch.ts";
import { interpretersFolder } from "./interpreters.ts";
import { copyTree } from "./tree.ts";

/** As the suite's assignments say. */
const memoryMb = 256;

export interface Sandboxes {
  readonly ground: Ground;
  readonly driver: OciDriver;
  /** Gets its interpreter, kept for the next time; or answers why it cannot be had here. */
  fetch(runtime: NodeRuntime): Promise<{ readonly path: string } | { readonly missing: string }>;
  launcherOf(runtime: Exclude<RuntimeName, "custom">): Launcher;
  close(): Promise<void>;
}

/** Why there can be no sandbox here; null: there can. */
export async function whyNoSandbox(): Promise<string | null> {
  const why = whyNot();
  if (why !== null) return why;
  return (await enginesHere()).length === 0 ? "no OCI engine (crun, runc)" : null;
}

export async function openSandboxes(over: Partial<Parameters<typeof ociOn>[1]> = {}): Promise<Sandboxes> {
  const ground = await openGround();
  const { path, npmEnvironment } = readDaemonConfig({});
  const { node } = createInterpreters({
    directory: interpretersFolder,
    node: process.execPath,
    path,
    npmEnvironment,
    spawner: ground.spawner,
  });
  const driver = ociOn(ground, { runtimes: runtimesFolder, node, ...over });
  await driver.start();
  return {
    ground,
    driver,
    fetch: (runtime) =>
      node(runtime).then(
        (path) => ({ path }),
        (error: unknown) => {
          if (error instanceof EbbError) return { missing: error.message };
          throw error;
        },
      ),
    launcherOf: (runtime) => () => launch(ground, driver, runtime),
    close: async () => {
      await driver.stop();
      await ground.close();
    },
  };
}

async function launch(ground: Ground, driver: OciDriver, runtime: Exclude<RuntimeName, "custom">): Promise<Launched> {
  const output = new Output();
  const readers: Socket[] = [];
  const start = {
    pool: { runtime, memoryMb, tmpBytes: 16 * 1024 * 1024, egress: "none" as const },
    args: readShims(runtimesFolder).argvOf(runtime, memoryMb),
    env: baseEnv,
    link: null,
    listen: true,
    input: false,
    cpu: oneCpu,
    mounts: [],
  };
  const sandbox = await driver.begin(start, ({ stdout, stderr, frames }) => {
    for (const [name, path] of Object.entries({ stdout, stderr, frameText: frames! }))
      readers.push(readInto(output, name as "stdout", path));
    return () => {};
  });
  return {
    socketPath: sandbox.socketPath!,
    exited: sandbox.over.then(({ how }) => ({ code: how.code, signal: how.signal as NodeJS.Signals | null })),
    output,
    async give(code) {
      const source = ground.folderOf(randomHex(16));
      const codeRoot = dirname(source);
      copyTree(code, source);
      const lower = [source, join(ground.dataDir, "roots", emptyLayer)].map((path) => relative(codeRoot, path));
      const overlay = { kind: "overlay" as const, base: codeRoot, lower, target: sandbox.codeTarget, source };
      await sandbox.give([], [overlay], new Starting());
      return codeFolder;
    },
    signal(name) {
      // The program itself, process 1 of its namespace, as the spawner signals it; SIGINT is none of the spawner's.
      const pidFile = join(ground.allocator.runDir, "sandboxes", sandbox.id, "pid");
      process.kill(Number(readFileSync(pidFile, "latin1")), name);
    },
    async stop() {
      await sandbox.stop(0);
      for (const reader of readers) reader.destroy();
    },
  };
}

/** Opened for both, so that opening never waits and the last writer's going is not an end. */
function readInto(output: Output, name: "stdout" | "stderr" | "frameText", path: string): Socket {
  const reader = new Socket({ fd: openSync(path, constants.O_RDWR | constants.O_NONBLOCK), writable: false });
  reader.setEncoding("utf8");
  reader.on("data", (text: string) => output.add(name, text));
  return reader;
}
