// The one reader of the environment and of the machine's files: every key with its default, unit and meaning.

import { existsSync, readFileSync } from "node:fs";
import { availableParallelism, homedir, totalmem } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { linkLimits, machineLimits, pauseLimits, poolLimits } from "#model/limits.ts";

/** What `ebb up` may be told; everything has a default. Generated into docs/reference/configuration.md. */
export const daemonKeys = {
  data: {
    flag: "--data DIR",
    env: "EBB_DATA",
    fallback: ".ebb/ beside the launcher",
    meaning: "the data directory: everything that ebb keeps",
  },
  listen: {
    flag: "--listen HOST:PORT",
    env: "EBB_LISTEN",
    fallback: "127.0.0.1:8080",
    meaning: "where requests arrive; port 0 takes a free one",
  },
  url: {
    flag: "--url URL",
    env: "EBB_BASE_URL",
    fallback: "http://localhost:PORT",
    meaning: "the URL that users see; its host is the BASE of workload host names",
  },
  trustProxy: {
    flag: "--trust-proxy CIDR",
    env: "EBB_TRUST_PROXY",
    fallback: "none",
    meaning:
      "peers whose X-Forwarded-* headers count, so that they must set or remove each of them (X-Forwarded-Host says which workload is asked); may be given several times, or with commas",
  },
  registry: {
    flag: "--registry HOST[:PORT]",
    env: "EBB_REGISTRIES",
    fallback: "none",
    meaning:
      "registries in the machine's own networks that images may come from, beside all public ones; may be given several times, or with commas",
  },
  isolation: {
    flag: "--isolation none",
    env: "EBB_ISOLATION",
    fallback: "container",
    meaning: "none: functions run as plain processes; development only, loopback only",
  },
  pool: {
    flag: "--pool MIB",
    env: "EBB_POOL_MIB",
    fallback: "2% of the machine's memory",
    meaning: "what sandboxes that are started ahead of the calls may use together; 0: none is",
  },
  keepAlive: {
    flag: "--keep-alive WAY",
    env: "EBB_KEEP_ALIVE",
    fallback: "histogram",
    meaning:
      "how long functions that do not say idleSeconds are kept: fixed, always the default; histogram, the default until enough is known of the pauses between their calls, then as these suggest",
  },
  pause: {
    flag: "--pause SECONDS",
    env: "EBB_PAUSE_SECONDS",
    fallback: String(pauseLimits.afterSeconds),
    meaning:
      "how long nothing has run in an instance until it is paused: it uses no CPU until the next call; off: none is. Instances of functions with min above 0 never are",
  },
  egressRate: {
    flag: "--egress-rate MBIT",
    env: "EBB_EGRESS_RATE_MBIT",
    fallback: String((linkLimits.bytesPerSecond * 8) / 1_000_000),
    meaning: "Mbit/s that one instance may send to the world, and as many that it may get; what is more is dropped",
  },
} as const;

export interface DaemonOptions {
  readonly data?: string | undefined;
  readonly listen?: string | undefined;
  readonly url?: string | undefined;
  readonly trustProxy?: readonly string[] | undefined;
  readonly registries?: readonly string[] | undefined;
  readonly isolation?: string | undefined;
  readonly pool?: string | undefined;
  readonly keepAlive?: string | undefined;
  readonly pause?: string | undefined;
  readonly egressRate?: string | undefined;
}

export interface DaemonConfig {
  /** Absolute, links resolved by whoever opens it. */
  readonly dataDirectory: string;
  readonly listenHost: string;
  readonly listenPort: number;
  /** Scheme, host and port that users see; null: made from what is listened on. */
  readonly baseUrl: URL | null;
  readonly trustProxy: readonly string[];
  /** Registries that are not public and that images may come from: HOST or HOST:PORT. */
  readonly registries: readonly string[];
  readonly isolation: "container" | "none";
  /** Root of ebb's own installation. */
  readonly installation: string;
  /** The pinned Node. */
  readonly node: string;
  readonly machineMemoryBytes: number;
  readonly machineCores: number;
  /** What sandboxes that are started ahead may use. */
  readonly poolBytes: number;
  /** Of functions that do not say how long they are kept. */
  readonly keepAlive: "fixed" | "histogram";
  /** How long nothing has run in an instance that is paused; null: none is. */
  readonly pauseAfterMs: number | null;
  /** Of what one instance sends to the world, and of what it gets. */
  readonly egressBytesPerSecond: number;
  /** Files and sockets that the process may have open at a time. */
  readonly openFilesMax: number;
  /** Who owns credentials.json: the user behind sudo. */
  readonly owner: { readonly uid: number; readonly gid: number } | null;
  readonly ebbVersion: string;
  /** Where programs of the operator's are looked for (npm, for runtimes that are fetched on first use). */
  readonly path: string;
  /** What npm needs to reach the operator's registry; no secret, since arguments can be seen. */
  readonly npmEnvironment: Readonly<Record<string, string>>;
}

const MiB = 1024 * 1024;

/** A wrong option or variable: one clear sentence, exit code 2. */
export class ConfigError extends Error {}

export const installation = dirname(dirname(fileURLToPath(import.meta.url)));

/** `ebb up`'s configuration: options first, then the environment, then the default. Throws ConfigError. */
export function readDaemonConfig(options: DaemonOptions, environment: NodeJS.ProcessEnv = process.env): DaemonConfig {
  const listen = readListen(options.listen ?? environment["EBB_LISTEN"] ?? "127.0.0.1:8080");
  const isolation = options.isolation ?? environment["EBB_ISOLATION"] ?? "container";
  if (isolation !== "container" && isolation !== "none")
    throw new ConfigError(`--isolation: expected container or none, found "${isolation}"`);
  if (isolation === "none" && !isLoopback(listen.host))
    throw new ConfigError(
      `--isolation none listens on loopback only, not on "${listen.host}": nothing would be isolated from whoever reaches it`,
    );
  const keepAlive = options.keepAlive ?? environment["EBB_KEEP_ALIVE"] ?? "histogram";
  if (keepAlive !== "fixed" && keepAlive !== "histogram")
    throw new ConfigError(`--keep-alive: expected fixed or histogram, found "${keepAlive}"`);
  const trustProxy = options.trustProxy ?? splitList(environment["EBB_TRUST_PROXY"]);
  return {
    dataDirectory: dataDirectory(options.data ?? (environment["EBB_DATA"] || null)),
    listenHost: listen.host,
    listenPort: listen.port,
    baseUrl: readBaseUrl(options.url ?? environment["EBB_BASE_URL"]),
    trustProxy,
    registries: readRegistries(options.registries ?? splitList(environment["EBB_REGISTRIES"])),
    isolation,
    installation,
    node: process.execPath,
    machineMemoryBytes: totalmem(),
    machineCores: availableParallelism(),
    poolBytes: readPoolBytes(options.pool ?? environment["EBB_POOL_MIB"]),
    keepAlive,
    pauseAfterMs: readPauseAfterMs(options.pause ?? environment["EBB_PAUSE_SECONDS"]),
    egressBytesPerSecond: readEgressRate(options.egressRate ?? environment["EBB_EGRESS_RATE_MBIT"]),
    openFilesMax: readOpenFilesMax(),
    owner: readOwner(environment),
    ebbVersion: readVersion(),
    path: environment["PATH"] ?? "/usr/bin:/bin",
    npmEnvironment: pick(environment, [
      "HOME",
      "NODE_EXTRA_CA_CERTS",
      "SSL_CERT_FILE",
      "npm_config_registry",
      "npm_config_cafile",
    ]),
  };
}

function readPoolBytes(text: string | undefined): number {
  if (text === undefined) return Math.floor(totalmem() * poolLimits.budgetShare);
  const { reservedMemoryBytes, reservedMemoryShare } = machineLimits;
  const forSandboxes = totalmem() - Math.max(reservedMemoryBytes, totalmem() * reservedMemoryShare);
  const mostMib = Math.max(0, Math.floor(forSandboxes / 2 / MiB));
  if (!/^\d{1,7}$/.test(text) || Number(text) > mostMib)
    throw new ConfigError(
      `--pool: expected a number of MiB, at most half of what sandboxes may use (${mostMib}), found "${text}"`,
    );
  return Number(text) * MiB;
}

function readPauseAfterMs(text: string | undefined): number | null {
  if (text === "off") return null;
  const { afterSeconds, afterSecondsMax } = pauseLimits;
  const seconds = Number(text ?? afterSeconds);
  if (!Number.isInteger(seconds) || seconds < 1 || seconds > afterSecondsMax)
    throw new ConfigError(`--pause: expected off, or seconds from 1 to ${afterSecondsMax}, found "${text}"`);
  return seconds * 1_000;
}

function readEgressRate(text: string | undefined): number {
  if (text === undefined) return linkLimits.bytesPerSecond;
  const { min, max } = linkLimits.egressRateMbits;
  if (!/^\d{1,7}$/.test(text) || Number(text) < min || Number(text) > max)
    throw new ConfigError(`--egress-rate: expected Mbit/s from ${min} to ${max}, found "${text}"`);
  return (Number(text) * 1_000_000) / 8;
}

/** The data directory of a daemon or of a command that looks for one. */
export function dataDirectory(named: string | null): string {
  return resolve(named ?? join(installation, ".ebb"));
}

export interface ClientEnvironment {
  readonly url: string | null;
  readonly token: string | null;
  /** EBB_DATA, when set. */
  readonly data: string | null;
  /** Where contexts are kept: ~/.config/ebb. */
  readonly contextDirectory: string;
  readonly color: boolean;
  /** Its terminal can take a line back. */
  readonly rewrites: boolean;
  /** Where `ebb doctor` looks for programs. */
  readonly path: string;
}

/** What the command line reads of its environment. */
export function readClientEnvironment(environment: NodeJS.ProcessEnv = process.env): ClientEnvironment {
  return {
    url: environment["EBB_URL"] || null,
    token: environment["EBB_TOKEN"] || null,
    data: environment["EBB_DATA"] || null,
    contextDirectory: join(environment["XDG_CONFIG_HOME"] || join(environment["HOME"] || homedir(), ".config"), "ebb"),
    rewrites: environment["TERM"] !== "dumb",
    color: !environment["NO_COLOR"] && environment["TERM"] !== "dumb",
    path: environment["PATH"] ?? "",
  };
}

export function readVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(join(installation, "package.json"), "utf8"));
  return (manifest as { version?: string }).version ?? "0.0.0";
}

function readListen(text: string): { host: string; port: number } {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (!match || port > 65_535) throw new ConfigError(`--listen: expected HOST:PORT, found "${text}"`);
  return { host: match[1] ?? (match[2] || "0.0.0.0"), port };
}

function readBaseUrl(text: string | undefined): URL | null {
  if (text === undefined || text === "") return null;
  const url = URL.canParse(text) ? new URL(text) : null;
  if (!url || !/^https?:$/.test(url.protocol) || url.pathname !== "/" || url.search || url.hash || url.username)
    throw new ConfigError(`--url: expected a URL such as https://fn.example.com, found "${text}"`);
  return url;
}

function splitList(text: string | undefined): string[] {
  return (text ?? "")
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
}

function pick(environment: NodeJS.ProcessEnv, names: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    names.flatMap((name) => (environment[name] === undefined ? [] : [[name, environment[name]]])),
  );
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}

/** The soft limit, which Node raises to the hard one when it starts. */
export function readOpenFilesMax(path = "/proc/self/limits"): number {
  const limit = /^Max open files +(\d+|unlimited)/m.exec(readFileSync(path, "utf8"))?.[1];
  return limit === "unlimited" ? Number.POSITIVE_INFINITY : Number(limit ?? 1_024);
}

/** The machine's resolvers: read at each use, since they change with its network. */
export function readResolvers(path = "/etc/resolv.conf"): string[] {
  if (!existsSync(path)) return [];
  return readFileSync(path, "utf8")
    .split("\n")
    .map((line) => /^\s*nameserver\s+(\S+)/.exec(line)?.[1] ?? "")
    .filter((address) => address !== "")
    .slice(0, 3);
}

/** The domains in which the machine looks for names, but no top-level domain: read at each use as well. */
export function readSearchDomains(path = "/etc/resolv.conf"): string[] {
  if (!existsSync(path)) return [];
  return readFileSync(path, "utf8")
    .split("\n")
    .flatMap((line) => /^\s*(?:search|domain)\s+([^#;]*)/.exec(line)?.[1]?.split(/\s+/) ?? [])
    .map((domain) => domain.toLowerCase().replace(/\.$/, ""))
    .filter((domain) => domain.includes("."));
}

function readRegistries(listed: readonly string[]): readonly string[] {
  return listed.map((text) => {
    const port = /^(?:\[[0-9a-fA-F:]+\]|[a-zA-Z0-9.-]+)(?::([0-9]{1,5}))?$/.exec(text);
    if (!port || Number(port[1] ?? 1) < 1 || Number(port[1] ?? 1) > 65_535)
      throw new ConfigError(`--registry: expected HOST or HOST:PORT, such as registry.internal:5000, found "${text}"`);
    return text.toLowerCase();
  });
}

function readOwner(environment: NodeJS.ProcessEnv): { uid: number; gid: number } | null {
  const uid = Number(environment["SUDO_UID"]);
  const gid = Number(environment["SUDO_GID"]);
  return process.getuid?.() === 0 && Number.isInteger(uid) && uid > 0
    ? { uid, gid: Number.isInteger(gid) ? gid : uid }
    : null;
}
