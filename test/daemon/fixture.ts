// Starts a real ebb for a test: own data directory, free port, own client; stopped and checked at the end.

import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import type { IncomingHttpHeaders } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { runInProcess, type CommandResult } from "#cli/in-process.testing.ts";
import { send } from "#cli/send.ts";
import { createClient, type Client } from "#client/client.ts";
import { installation } from "#config.ts";
import { request as httpRequest } from "#lib/http.ts";

export type { CommandResult };

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

export interface Daemon {
  readonly url: string;
  readonly port: number;
  readonly token: string;
  readonly directory: string;
  readonly process: ChildProcess;
  /** Everything it said on stderr so far. */
  log(): string;
  /** `ebb …` against this daemon, in this process: a hundred commands cost no more than a few processes. */
  ebb(args: readonly string[], options?: { stdin?: string }): Promise<CommandResult>;
  /** `ebb … --json`, which must succeed; its parsed output. */
  json<T>(args: readonly string[]): Promise<T>;
  /** Of its API, as an administrator: for what a test looks up. */
  readonly client: Client;
  /** A request to a workload (by Host header) or, with `host: null`, to the platform. */
  fetch(host: string | null, path: string, options?: RequestOptions): Promise<Answer>;
  /** SIGTERM; resolves with its exit code. */
  stop(): Promise<number | null>;
  /** kill -9 of the daemon's main process. */
  kill(): Promise<void>;
}

export interface RequestOptions {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: string | Uint8Array;
  readonly signal?: AbortSignal;
}

const launcher = join(installation, "ebb");

/** A new directory under the system's temporary one; the caller removes it. */
export function temporaryDirectory(): string {
  return mkdtempSync(join(tmpdir(), "ebb-test-"));
}

/** Writes files (path to text) under a new temporary directory. */
export function folderOf(files: Record<string, string>): string {
  const directory = temporaryDirectory();
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), text);
  }
  return directory;
}

/** A launcher of a daemon that asks this resolver, in a mount namespace of its own; the caller removes its folder. */
export function launcherAsking(resolver: string): string {
  const folder = folderOf({
    "resolv.conf": `nameserver ${resolver}\n`,
    up: `#!/bin/sh
exec unshare --mount sh -c 'mount --bind "$0" /etc/resolv.conf; exec "$@"' "$(dirname "$0")/resolv.conf" "${launcher}" "$@"
`,
  });
  chmodSync(join(folder, "up"), 0o755);
  return join(folder, "up");
}

/** That the engine isolates here is proved by the first of the daemons; ebb itself looks whether it is still true. */
const proof = { name: "isolation.json", kept: join(installation, "node_modules/.cache/ebb-isolation.json") };

function giveProof(directory: string): void {
  if (existsSync(proof.kept)) writeFileSync(join(directory, proof.name), readFileSync(proof.kept), { mode: 0o600 });
}

function keepProof(directory: string): void {
  const [made, kept] = [join(directory, proof.name), proof.kept].map((path) =>
    existsSync(path) ? readFileSync(path, "latin1") : "",
  );
  if (made === kept || made === "") return;
  mkdirSync(dirname(proof.kept), { recursive: true });
  const unfinished = `${proof.kept}.${process.pid}`;
  writeFileSync(unfinished, made!);
  renameSync(unfinished, proof.kept);
}

/** Starts `ebb up`; throws with what it said when it does not become ready. */
export async function startDaemon(
  options: { directory?: string; args?: readonly string[]; env?: Record<string, string>; launcher?: string } = {},
): Promise<Daemon> {
  const directory = options.directory ?? temporaryDirectory();
  if (options.directory === undefined) giveProof(directory);
  const child = spawn(
    options.launcher ?? launcher,
    ["up", "--data", directory, "--listen", "127.0.0.1:0", ...(options.args ?? [])],
    {
      stdio: ["ignore", "pipe", "pipe"],
      // Started ahead would be what a test counts.
      env: { ...process.env, EBB_POOL_MIB: "0", ...options.env },
    },
  );
  const said: string[] = [];
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => said.push(chunk));
  const url = await new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stdout }).on("line", (line) => {
      const match = /^ready (http:\/\/\S+)$/.exec(line);
      if (match?.[1]) resolve(match[1]);
    });
    child.once("exit", (code, signal) => reject(new Error(`ebb up ended (${code ?? signal}):\n${said.join("")}`)));
    child.once("error", reject);
  });
  if (options.directory === undefined) keepProof(directory);
  const credentials = JSON.parse(readFileSync(join(directory, "credentials.json"), "utf8")) as {
    url: string;
    token: string;
  };
  const port = Number(new URL(url).port);
  const ebb: Daemon["ebb"] = (args, more) =>
    runInProcess([...args, "--data", directory], { ...more, environment: process.env });
  return {
    url,
    port,
    token: credentials.token,
    directory,
    process: child,
    log: () => said.join(""),
    ebb,
    json: async <T>(args: readonly string[]) => {
      const result = await ebb([...args, "--json"]);
      if (result.code !== 0)
        throw new Error(`ebb ${args.join(" ")}: exit ${result.code}: ${result.stderr}${result.stdout}`);
      return JSON.parse(result.stdout) as T;
    },
    client: createClient({ url, token: credentials.token, send }),
    fetch: (host, path, more) => fetchFrom(port, host, path, more),
    stop: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
      const ended = once(child, "exit");
      child.kill("SIGTERM");
      await ended;
      return child.exitCode;
    },
    kill: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, "exit");
      child.kill("SIGKILL");
      await ended;
    },
  };
}

/** An ebb that serves what is in the folder. */
export async function startDeployed(
  folder: string,
  options: { readonly args?: readonly string[] } = {},
): Promise<Daemon> {
  const daemon = await startDaemon(options);
  const { code, stderr } = await daemon.ebb(["deploy", folder]);
  if (code === 0) return daemon;
  await endDeployed(daemon, folder);
  throw new Error(stderr);
}

/** Nothing of either is left. */
export async function endDeployed(daemon: Daemon, folder: string): Promise<void> {
  await daemon.stop();
  removeDirectory(daemon.directory);
  removeDirectory(folder);
}

/** Runs the launcher to its end; one that does not end within `timeoutMs` is killed, and its code is -1. */
export async function runCommand(
  args: readonly string[],
  options: { stdin?: string; env?: Record<string, string>; timeoutMs?: number } = {},
): Promise<CommandResult> {
  const child = spawn(launcher, args, {
    stdio: ["pipe", "pipe", "pipe"],
    env: { ...process.env, ...options.env },
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => (stdout += chunk));
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => (stderr += chunk));
  child.stdin.end(options.stdin ?? "");
  const late = options.timeoutMs === undefined ? undefined : setTimeout(() => child.kill("SIGKILL"), options.timeoutMs);
  const [code] = (await once(child, "close")) as [number | null];
  clearTimeout(late);
  return { code: code ?? -1, stdout, stderr };
}

/** One request on a connection of its own, with any Host header (fetch does not allow that). */
export function fetchFrom(
  port: number,
  host: string | null,
  path: string,
  options: RequestOptions = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({
      host: "127.0.0.1",
      port,
      path,
      method: options.method ?? "GET",
      agent: false,
      headers: { host: host ?? `127.0.0.1:${port}`, ...options.headers },
      ...(options.signal ? { signal: options.signal } : {}),
    });
    request.once("error", reject);
    request.once("response", (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.once("error", reject);
      response.once("end", () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          text: Buffer.concat(chunks).toString("utf8"),
        }),
      );
    });
    request.end(options.body);
  });
}

/**
 * Asks until `check` answers something; the bound is generous, since machines are slow: what is tested is that it comes. Asking may
 * be dear (a process, all of /proc): it takes a third of the time at most, and leaves the rest to what is waited for. What has not come
 * for long is asked for less often.
 */
export async function eventually<T>(
  what: string,
  check: () => Promise<T | null | undefined | false>,
  withinMs = 20_000,
): Promise<T> {
  const startedMs = performance.now();
  const until = startedMs + withinMs;
  for (;;) {
    const askedMs = performance.now();
    const found = await check();
    if (found) return found;
    const nowMs = performance.now();
    if (nowMs > until) throw new Error(`did not happen within ${withinMs} ms: ${what}`);
    const waitedMs = nowMs - startedMs;
    const pauseMs = Math.max(20, Math.min(waitedMs / 10, 100), Math.min(2 * (nowMs - askedMs), until - nowMs));
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

export function removeDirectory(directory: string): void {
  rmSync(directory, { recursive: true, force: true });
}
