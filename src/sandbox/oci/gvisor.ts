// The second isolation class: gVisor's runsc, a kernel of its own in each sandbox. How it is found and how it is started.

import { access, constants } from "node:fs/promises";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { EbbError } from "#model/errors.ts";
import type { PoolKey } from "../door.ts";
import type { Cgroups } from "./cgroups.ts";

/** runsc passes no descriptors on: a shim listens here, within its own network namespace, and takes who shows the credential first. */
export const shimPort = 65_500;
/** What a shim has in its environment where it listens so, and takes out of it before it loads code. */
export const shimEnv: Readonly<Record<string, string>> = { EBB_LISTEN: String(shimPort) };
/** Where such a shim writes its frames: a pipe. */
export const framesPath = "/ebb/frames";

const folders = ["/usr/bin", "/usr/local/bin"];

/** null: there is none. Not by PATH, which may be anybody's. */
export async function findRunsc(): Promise<string | null> {
  for (const folder of folders) {
    const path = join(folder, "runsc");
    const there = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (there) return path;
  }
  return null;
}

export const noRunsc =
  "isolation: gvisor needs runsc on ebb's machine (apt-get install runsc); or write isolation: container";

export function isGvisor(pool: PoolKey): boolean {
  return pool.isolation === "gvisor";
}

/**
 * Into the sandbox's cgroups first, then namespaces for all that runsc starts: its ptrace platform takes the process ids that are there,
 * and its kernel always runs as the machine's nobody, so that two of them must not see each other. `$0` is a folder to mount on.
 *
 * runsc asks whether /proc/sys/net/core/rmem_default exists to tell the machine's network namespace, from which it would take no
 * link. Since Linux 6.8 every namespace has that file: runsc is shown none. A second, whole /proc beside it is what
 * lets the user namespaces below mount theirs.
 */
const enter = `echo 500 >/proc/self/oom_score_adj || exit 125
while [ "$1" != -- ]; do echo 0 >"$1" || exit 125; shift; done; shift
exec /usr/bin/unshare --mount --propagation slave --cgroup --pid --fork --kill-child -- /bin/sh -c \
'mount -t proc proc "$0" && mount -t proc proc /proc && mount -t tmpfs -o ro tmpfs /proc/sys/net || exit 125; exec "$@"' "$0" "$@"`;

export interface GvisorRun {
  readonly path: string;
  readonly id: string;
  readonly cgroup: string;
  readonly cgroups: Cgroups;
  readonly stateDir: string;
  readonly bundle: string;
  readonly pidFile: string;
  readonly logFile: string;
  readonly linked: boolean;
}

export function gvisorArgv(run: GvisorRun): string[] {
  return [
    "/bin/sh",
    "-c",
    enter,
    procFolder(run.bundle),
    ...run.cgroups.joined(run.cgroup).files,
    "--",
    run.path,
    "--root",
    run.stateDir,
    "--log",
    run.logFile,
    "--log-format",
    "json",
    // Wherever the kernel lets processes be traced; kvm needs a machine's own virtualisation.
    "--platform=ptrace",
    // They stand in the cgroup that it is in.
    "--ignore-cgroups",
    run.linked ? "--network=sandbox" : "--network=none",
    "--oci-seccomp",
    // Those that ebb mounts, and no others are inside.
    "--host-fifo=open",
    "run",
    "--bundle",
    run.bundle,
    "--pid-file",
    run.pidFile,
    run.id,
  ];
}

export const gvisorPath = "/usr/sbin:/usr/bin:/sbin:/bin";

export function procFolder(bundle: string): string {
  return join(bundle, "proc");
}

/** What every connection to a shim begins with. */
export function showCredential<T extends Duplex>(connection: T, credential: string): T {
  connection.write(`${credential}\n`, "latin1");
  return connection;
}

/** Whether this machine has it, proven at the first question, and once for a version of runsc. */
export class Gvisor {
  readonly #prove: () => Promise<string>;
  #proven: Promise<string> | null = null;

  constructor(prove: () => Promise<string>) {
    this.#prove = prove;
  }

  /** Of runsc; throws why nothing of the class can be started here. That is not remembered: it may be installed meanwhile. */
  path(): Promise<string> {
    if (this.#proven !== null) return this.#proven;
    const proven = this.#prove();
    this.#proven = proven;
    proven.catch(() => (this.#proven = null));
    return proven;
  }

  /** The same as words; null: it can. */
  async problem(): Promise<string | null> {
    try {
      await this.path();
      return null;
    } catch (error) {
      if (error instanceof EbbError) return error.message;
      throw error;
    }
  }
}
