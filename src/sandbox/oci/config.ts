// The OCI runtime configuration of one sandbox (runtime-spec 1.0, config.json): pure, and the whole of its isolation.

import { sandboxLimits } from "#model/limits.ts";
import type { SeccompProfile } from "./seccomp.ts";

/** Ids of the host that one sandbox gets: all of a 16-bit id space, its own. */
export const idRangeSize = 65_536;
/**
 * Above what distributions hand out (subuid, systemd's dynamic users and nspawn end below 0x70000000) and below 2^31, where
 * programs begin to read ids as negative.
 */
export const firstHostId = 0x7000_0000;
export const idRanges = 4_096;
/** Who the program is, inside. */
export const userId = 1000;

export interface BindMount {
  readonly source: string;
  readonly target: string;
}

export interface SandboxSpec {
  readonly rootPath: string;
  /** What is mounted there, before or after the start, is /var/task. */
  readonly codeTarget: string;
  readonly args: readonly string[];
  /** Visible in /proc/1/environ: nothing secret. */
  readonly env: Readonly<Record<string, string>>;
  readonly hostId: number;
  /** null: a network namespace of its own, with nothing in it. */
  readonly networkNamespace: string | null;
  readonly cgroupsPath: string;
  readonly tmpBytes: number;
  readonly binds: readonly BindMount[];
  readonly seccomp: SeccompProfile;
}

/** The same everywhere: a name that told hosts apart would tell tenants about hosts. */
export const hostname = "sandbox";

function limit(type: string, value: number): unknown {
  return { type, soft: value, hard: value };
}

export function ociConfig(spec: SandboxSpec): unknown {
  const map = [{ containerID: 0, hostID: spec.hostId, size: idRangeSize }];
  return {
    ociVersion: "1.0.2",
    hostname,
    root: { path: spec.rootPath, readonly: true },
    process: {
      terminal: false,
      user: { uid: userId, gid: userId },
      args: spec.args,
      env: Object.entries(spec.env).map(([name, value]) => `${name}=${value}`),
      cwd: "/",
      capabilities: { bounding: [], effective: [], inheritable: [], permitted: [], ambient: [] },
      noNewPrivileges: true,
      oomScoreAdj: 500,
      rlimits: [
        limit("RLIMIT_NOFILE", sandboxLimits.openFiles),
        limit("RLIMIT_FSIZE", sandboxLimits.fileBytes),
        limit("RLIMIT_NPROC", sandboxLimits.pids),
        limit("RLIMIT_CORE", 0),
        limit("RLIMIT_MEMLOCK", 64 * 1024),
        limit("RLIMIT_MSGQUEUE", 0),
      ],
    },
    mounts: [
      { destination: "/proc", type: "proc", source: "proc", options: ["nosuid", "noexec", "nodev"] },
      {
        destination: "/dev",
        type: "tmpfs",
        source: "tmpfs",
        options: ["nosuid", "noexec", "strictatime", "mode=755", "size=64k"],
      },
      {
        destination: "/dev/shm",
        type: "tmpfs",
        source: "shm",
        options: ["nosuid", "noexec", "nodev", "mode=1777", `size=${sandboxLimits.sharedMemoryBytes}`],
      },
      {
        destination: "/tmp",
        type: "tmpfs",
        source: "tmpfs",
        options: ["nosuid", "nodev", "mode=1777", `size=${spec.tmpBytes}`],
      },
      // A slave: code that is mounted on the other side later covers this folder inside, and nothing inside reaches out.
      // It is the mount point itself, because crun 1.8 leaves out what is mounted below a bind's source.
      {
        destination: "/var/task",
        type: "bind",
        source: spec.codeTarget,
        options: ["rbind", "rslave", "ro", "nosuid", "nodev"],
      },
      ...spec.binds.map(({ source, target }) => ({
        destination: target,
        type: "bind",
        source,
        options: ["bind", "private", "ro", "nosuid", "nodev"],
      })),
    ],
    linux: {
      uidMappings: map,
      gidMappings: map,
      rootfsPropagation: "rslave",
      namespaces: [
        { type: "user" },
        { type: "mount" },
        { type: "pid" },
        { type: "ipc" },
        { type: "uts" },
        { type: "cgroup" },
        spec.networkNamespace === null ? { type: "network" } : { type: "network", path: spec.networkNamespace },
      ],
      // The limits stand in the cgroup above, which is ebb's own; the engine makes only its leaf.
      cgroupsPath: spec.cgroupsPath,
      resources: { devices: [{ allow: false, access: "rwm" }] },
      devices: [],
      maskedPaths,
      readonlyPaths,
      seccomp: spec.seccomp,
    },
  };
}

const maskedPaths = [
  "/proc/acpi",
  "/proc/asound",
  "/proc/interrupts",
  "/proc/kallsyms",
  "/proc/kcore",
  "/proc/keys",
  "/proc/key-users",
  "/proc/latency_stats",
  "/proc/modules",
  "/proc/sched_debug",
  "/proc/scsi",
  "/proc/slabinfo",
  "/proc/timer_list",
  "/proc/timer_stats",
  "/proc/vmallocinfo",
  "/proc/zoneinfo",
];

const readonlyPaths = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
