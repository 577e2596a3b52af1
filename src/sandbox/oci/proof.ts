// The proof that an engine isolates on this machine: a probe in a real sandbox looks at itself. Kept for an engine's version.

import { createHash } from "node:crypto";
import { readFile, rename, stat, writeFile } from "node:fs/promises";
import { release } from "node:os";
import { join } from "node:path";
import { EbbError } from "#model/errors.ts";
import type { OneOff } from "../door.ts";
import { describeCgroups } from "./cgroups.ts";
import { idRangeSize, userId } from "./config.ts";
import type { Engine } from "./engine.ts";
import { findRunsc, noRunsc } from "./gvisor.ts";
import type { OciDriver } from "./oci.ts";
import type { Seccomp } from "./seccomp-filter.ts";

/** Raised when the probe asks for more, so that an old proof does not count. */
const proofVersion = 1;

const probe = `
const fs = require("node:fs");
const status = Object.fromEntries(fs.readFileSync("/proc/self/status", "utf8").split("\\n").map((l) => l.split(":\\t")));
const refused = (run) => { try { run(); return null; } catch (error) { return error.code; } };
process.stdout.write(JSON.stringify({
  seccomp: status.Seccomp, privileges: status.NoNewPrivs, uid: process.getuid(), pid: process.pid,
  capabilities: ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map((name) => status[name] ?? null),
  map: fs.readFileSync("/proc/self/uid_map", "utf8").trim().split(/\\s+/).map(Number),
  kernel: require("node:os").release(),
  root: refused(() => fs.writeFileSync("/probe", "")),
  sys: refused(() => fs.writeFileSync("/proc/sys/kernel/core_pattern", "x")),
  tmp: refused(() => fs.writeFileSync("/tmp/probe", "x")),
  devices: fs.readdirSync("/dev"),
  interfaces: fs.readFileSync("/proc/net/dev", "utf8").split("\\n").slice(2).map((l) => l.split(":")[0].trim()).filter(Boolean),
}));`;

interface Seen {
  readonly seccomp: string;
  readonly privileges: string;
  readonly uid: number;
  readonly pid: number;
  /** null: its kernel does not tell that set. */
  readonly capabilities: ReadonlyArray<string | null>;
  readonly map: readonly number[];
  readonly kernel: string;
  readonly root: string | null;
  readonly sys: string | null;
  readonly tmp: string | null;
  readonly devices: readonly string[];
  readonly interfaces: readonly string[];
}

const devices = new Set("core fd full null ptmx pts random shm stderr stdin stdout tty urandom zero mqueue".split(" "));

/** Of gVisor's own making; none leads to the machine's. */
const gvisorDevices = ["fuse", "net"];

/** What is wrong with what the probe saw; null: nothing. Pure. */
export function refuse(seen: Seen): string | null {
  if (seen.privileges !== "1") return "new privileges are possible";
  const [inside, outside, size] = seen.map;
  if (inside !== 0 || !outside || size !== idRangeSize) return "there is no user namespace with ids of its own";
  return refuseAny(seen, devices);
}

/** The same of class gvisor, whose kernel tells nothing of the namespaces that it is in itself, and has no new privileges. */
export function refuseGvisor(seen: Seen, machine: string): string | null {
  if (seen.kernel === machine) return "the program runs on the machine's own kernel";
  return refuseAny(seen, new Set([...devices, ...gvisorDevices]));
}

function refuseAny(seen: Seen, devices: ReadonlySet<string>): string | null {
  if (seen.seccomp !== "2") return "system calls are not filtered";
  if (seen.capabilities.some((set) => set !== null && !/^0+$/.test(set))) return "the program has capabilities";
  if (seen.uid !== userId) return "the program runs as another user";
  if (seen.pid !== 1) return "there is no process namespace";
  if (seen.root === null) return "the root can be written";
  if (seen.sys === null) return "/proc/sys can be written";
  if (seen.tmp !== null) return `/tmp cannot be written (${seen.tmp})`;
  const device = seen.devices.find((name) => !devices.has(name));
  if (device !== undefined) return `/dev/${device} is there`;
  const other = seen.interfaces.find((name) => name !== "lo");
  if (other !== undefined) return `the network interface ${other} is there`;
  return null;
}

/** Of our own probe, in our own root: trusted. */
function readSeen(bytes: Uint8Array): Seen {
  const seen: Seen = JSON.parse(Buffer.from(bytes).toString());
  return seen;
}

const spec: OneOff = {
  pool: { runtime: "node26", memoryMb: 256, tmpBytes: 1024 * 1024, egress: "none" },
  argv: ["/usr/bin/node", "-e", probe],
  env: {},
  mounts: [],
  timeoutMs: 20_000,
  outputBytes: 16 * 1024,
};

/** null: this engine isolates here. Otherwise why it does not. */
export async function proveIsolation(
  driver: OciDriver,
  engine: { readonly name: Engine["name"] | "runsc"; readonly path: string },
  options: { cacheFile: string; cgroups: string; seccomp: Seccomp },
): Promise<string | null> {
  const { size, mtimeMs } = await stat(engine.path);
  const { cgroups, seccomp } = options;
  const under = createHash("sha256")
    .update(JSON.stringify([proofVersion, probe, engine, size, mtimeMs, release(), { cgroups, seccomp }]))
    .digest("hex");
  const known = await readFile(options.cacheFile, "utf8").catch(() => "");
  if (known.trim() === under) return null;
  let problem: string | null;
  try {
    const gvisor = engine.name === "runsc";
    const result = await driver.run(gvisor ? { ...spec, pool: { ...spec.pool, isolation: "gvisor" } } : spec);
    problem = result.ok
      ? gvisor
        ? refuseGvisor(readSeen(result.stdout), release())
        : refuse(readSeen(result.stdout))
      : `${result.failure.message} ${result.stderr}`.trim().slice(0, 1_024);
  } catch (error) {
    if (!(error instanceof EbbError)) throw error;
    problem = error.message;
  }
  if (problem !== null) return problem;
  await writeFile(`${options.cacheFile}.tmp`, `${under}\n`, { mode: 0o600 });
  await rename(`${options.cacheFile}.tmp`, options.cacheFile);
  return null;
}

/** The path of runsc, which isolates here; otherwise throws why it does not, and what to do. */
export async function proveGvisor(driver: OciDriver, dataDir: string, seccomp: Seccomp): Promise<string> {
  const path = await findRunsc();
  if (path === null) throw new EbbError("start_failed", noRunsc);
  const cacheFile = join(dataDir, "isolation-gvisor.json");
  const problem = await proveIsolation(
    driver,
    { name: "runsc", path },
    { cacheFile, cgroups: describeCgroups(), seccomp },
  );
  if (problem === null) return path;
  throw new EbbError("start_failed", `isolation: gvisor cannot be given here, write isolation: container: ${problem}`);
}
