// The floor of a cold start: a bare `crun run` of the same Node server, from the spawn to its first complete answer.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, rmSync, watch, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { enginesHere, type Engine } from "#sandbox/oci/engine.ts";
import { oneAnswer } from "./one-answer.ts";

const withinMs = 20_000;

export interface BareEngineOptions {
  /** The engine's program. */
  readonly engine: string;
  /** The Node binary, the same that ebb's sandboxes run. */
  readonly node: string;
  /** A folder with a server that listens on PORT, and its file: the function's own. */
  readonly code: string;
  readonly entry: string;
}

/**
 * An OCI bundle with what a container has anyway (pid, mount, ipc, uts, cgroup and a new, empty network namespace; the host's
 * libraries read-only) and none of what ebb adds: no user namespace, seccomp, limits, link, output pipes or check of readiness.
 */
export interface BareEngine {
  /** Where its server listens, on the host. */
  readonly socket: string;
  /** Milliseconds from the spawn of the engine to the last byte of the first answer; it has ended then. */
  start(): Promise<number>;
  /** The same, and it goes on. */
  launch(): Promise<{ readonly tookMs: number; end(): Promise<void> }>;
  remove(): void;
}

/** The one that ebb would take. */
export async function engineHere(): Promise<Engine> {
  const [engine] = await enginesHere();
  if (!engine) throw new Error("there is no OCI engine here");
  return engine;
}

/** Of this process: names the containers. */
let starts = 0;

export function createBareEngine(options: BareEngineOptions): BareEngine {
  const { engine } = options;
  const bundle = mkdtempSync(join(tmpdir(), "ebb-bench-"));
  const sockets = join(bundle, "run");
  const socket = join(sockets, "s");
  mkdirSync(sockets);
  for (const path of ["proc", "dev", "run/bench", "code", "usr/bin", ...libraries])
    mkdirSync(join(bundle, "root", path), { recursive: true });
  writeFileSync(join(bundle, "root/usr/bin/node"), ""); // where the binary is mounted over
  writeFileSync(join(bundle, "config.json"), JSON.stringify(configuration(options, bundle, sockets)));
  const launch: BareEngine["launch"] = async () => {
    const id = `ebb-bench-${process.pid}-${starts++}`;
    rmSync(socket, { force: true });
    const appeared = appears(sockets, "s");
    const began = performance.now();
    const child = spawn(engine, ["run", "--bundle", bundle, id], { stdio: ["ignore", "ignore", "inherit"] });
    const exited = once(child, "exit");
    await Promise.race([appeared, exited.then(() => Promise.reject(new Error("the bare container ended")))]);
    await firstAnswer(socket);
    return {
      tookMs: performance.now() - began,
      async end() {
        await once(spawn(engine, ["kill", id, "KILL"], { stdio: ["ignore", "ignore", "inherit"] }), "exit");
        await exited;
      },
    };
  };
  return {
    socket,
    launch,
    async start() {
      const one = await launch();
      await one.end();
      return one.tookMs;
    },
    remove: () => rmSync(bundle, { recursive: true, force: true }),
  };
}

/** Told by the kernel, so that waiting takes no CPU from the start that is measured. */
function appears(folder: string, name: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const watcher = watch(folder, (_event, file) => {
      if (file === name) finish(resolve);
    });
    const timer = setTimeout(() => finish(() => reject(new Error("the bare container did not listen"))), withinMs);
    const finish = (how: () => void): void => {
      clearTimeout(timer);
      watcher.close();
      how();
    };
  });
}

/** Between its bind, which is seen, and its listen, which is not, a server refuses for some microseconds. */
async function firstAnswer(socket: string): Promise<void> {
  for (const until = performance.now() + withinMs; performance.now() < until;) {
    if ((await oneAnswer({ path: socket }, "bench")) !== null) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
  throw new Error(`the bare container did not answer within ${withinMs} ms`);
}

const libraries = ["/usr/lib", "/lib", "/lib64"].filter((path) => existsSync(path));

function configuration({ node, code, entry }: BareEngineOptions, bundle: string, sockets: string): unknown {
  const bind = (source: string, destination: string, ...options: string[]): unknown => ({
    destination,
    type: "bind",
    source,
    options: ["rbind", ...options],
  });
  return {
    ociVersion: "1.0.2",
    process: {
      user: { uid: 0, gid: 0 },
      args: ["/usr/bin/node", `/code/${entry}`],
      env: ["PATH=/usr/bin:/bin", "PORT=/run/bench/s"],
      cwd: "/",
      noNewPrivileges: true,
      capabilities: { bounding: [], effective: [], permitted: [] },
    },
    root: { path: join(bundle, "root"), readonly: true },
    mounts: [
      { destination: "/proc", type: "proc", source: "proc" },
      { destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["nosuid", "mode=755"] },
      ...libraries.map((path) => bind(path, path, "ro")),
      bind(sockets, "/run/bench", "rw"),
      bind(code, "/code", "ro"),
      bind(node, "/usr/bin/node", "ro"),
    ],
    linux: { namespaces: ["pid", "network", "ipc", "uts", "mount", "cgroup"].map((type) => ({ type })) },
  };
}
