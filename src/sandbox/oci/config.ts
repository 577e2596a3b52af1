// The OCI runtime configuration of one sandbox (runtime-spec 1.0, config.json): pure, and the whole of its isolation.

import { dirname } from "node:path";
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

/** Where a program that is run to its end leaves what it has made: a pipe. */
export const resultPath = "/ebb/result";

export interface BindMount {
  readonly source: string;
  readonly target: string;
  /** A pipe that is written into: Linux allows that on a read-only mount, gVisor does not. */
  readonly pipe?: true;
}

/** Who the program is, inside. */
export interface ProcessUser {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
}

/** What differs between the roots that ebb assembles and those of images. */
export type RootSpec =
  /** What is mounted at `codeTarget`, before or after the start, is /var/task. */
  | { readonly kind: "runtime"; readonly path: string; readonly codeTarget: string; readonly tmpBytes: number }
  /** Its own sandbox's alone, and bounded. */
  | { readonly kind: "image"; readonly path: string; readonly user: ProcessUser };

export interface SandboxSpec {
  readonly root: RootSpec;
  readonly args: readonly string[];
  /** Visible in /proc/1/environ: nothing secret. */
  readonly env: Readonly<Record<string, string>>;
  readonly hostId: number;
  /** null: a network namespace of its own, with nothing in it. */
  readonly networkNamespace: string | null;
  readonly cgroupsPath: string;
  readonly binds: readonly BindMount[];
  /** A program in base64 is for crun, which makes nothing of a profile then (crun(1), run.oci.seccomp_bpf_data); the profile is for any engine. */
  readonly seccomp: SeccompProfile | string;
  /** The root's mount is read-only by itself, and the engine cannot say so again (runsc forgets nosuid and nodev then, which are locked). */
  readonly rootIsReadOnly?: boolean;
  /** Not the code's folder is bound but the one above it, in which there is nothing else. */
  readonly codeBelow?: boolean;
}

/** The same everywhere: a name that told hosts apart would tell tenants about hosts. */
export const hostname = "sandbox";

/** A function's program is never root, and has nothing to ask for. */
const runtimeUser: ProcessUser = { uid: userId, gid: userId, groups: [] };

/**
 * What root inside may do to the files and processes inside: to give files to others, become another user and open low ports
 * is what images' own entrypoints do. No other user has any, and nothing gives them back (no new privileges, nosuid).
 */
const rootCapabilities = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "KILL", "NET_BIND_SERVICE"].map(
  (name) => `CAP_${name}`,
);

function limit(type: string, value: number): unknown {
  return { type, soft: value, hard: value };
}

export function ociConfig(spec: SandboxSpec): unknown {
  const map = [{ containerID: 0, hostID: spec.hostId, size: idRangeSize }];
  const { root } = spec;
  const user = root.kind === "image" ? root.user : runtimeUser;
  const held = user.uid === 0 ? rootCapabilities : [];
  return {
    ociVersion: "1.0.2",
    hostname,
    root: { path: root.path, readonly: root.kind === "runtime" && spec.rootIsReadOnly !== true },
    process: {
      terminal: false,
      user: { uid: user.uid, gid: user.gid, additionalGids: user.groups },
      args: spec.args,
      env: Object.entries(spec.env).map(([name, value]) => `${name}=${value}`),
      cwd: "/",
      capabilities: { bounding: held, effective: held, inheritable: [], permitted: held, ambient: [] },
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
      ...(root.kind === "runtime" ? runtimeMounts(root, spec.codeBelow === true) : []),
      ...spec.binds.map(({ source, target, pipe }) => ({
        destination: target,
        type: "bind",
        source,
        options: ["bind", "private", pipe ? "rw" : "ro", "nosuid", "nodev"],
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
      ...(typeof spec.seccomp === "string" ? {} : { seccomp: spec.seccomp }),
    },
    annotations: typeof spec.seccomp === "string" ? { "run.oci.seccomp_bpf_data": spec.seccomp } : {},
  };
}

function runtimeMounts(
  { codeTarget, tmpBytes }: Extract<RootSpec, { kind: "runtime" }>,
  codeBelow: boolean,
): unknown[] {
  return [
    {
      destination: "/tmp",
      type: "tmpfs",
      source: "tmpfs",
      options: ["nosuid", "nodev", "mode=1777", `size=${tmpBytes}`],
    },
    // A slave: code that is mounted on the other side later covers this folder inside, and nothing inside reaches out.
    // It is the mount point itself, because crun 1.8 leaves out what is mounted below a bind's source.
    {
      destination: codeBelow ? "/var" : "/var/task",
      type: "bind",
      source: codeBelow ? dirname(codeTarget) : codeTarget,
      options: ["rbind", "rslave", "ro", "nosuid", "nodev"],
    },
  ];
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
