// A peer that is a program: started, asked until it answers, stopped with what it started.

import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { eventually } from "../../test/daemon/fixture.ts";
import { childrenOf } from "../processes.ts";
import type { Contender, Served } from "./contender.ts";
import { firstAnswer } from "./first-answer.ts";

/** serverless compiles its schemas at its very first start: some 10 s of CPU, kept for the later ones. */
const withinMs = 180_000;
const saidMaxChars = 2_000;
const host = "localhost";

export interface Program {
  readonly name: string;
  readonly version: string;
  readonly isolates: string;
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  /** Its argv, when it is to listen on `port`; `spare` is a port too. */
  command(port: number, spare: number): readonly [string, ...string[]];
  /** By default the process and its children are killed. */
  readonly end?: (child: ChildProcess) => Promise<void>;
}

export function contenderOf(program: Program): Contender {
  const { name, version, isolates } = program;
  return {
    name,
    version,
    isolates,
    async coldStart() {
      const { served, tookMs } = await start(program);
      await served.stop();
      return tookMs;
    },
    serve: async () => (await start(program)).served,
  };
}

async function start(program: Program): Promise<{ served: Served; tookMs: number }> {
  const [port, spare] = await freePorts();
  const [file, ...argv] = program.command(port, spare);
  const env = { PATH: process.env["PATH"] ?? "", NODE_ENV: "production", PORT: String(port), ...program.env };
  const began = performance.now();
  const child = spawn(file, argv, { cwd: program.cwd, env, stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  for (const output of [child.stdout, child.stderr])
    output.setEncoding("utf8").on("data", (chunk: string) => (said = (said + chunk).slice(-saidMaxChars)));
  let failed: Error | undefined;
  child.on("error", (error) => (failed = error)); // it could not be spawned
  const end = program.end ?? killed;
  const stop = async (): Promise<void> => {
    if (!hasEnded(child) && failed === undefined) await end(child);
  };
  try {
    await firstAnswer(port, host, withinMs, () =>
      failed || hasEnded(child) ? (failed?.message ?? `it ended: ${said.trim()}`) : undefined,
    );
    return { served: { port, host, stop }, tookMs: performance.now() - began };
  } catch (error) {
    await stop();
    throw error;
  }
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

async function killed(child: ChildProcess): Promise<void> {
  const started = childrenOf(child.pid ?? 0);
  const exited = once(child, "exit");
  child.kill("SIGKILL");
  for (const pid of started)
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It went with its parent.
    }
  await exited;
  // A zombie has no executable any more, whoever is to reap it.
  await eventually("what it started is gone", () =>
    Promise.resolve(started.every((pid) => !existsSync(`/proc/${pid}/exe`))),
  );
}

/** Two of loopback that nobody has at the moment: not every peer can listen on port 0 and say which it got. */
async function freePorts(): Promise<[number, number]> {
  const servers = [createServer(), createServer()];
  await Promise.all(servers.map((server) => once(server.listen(0, "127.0.0.1"), "listening")));
  const [port, spare] = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => once(server.close(), "close")));
  return [port ?? 0, spare ?? 0];
}
