// The floor of a container's cold start: a bare `crun run` of the same image's files, from the spawn to the first complete answer.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { oneAnswer } from "./one-answer.ts";
import { createSmallParent } from "./small-parent.ts";

const withinMs = 20_000;

export interface BareImage {
  /** Milliseconds from the order to spawn the engine to the last byte of the first answer. */
  start(): Promise<number>;
  remove(): Promise<void>;
}

/**
 * `layers`: tar archives, not compressed, the lowest first. On the host's network, since nobody makes it one of its own; besides that as
 * bare-engine.ts has it: none of what ebb adds.
 */
export function createBareImage(
  engine: string,
  layers: readonly Buffer[],
  args: readonly string[],
  env: readonly string[],
): BareImage {
  const { folder: bundle, configure, remove } = createBundle(layers, args, env);
  const parent = createSmallParent();
  let count = 0;
  return {
    async start() {
      const id = `ebb-bench-image-${process.pid}-${count++}`;
      const port = await freePort();
      configure([...env, `PORT=${port}`]);
      const began = performance.now();
      const { exited } = parent.start([engine, "run", "--bundle", bundle, id]);
      await Promise.race([firstAnswer(port), exited.then(() => Promise.reject(new Error("the bare container ended")))]);
      const tookMs = performance.now() - began;
      await once(spawn(engine, ["kill", id, "KILL"], { stdio: ["ignore", "ignore", "inherit"] }), "exit");
      await exited;
      return tookMs;
    },
    async remove() {
      await parent.stop();
      remove();
    },
  };
}

export interface Bundle {
  readonly folder: string;
  /** With another environment from now on. */
  readonly configure: (env: readonly string[]) => void;
  readonly remove: () => void;
}

/** A folder that an engine can run. */
export function createBundle(layers: readonly Buffer[], args: readonly string[], env: readonly string[]): Bundle {
  const folder = mkdtempSync(join(tmpdir(), "ebb-bench-"));
  const root = join(folder, "root");
  mkdirSync(root);
  for (const layer of layers) {
    const unpacked = spawnSync("tar", ["-xf", "-", "-C", root], { input: layer });
    if (unpacked.status !== 0) throw new Error(unpacked.stderr.toString());
  }
  for (const path of ["proc", "dev"]) mkdirSync(join(root, path), { recursive: true });
  const configure: Bundle["configure"] = (of) =>
    writeFileSync(join(folder, "config.json"), JSON.stringify(configuration(root, args, of)));
  configure(env);
  return { folder, configure, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** A program of somebody else's says nothing when it listens: it is asked every millisecond, which takes a twentieth of a core. */
async function firstAnswer(port: number): Promise<void> {
  for (const until = performance.now() + withinMs; performance.now() < until;) {
    if ((await oneAnswer({ port }, "bench")) !== null) return;
    await sleep(1);
  }
  throw new Error(`the bare container did not answer within ${withinMs} ms`);
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- it listens on TCP
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

function configuration(root: string, args: readonly string[], env: readonly string[]): unknown {
  return {
    ociVersion: "1.0.2",
    process: {
      user: { uid: 0, gid: 0 },
      args,
      env,
      cwd: "/",
      noNewPrivileges: true,
      capabilities: { bounding: [], effective: [], permitted: [] },
    },
    root: { path: root, readonly: true },
    mounts: [
      { destination: "/proc", type: "proc", source: "proc" },
      { destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["nosuid", "mode=755"] },
    ],
    linux: { namespaces: ["pid", "ipc", "uts", "mount", "cgroup"].map((type) => ({ type })) },
  };
}
