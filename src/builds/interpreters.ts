// Node versions for functions: 26 is the pinned one that ebb runs on; others come from their npm packages on first use.

import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { access, chmod, mkdir, mkdtemp, readdir, realpath, rename, rm } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { extract } from "tar-stream";
import { EbbError } from "#model/errors.ts";
import type { RuntimeName } from "#model/workload.ts";
import type { Spawner } from "#spawner/door.ts";
import type { Interpreters } from "./door.ts";

export type NodeRuntime = "node22" | "node24" | "node26";
type FetchedRuntime = Exclude<NodeRuntime, "node26">;

export interface Pinned {
  readonly version: string;
  /** Subresource integrity of the package, by architecture. */
  readonly integrity: Readonly<Record<string, string>>;
}

/** Plain packages with one binary and no install script; what arrives is checked against these. */
const pinned: Readonly<Record<FetchedRuntime, Pinned>> = {
  node24: {
    version: "24.21.0",
    integrity: {
      x64: "sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==",
      arm64: "sha512-FpJRPEz2OvvTLfjIOlNGFY9JLPMKgl5m+d4oGYBLg24kJ1mmvN1Zl/HPJgF4HDaJ51ISev1l1cRZ/DM+keXW5g==",
    },
  },
  node22: {
    version: "22.23.3",
    integrity: {
      x64: "sha512-qHnz5tFsHoj/WM+uRENVjWONi5hVvmwrgq8A4V76KpuVNAc4+jwK8x4gwbobE9BtHNg/AKR2583eYorLF/c7ng==",
      arm64: "sha512-l3DAHZreylo+p9QXDtsOrjG2JXJqVzYXnAGmIQNOUNARcMppTO2cmewVQP+36tjJnSE+dzpMNtgW+c3oiDvXtA==",
    },
  },
};

/** Which interpreter a runtime's compiled code is of; Python's own says that for itself. */
export function versionOf(runtime: RuntimeName): string {
  if (runtime === "node22" || runtime === "node24") return pinned[runtime].version;
  return runtime === "node26" ? process.versions.node : runtime;
}

/** Enough for a slow line: the packages are some 50 MB. */
const fetchTimeoutMs = 280_000;

export interface InterpretersOptions {
  /** Where fetched versions are kept: survives restarts. */
  readonly directory: string;
  /** The pinned Node: the runtime node26, and what runs npm. */
  readonly node: string;
  /** Where npm is looked for: the operator's PATH. */
  readonly path: string;
  /** What npm is told of the operator's set-up (HOME, its registry and certificates); never a secret, since arguments can be seen. */
  readonly npmEnvironment: Readonly<Record<string, string>>;
  readonly spawner: Pick<Spawner, "exec">;
  /** Left out: those that this ebb was made with. */
  readonly packages?: Readonly<Record<FetchedRuntime, Pinned>>;
  /** Told when a version is fetched, which takes a while. */
  readonly progress?: (what: string) => void;
}

export interface NodeInterpreters extends Interpreters {
  /** The Node binary of a runtime; concurrent first uses share one fetch, and a failed one is tried again at the next. */
  readonly node: (runtime: NodeRuntime) => Promise<string>;
}

/** One version on its way. */
interface Obtaining {
  /** Known before the rest: what has to be fetched; null: it is there. */
  readonly fetching: Promise<string | null>;
  readonly path: Promise<string>;
}

export function createInterpreters(options: InterpretersOptions): NodeInterpreters {
  const known = new Map<FetchedRuntime, Obtaining>();
  const obtaining = (runtime: FetchedRuntime): Obtaining => {
    let one = known.get(runtime);
    if (!one) {
      one = obtain(options, runtime);
      known.set(runtime, one);
      one.path.catch(() => known.delete(runtime));
    }
    return one;
  };
  return {
    node: async (runtime) => (runtime === "node26" ? options.node : obtaining(runtime).path),
    async provide(runtime, fetching) {
      if (runtime !== "node22" && runtime !== "node24") return;
      const one = obtaining(runtime);
      const what = await one.fetching;
      if (what !== null) fetching(what);
      await one.path;
    },
  };
}

function obtain(options: InterpretersOptions, runtime: FetchedRuntime): Obtaining {
  const { version } = (options.packages ?? pinned)[runtime];
  const target = join(options.directory, `node-${version}`);
  const there = exists(target);
  return {
    fetching: there.then((found) => (found ? null : `Node ${version}`)),
    path: there.then((found) => (found ? target : fetchTo(target, options, runtime))),
  };
}

async function fetchTo(target: string, options: InterpretersOptions, runtime: FetchedRuntime): Promise<string> {
  const { version, integrity } = (options.packages ?? pinned)[runtime];
  const expected = integrity[process.arch];
  if (expected === undefined) throw unavailable(runtime, `there is no package of Node ${version} for ${process.arch}`);
  await mkdir(options.directory, { recursive: true, mode: 0o711 });
  const folder = await mkdtemp(join(options.directory, ".fetch-"));
  try {
    options.progress?.(`fetching Node ${version} for the runtime ${runtime} …`);
    await pack(options, folder, `node-linux-${process.arch}@${version}`, runtime);
    const archive = (await readdir(folder)).find((name) => name.endsWith(".tgz"));
    if (archive === undefined) throw unavailable(runtime, "npm pack left no archive");
    const found = await sha512(join(folder, archive));
    if (found !== expected)
      throw unavailable(runtime, `the package of Node ${version} is not the one that is pinned (${found})`);
    await extractBinary(join(folder, archive), join(folder, "node"));
    await rename(join(folder, "node"), target);
    return target;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function pack(options: InterpretersOptions, folder: string, name: string, runtime: NodeRuntime): Promise<void> {
  const npm = await findNpm(options.path);
  if (npm === null) throw unavailable(runtime, "npm is not on PATH; install it, or deploy with runtime: node26");
  const environment = Object.entries(options.npmEnvironment).map(([key, value]) => `${key}=${value}`);
  const argv = [
    "/usr/bin/env",
    ...environment,
    options.node,
    npm,
    "pack",
    name,
    "--pack-destination",
    folder,
    "--loglevel=error",
  ];
  const result = await options.spawner.exec(argv, { timeoutMs: fetchTimeoutMs });
  if (result.code !== 0)
    throw unavailable(runtime, `npm pack ${name} failed: ${lastLine(result.stderr || result.stdout)}`);
}

/** npm's own script: run by the pinned Node, whatever `node` is on PATH. */
async function findNpm(path: string): Promise<string | null> {
  for (const folder of path.split(delimiter)) {
    if (!folder.startsWith("/")) continue;
    const script = await realpath(join(folder, "npm")).catch(() => null);
    if (script?.endsWith(".js")) return script;
  }
  return null;
}

async function extractBinary(archive: string, target: string): Promise<void> {
  const tar = extract();
  const reading = pipeline(createReadStream(archive), createGunzip(), tar);
  reading.catch(() => {}); // awaited below; the loop ends with the same error
  let found = false;
  for await (const entry of tar) {
    const wanted = entry.header.name === "package/bin/node" && entry.header.type === "file";
    if (wanted) await pipeline(entry, createWriteStream(target, { mode: 0o755, flags: "wx" }));
    else entry.resume();
    found ||= wanted;
  }
  await reading;
  if (!found) throw new EbbError("internal", "the package of Node holds no bin/node");
  await chmod(target, 0o755);
}

async function sha512(path: string): Promise<string> {
  const hash = createHash("sha512");
  await pipeline(createReadStream(path), hash);
  return `sha512-${hash.digest("base64")}`;
}

function unavailable(runtime: NodeRuntime, why: string): EbbError {
  return new EbbError("start_failed", `The runtime ${runtime} cannot be had: ${why}.`);
}

function lastLine(text: string): string {
  return text.trim().split("\n").at(-1)?.slice(0, 300) ?? "";
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
