// Starts a shim as a plain process, the way a sandbox driver does: a listening Unix socket as fd 3, FIFOs for its output and frames.

import { spawn, execFileSync } from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { once } from "node:events";
import { Output, type Launched, type Launcher } from "./instance.ts";

export const runtimesFolder = path.resolve(import.meta.dirname, "..");

interface Manifest {
  runtimes: Record<string, { language: string | null; argv: string[] | null }>;
}

const manifest = JSON.parse(fs.readFileSync(path.join(runtimesFolder, "runtimes.json"), "utf8")) as Manifest;

/** The runtimes that this machine can run: Node 22 and 24 where EBB_NODE22 and EBB_NODE24 say where they are. */
export function availableRuntimes(): Array<{ name: string; language: string; launcher: Launcher }> {
  return runtimesBy({
    node22: process.env["EBB_NODE22"],
    node24: process.env["EBB_NODE24"],
    node26: process.execPath,
    python3: fs.existsSync("/usr/bin/python3") ? "/usr/bin/python3" : undefined,
  });
}

/** Those of which there is an interpreter. */
export function runtimesBy(
  interpreters: Readonly<Record<string, string | undefined>>,
): Array<{ name: string; language: string; launcher: Launcher }> {
  return Object.entries(manifest.runtimes).flatMap(([name, { language, argv }]) => {
    const interpreter = interpreters[name];
    if (interpreter === undefined || argv === null || language === null) return [];
    const real = [interpreter, ...argv.slice(1).map((arg) => arg.replace(/^\/runtime\//, `${runtimesFolder}/`))];
    return [{ name, language, launcher: () => launch(real) }];
  });
}

/** A listening socket whose closing here unlinks nothing: it is renamed first. */
async function listeningSocket(folder: string): Promise<{ server: net.Server; fd: number; socketPath: string }> {
  const server = net.createServer();
  const temporary = path.join(folder, "s.tmp");
  server.listen(temporary);
  await once(server, "listening");
  const socketPath = path.join(folder, "s");
  fs.renameSync(temporary, socketPath);
  const { fd } = (server as unknown as { _handle: { fd: number } })._handle;
  return { server, fd, socketPath };
}

export async function launch(argv: readonly string[]): Promise<Launched> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ebb-suite-"));
  const { server, fd, socketPath } = await listeningSocket(folder);
  const fifos = ["stdout", "stderr", "frameText"] as const;
  execFileSync(
    "mkfifo",
    fifos.map((name) => path.join(folder, name)),
  );
  const output = new Output();
  // Opened for both, so that opening never waits and the last writer's going is not an end.
  const readers = fifos.map((name) => {
    const reader = new net.Socket({
      fd: fs.openSync(path.join(folder, name), fs.constants.O_RDWR | fs.constants.O_NONBLOCK),
      writable: false,
    });
    reader.setEncoding("utf8");
    reader.on("data", (text: string) => output.add(name, text));
    return reader;
  });
  const writers = fifos.map((name) => fs.openSync(path.join(folder, name), fs.constants.O_WRONLY));
  const [program = "", ...args] = argv;
  const child = spawn(program, args, {
    env: { PATH: "/usr/bin:/bin", HOME: "/tmp", LANG: "C.UTF-8", TZ: "UTC" },
    stdio: ["ignore", writers[0], writers[1], fd, writers[2]],
  });
  const exited = once(child, "exit").then(([code, signal]) => ({
    code: code as number | null,
    signal: signal as NodeJS.Signals | null,
  }));
  for (const writer of writers) fs.closeSync(writer);
  server.close();
  return {
    socketPath,
    exited,
    output,
    give: async (code) => code,
    signal: (name) => void child.kill(name),
    async stop() {
      child.kill("SIGKILL");
      await exited;
      for (const reader of readers) reader.destroy();
      fs.rmSync(folder, { recursive: true, force: true });
    },
  };
}
