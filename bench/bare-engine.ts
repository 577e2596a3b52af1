// The floor of a cold start: a bare `crun run` of a Node server, from the spawn to its first complete answer.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const server = `
import { createServer } from "node:http";
createServer((request, response) => { response.end("hello"); }).listen("/run/bench/s");
`;

const libraries = ["/usr/lib", "/lib", "/lib64"].filter((path) => existsSync(path));

/** An OCI bundle with every namespace but the user's, the host's files read-only, and one writable folder for the socket. */
export interface BareEngine {
  /** Milliseconds from the spawn of the engine to the last byte of the first answer. */
  start(): Promise<number>;
  remove(): void;
}

export function createBareEngine(engine: string, node: string): BareEngine {
  const bundle = mkdtempSync(join(tmpdir(), "ebb-bench-"));
  const sockets = join(bundle, "run");
  mkdirSync(sockets);
  for (const path of ["proc", "dev", "run/bench", "code", ...libraries]) mkdirSync(join(bundle, "root", path), { recursive: true });
  writeFileSync(join(bundle, "node"), ""); // where the binary is mounted over
  writeFileSync(join(bundle, "server.mjs"), server);
  writeFileSync(join(bundle, "config.json"), JSON.stringify(configuration(node, bundle, sockets)));
  let count = 0;
  return {
    async start() {
      const id = `ebb-bench-${process.pid}-${count++}`;
      const socket = join(sockets, "s");
      rmSync(socket, { force: true });
      const began = performance.now();
      const child = spawn(engine, ["run", "--bundle", bundle, id], { stdio: "ignore" });
      const exited = once(child, "exit");
      await firstAnswer(socket);
      const tookMs = performance.now() - began;
      const kill = spawn(engine, ["kill", id, "KILL"], { stdio: "ignore" });
      await once(kill, "exit");
      await exited;
      return tookMs;
    },
    remove: () => rmSync(bundle, { recursive: true, force: true }),
  };
}

/** Asks until the server is there: every half millisecond, so that the floor is not made worse by the asking. */
async function firstAnswer(socket: string): Promise<void> {
  for (const until = performance.now() + 20_000; performance.now() < until; ) {
    if (await answered(socket)) return;
    await new Promise((resolve) => setTimeout(resolve, 0.5));
  }
  throw new Error("the bare container did not answer within 20 s");
}

function answered(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = connect(socket, () => connection.write("GET / HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n"));
    let bytes = 0;
    connection.on("data", (chunk) => (bytes += chunk.length));
    connection.on("close", () => resolve(bytes > 0));
    connection.on("error", () => resolve(false));
  });
}

function configuration(node: string, bundle: string, sockets: string): unknown {
  const namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map((type) => ({ type }));
  return {
    ociVersion: "1.0.2",
    process: {
      user: { uid: 0, gid: 0 },
      args: ["/code/node", "/code/server.mjs"],
      env: ["PATH=/usr/bin:/bin"],
      cwd: "/",
      noNewPrivileges: true,
      capabilities: { bounding: [], effective: [], permitted: [] },
    },
    root: { path: join(bundle, "root"), readonly: true },
    mounts: [
      { destination: "/proc", type: "proc", source: "proc" },
      { destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["nosuid", "mode=755"] },
      ...libraries.map((path) => ({ destination: path, type: "bind", source: path, options: ["rbind", "ro"] })),
      { destination: "/run/bench", type: "bind", source: sockets, options: ["rbind", "rw"] },
      { destination: "/code", type: "bind", source: bundle, options: ["rbind", "ro"] },
      { destination: "/code/node", type: "bind", source: node, options: ["bind", "ro"] },
    ],
    linux: { namespaces },
  };
}
