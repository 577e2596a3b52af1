// For tests: a machine of its own, as a network namespace with a way to another one that plays the internet; the real
// machine's firewall, routes and switches are never touched.

import { execFile, spawn, spawnSync, type ChildProcess } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Allocator, ExecResult, NetworkChange, Undo } from "#spawner/door.ts";
import { changeNetworks, isUntouched, unpin } from "#spawner/network-namespaces.ts";
import { createSyscalls } from "#spawner/syscalls.ts";
import type { Effects } from "../machine.ts";

const marker = "EBB_TEST_MACHINE";
const system = createSyscalls();
/** The world beyond the machine: public, private and metadata addresses, all of which answer if they are reached. */
export const world = {
  public: "20.0.0.10",
  private: "10.0.0.5",
  metadata: "169.254.169.254",
  router: "20.0.1.1",
  machine: "20.0.1.2",
} as const;

/** Why these tests cannot run here; null: they can. */
export function cannotRun(): string | null {
  if (process.platform !== "linux" || process.getuid?.() !== 0) return "needs root on Linux";
  for (const program of ["ip", "nft", "unshare", "nsenter"])
    if (spawnSync(program, ["--version"]).error) return `needs ${program}`;
  return null;
}

/** True inside the machine. Outside it makes one, runs the same test file within it, and ends with its exit code. */
export function insideMachine(): boolean {
  if (process.env[marker]) return true;
  const folder = mkdtempSync(join(tmpdir(), "ebb-machine-"));
  const pins = { machine: join(folder, "machine"), world: join(folder, "world") };
  try {
    for (const pin of Object.values(pins)) {
      writeFileSync(pin, "");
      sh('unshare --net="$1" true', pin);
    }
    sh(
      `nsenter --net="$1" sh -ec '
        ip link set lo up
        ip link add wan0 type veth peer name up0 netns "$1"
        ip link set wan0 addrgenmode none
        ip addr add ${world.machine}/24 dev wan0
        ip link set wan0 up
        echo 0 > /proc/sys/net/ipv4/ip_forward
        ip route add default via ${world.router}
      ' sh "$2"
      nsenter --net="$2" sh -ec '
        ip link set lo up
        ip addr add ${world.router}/24 dev up0
        ip link set up0 up
        for a in ${world.public} ${world.private} ${world.metadata} 100.100.100.200 172.16.0.9 192.168.1.1 20.0.0.11; do
          ip addr add $a/32 dev lo
        done
        ip route add 198.18.0.0/15 via ${world.machine}
      '`,
      pins.machine,
      pins.world,
    );
    // With mounts of its own as well: other files' networks come and go beside it.
    const inside = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
    const argv = [`--net=${pins.machine}`, "unshare", "--mount", ...inside];
    const env = { ...process.env, [marker]: folder };
    const child = spawnSync("nsenter", argv, { stdio: "inherit", env });
    process.exitCode = child.status ?? 1;
  } finally {
    sh('umount -l "$1" "$2"; true', pins.machine, pins.world);
    rmSync(folder, { recursive: true, force: true });
  }
  return false;
}

function sh(script: string, ...args: readonly string[]): string {
  const run = spawnSync("/bin/sh", ["-ec", script, "sh", ...args], { encoding: "utf8" });
  if (run.status !== 0) throw new Error(`${script}: ${run.stderr}`);
  return run.stdout;
}

export const inWorld = (): readonly string[] => [`--net=${join(process.env[marker]!, "world")}`];

/** Starts the servers of the world; resolves when they listen. */
export async function startWorld(): Promise<ChildProcess> {
  const script = fileURLToPath(new URL("world.mjs", import.meta.url));
  const child = spawn("nsenter", [...inWorld(), process.execPath, script, world.public, world.private], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  await new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`the world ended with ${code}`)));
    child.stdout.once("data", () => resolve());
  });
  return child;
}

export async function stopChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGKILL");
  await new Promise((resolve) => child.once("exit", resolve));
}

export interface Step {
  readonly do: "tcp" | "named" | "stand" | "open" | "hold" | "burst" | "udp" | "flows" | "dns" | "receive" | "ipv6";
  readonly host?: string;
  readonly port?: number;
  /** Source address; it must be on an interface of the namespace. */
  readonly from?: string;
  readonly localPort?: number;
  readonly name?: string;
  readonly type?: string;
  readonly server?: string;
  readonly ms?: number;
  readonly hex?: string;
  readonly count?: number;
}

export interface StepResult {
  readonly result: string;
  readonly ms: number;
}

const probeScript = fileURLToPath(new URL("probe.mjs", import.meta.url));

/** Runs the steps in a network namespace. */
export async function probe(namespacePath: string, steps: readonly Step[]): Promise<readonly StepResult[]> {
  const run = await execute("nsenter", [
    `--net=${namespacePath}`,
    process.execPath,
    probeScript,
    JSON.stringify(steps),
  ]);
  if (run.code !== 0) throw new Error(run.stderr);
  const results: StepResult[] = JSON.parse(run.stdout);
  return results;
}

/** As probe, where something must happen once it listens. */
export function probing(namespacePath: string, step: Step): { listening: Promise<void>; result: Promise<string> } {
  const argv = [`--net=${namespacePath}`, process.execPath, probeScript, JSON.stringify([step])];
  const child = spawn("nsenter", argv, { stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  child.stdout.on("data", (chunk: Buffer) => (said += chunk.toString()));
  return {
    listening: new Promise((resolve) => child.stderr.once("data", () => resolve())),
    result: new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("close", () => {
        const results: StepResult[] = JSON.parse(said);
        resolve(results[0]!.result);
      });
    }),
  };
}

export function execute(file: string, args: readonly string[], stdin = ""): Promise<ExecResult> {
  return new Promise((resolve, reject) => {
    const child = execFile(file, [...args], (error, stdout, stderr) => {
      if (error && typeof error.code !== "number") reject(error);
      else resolve({ code: error ? Number(error.code) : 0, stdout, stderr });
    });
    child.stdin!.on("error", () => {});
    child.stdin!.end(stdin);
  });
}

/** The spawner's part that the network uses, by plain processes; `crash` does what a ledger is for. */
export class PlainSpawner implements Effects {
  readonly owed: Undo[] = [];
  /** Set: the next commands whose program text contains it fail. */
  failing: string | null = null;
  #turn: Promise<void> = Promise.resolve();

  async exec(argv: readonly string[], options: { readonly stdin?: string } = {}): Promise<ExecResult> {
    if (this.failing !== null && argv.join(" ").includes(this.failing))
      return { code: 1, stdout: "", stderr: "made to fail" };
    return execute(argv[0]!, argv.slice(1), options.stdin);
  }

  /** One after the other, each line a transaction, as of `nft -i`. */
  nft(script: string): Promise<void> {
    const result = this.#turn.then(() => this.#nft(script));
    this.#turn = result.catch(() => {});
    return result;
  }

  async #nft(script: string): Promise<void> {
    for (const line of script.split("\n")) {
      const run = await execute("nft", ["-f", "-"], line);
      if (run.code !== 0) throw new Error(run.stderr);
    }
  }

  async network(changes: readonly NetworkChange[]): Promise<void> {
    if (this.failing !== null && JSON.stringify(changes).includes(this.failing)) throw new Error("made to fail");
    await changeNetworks(changes, system);
  }

  async untouched(path: string): Promise<boolean> {
    return isUntouched(path, system);
  }

  async unpin(paths: readonly string[]): Promise<void> {
    unpin(paths, system);
  }

  async owe(undo: readonly Undo[]): Promise<void> {
    this.owed.push(...undo);
  }

  /** What whoever comes later does with the ledger. */
  async undo(): Promise<void> {
    for (const step of this.owed) {
      if (step.kind !== "command") throw new Error(`not expected: ${step.kind}`);
      await execute(step.argv[0]!, step.argv.slice(1));
    }
  }
}

/** Numbers of one process. */
export class PlainAllocator implements Allocator {
  readonly runDir: string;
  static readonly taken = new Set<string>();

  constructor(runDir: string) {
    this.runDir = runDir;
  }

  take(kind: string, count: number): number {
    for (let number = 0; number < count; number++) {
      if (PlainAllocator.taken.has(`${kind} ${number}`)) continue;
      PlainAllocator.taken.add(`${kind} ${number}`);
      return number;
    }
    throw new Error("none is free");
  }

  free(kind: string, number: number): void {
    PlainAllocator.taken.delete(`${kind} ${number}`);
  }
}

/** Everything that a network may leave behind in the machine, as text to be compared. */
export async function machineState(): Promise<string> {
  const parts = await Promise.all([
    execute("ip", ["-d", "link"]),
    execute("ip", ["address"]),
    execute("ip", ["route", "show", "table", "all"]),
    execute("ip", ["neighbour", "show", "nud", "permanent"]),
    execute("nft", ["list", "ruleset"]),
    execute("sysctl", ["-a", "-r", "forwarding|rp_filter|disable_ipv6|redirects"]),
  ]);
  const mounts = readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .filter((line) => line.includes("/ebb-network-"));
  return [...parts.map((part) => part.stdout), ...mounts].join("\n").replaceAll(/(valid|preferred)_lft \S+/g, "");
}
