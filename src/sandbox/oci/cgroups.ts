// Where cgroups are and what is written into them: version 1 (also in its hybrid form) and version 2.
// Pure but for `findCgroups`: it says what to make, write and read; the spawner does it.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { EbbError } from "#model/errors.ts";

/** One write to a file that exists; a thing that the spawner makes. */
export interface FileValue {
  readonly kind: "write";
  readonly path: string;
  readonly value: string;
}

export interface SandboxLimits {
  readonly memoryBytes: number;
  readonly pids: number;
  readonly cpu: CpuLimits;
}

export interface CpuLimits {
  readonly cpu: number;
  readonly cpuStrict: boolean;
}

/** How the memory of an ended sandbox ended: from the counters that were read before its cgroup was removed. */
export interface MemoryReport {
  readonly peakBytes: number | null;
  /** The kernel's out-of-memory killer took a process of it. */
  readonly killed: boolean;
}

/** The cgroups of one daemon: a parent for all of its sandboxes, and one with a child of the engine's for each. */
export interface Cgroups {
  readonly version: 1 | 2;
  /** What makes the parent; `bytes`: for all sandboxes together. */
  parent(bytes: number): { readonly paths: readonly string[]; readonly limits: readonly FileValue[] };
  /** What the engine is told: the cgroup below ours. `name` here and below: of one sandbox's. */
  enginePath(name: string): string;
  folders(name: string): readonly string[];
  /** Where no engine makes a leaf below ours: what there must be besides `folders`, and the files that take a process in. */
  joined(name: string): { readonly folders: readonly string[]; readonly files: readonly string[] };
  limits(name: string, limits: SandboxLimits): readonly FileValue[];
  cpuLimits(name: string, limits: CpuLimits): readonly FileValue[];
  /** Every folder that may exist afterwards: the engine makes its own under each controller. */
  leftovers(name: string): readonly string[];
  /** Those of them in which nothing is limited, counted or frozen: the next of the same name may find them. */
  blank(name: string): readonly string[];
  reports(name: string): readonly string[];
  memoryReport(name: string, files: Readonly<Record<string, string>>, limitBytes: number): MemoryReport;
  cpuFile(name: string): string;
  cpuNs(text: string): number | null;
  peakFile(name: string): string;
  /** How often a process or thread was refused to it. */
  pidsFile(name: string): string;
  readonly pidsRefused: (text: string | undefined) => boolean;
  /** Of what is in a sandbox's memory by kind; and of that what it holds: all but files that the kernel gives back first. */
  memoryFile(name: string): string;
  heldBytes(text: string): number | null;
  freeze(name: string, frozen: boolean): FileValue;
}

const periodUs = 100_000;
/** Of a sandbox that has no revision yet: what it boots with is what nobody else wants. */
export const leftOverCpu: CpuLimits = { cpu: 0, cpuStrict: false };
export const oneCpu: CpuLimits = { cpu: 1, cpuStrict: false };

function quotaUs({ cpu, cpuStrict }: CpuLimits): number {
  // The kernel takes no quota below 1 ms.
  return Math.max(1_000, Math.round((cpuStrict ? cpu : Math.max(1, cpu)) * periodUs));
}

/** Looks where the controllers are mounted; throws with the way on where memory, CPU or pids cannot be limited. */
export function findCgroups(parentName: string, mountinfo = readFileSync("/proc/self/mountinfo", "utf8")): Cgroups {
  const v1 = new Map<string, string>();
  let v2: string | null = null;
  for (const line of mountinfo.split("\n")) {
    const [before, after] = line.split(" - ");
    const point = before?.split(" ")[4];
    const [type, , options] = after?.split(" ") ?? [];
    if (point === undefined) continue;
    if (type === "cgroup2") v2 ??= point;
    if (type !== "cgroup") continue;
    for (const option of options?.split(",") ?? []) {
      if (option === "rw" || option === "ro" || option === "xattr" || option.includes("release_agent")) continue;
      v1.set(option, point);
    }
  }
  if (["memory", "cpu", "cpuacct", "pids", "freezer"].every((controller) => v1.has(controller)))
    return new CgroupsV1(v1, v2, parentName);
  if (v2 !== null) return new CgroupsV2(v2, parentName);
  throw new EbbError(
    "internal",
    "This machine has no cgroups that limit memory, CPU and pids; ebb cannot isolate here.",
  );
}

/** What engines see of the cgroups: another set of mounts (a hybrid machine's) is another machine to them. */
export function describeCgroups(): string {
  return readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .filter((line) => / - cgroup2? /.test(line))
    .map((line) => line.slice(line.indexOf(" - ")))
    .toSorted()
    .join("\n");
}

class CgroupsV1 implements Cgroups {
  readonly version = 1;
  readonly pidsRefused = pidsRefused;
  readonly #parent: string;
  readonly #at: ReadonlyMap<string, string>;
  /** The v2 mount of a hybrid machine: no limit stands there, but runc makes its folders in it too. */
  readonly #unified: string | null;
  readonly #countsSwap: boolean;

  constructor(at: ReadonlyMap<string, string>, unified: string | null, parent: string) {
    this.#countsSwap = existsSync(join(at.get("memory")!, "memory.memsw.limit_in_bytes"));
    this.#at = at;
    this.#unified = unified;
    this.#parent = parent;
  }

  #path(controller: string, ...rest: string[]): string {
    return join(this.#at.get(controller)!, this.#parent, ...rest);
  }

  #everywhere(...name: string[]): string[] {
    const mounts = new Set([...this.#at.values(), ...(this.#unified === null ? [] : [this.#unified])]);
    return [...mounts].map((mount) => join(mount, this.#parent, ...name));
  }

  #own(name: string[]): string[] {
    return [...new Set(["memory", "cpu", "cpuacct", "pids"].map((controller) => this.#path(controller, ...name)))];
  }

  parent(bytes: number): { paths: string[]; limits: FileValue[] } {
    return {
      paths: this.#everywhere(),
      limits: [
        // Half of what one process of ebb has, all sandboxes together: the platform answers while they are busy.
        { kind: "write", path: this.#path("cpu", "cpu.shares"), value: "512" },
        { kind: "write", path: this.#path("memory", "memory.limit_in_bytes"), value: String(bytes) },
        // A cpuset begins empty, and nothing can run in an empty one.
        ...["cpuset.cpus", "cpuset.mems"].flatMap((file) => this.#inherited(file)),
      ],
    };
  }

  #inherited(file: string): FileValue[] {
    const root = this.#at.get("cpuset");
    return root === undefined
      ? []
      : [{ kind: "write", path: this.#path("cpuset", file), value: readFileSync(join(root, file), "latin1").trim() }];
  }

  enginePath(name: string): string {
    return `/${this.#parent}/${name}/c`;
  }

  folders(name: string): string[] {
    return this.#own([name]);
  }

  joined(name: string): { folders: string[]; files: string[] } {
    const freezer = this.#path("freezer", name);
    const folders = this.#own([name]);
    const all = folders.includes(freezer) ? folders : [...folders, freezer];
    return { folders: [freezer], files: all.map((folder) => join(folder, "cgroup.procs")) };
  }

  limits(name: string, { memoryBytes, pids, cpu }: SandboxLimits): FileValue[] {
    const memory = (file: string): string => this.#path("memory", name, file);
    return [
      { kind: "write", path: memory("memory.limit_in_bytes"), value: String(memoryBytes) },
      // Without swap accounting there is no such file; swappiness 0 keeps its pages in memory then.
      ...(this.#countsSwap
        ? [{ kind: "write" as const, path: memory("memory.memsw.limit_in_bytes"), value: String(memoryBytes) }]
        : [{ kind: "write" as const, path: memory("memory.swappiness"), value: "0" }]),
      { kind: "write", path: this.#path("pids", name, "pids.max"), value: String(pids) },
      ...this.cpuLimits(name, cpu),
    ];
  }

  cpuLimits(name: string, limits: CpuLimits): FileValue[] {
    const cpu = (file: string): string => this.#path("cpu", name, file);
    return [
      { kind: "write", path: cpu("cpu.shares"), value: String(Math.max(2, Math.round(limits.cpu * 1024))) },
      { kind: "write", path: cpu("cpu.cfs_quota_us"), value: String(quotaUs(limits)) },
    ];
  }

  leftovers(name: string): string[] {
    return this.#everywhere(name);
  }

  blank(name: string): string[] {
    const ours = new Set([...this.#own([name]), this.#path("freezer", name)]);
    return this.#everywhere(name).filter((path) => !ours.has(path));
  }

  reports(name: string): string[] {
    return [this.peakFile(name)];
  }

  memoryReport(name: string, files: Readonly<Record<string, string>>, limitBytes: number): MemoryReport {
    const peakBytes = numberOf(files[this.peakFile(name)]);
    // Version 1 counts its kills in the cgroup that the engine has removed by now, and not every kernel counts failures above
    // it. What is left: the limit was reached. With SIGKILL, which nobody inside can send to the first process, that is enough.
    return { peakBytes, killed: peakBytes !== null && peakBytes >= limitBytes - slackBytes };
  }

  cpuFile(name: string): string {
    return this.#path("cpuacct", name, "cpuacct.usage");
  }

  cpuNs(text: string): number | null {
    return numberOf(text);
  }

  peakFile(name: string): string {
    return this.#path("memory", name, "memory.max_usage_in_bytes");
  }

  pidsFile(name: string): string {
    return this.#path("pids", name, "pids.events");
  }

  memoryFile(name: string): string {
    return this.#path("memory", name, "memory.stat");
  }

  heldBytes(text: string): number | null {
    // Its files' pages, those in memory alone (tmpfs) too, are its cache.
    return held([fieldOf(text, "total_rss"), fieldOf(text, "total_cache")], fieldOf(text, "total_inactive_file"));
  }

  freeze(name: string, frozen: boolean): FileValue {
    return { kind: "write", path: this.#path("freezer", name, "freezer.state"), value: frozen ? "FROZEN" : "THAWED" };
  }
}

/** The kernel charges in batches: a killed process's cgroup may be this far below its limit. */
const slackBytes = 1024 * 1024;

class CgroupsV2 implements Cgroups {
  readonly version = 2;
  readonly pidsRefused = pidsRefused;
  readonly #root: string;
  readonly #parent: string;

  constructor(root: string, parent: string) {
    this.#root = root;
    this.#parent = parent;
  }

  #path(...rest: string[]): string {
    return join(this.#root, this.#parent, ...rest);
  }

  parent(bytes: number): { paths: string[]; limits: FileValue[] } {
    const controllers = "+cpu +memory +pids";
    return {
      paths: [this.#path()],
      limits: [
        { kind: "write", path: join(this.#root, "cgroup.subtree_control"), value: controllers },
        { kind: "write", path: this.#path("cgroup.subtree_control"), value: controllers },
        { kind: "write", path: this.#path("cpu.weight"), value: "50" },
        { kind: "write", path: this.#path("memory.max"), value: String(bytes) },
      ],
    };
  }

  enginePath(name: string): string {
    return `/${this.#parent}/${name}/c`;
  }

  folders(name: string): string[] {
    return [this.#path(name)];
  }

  joined(name: string): { folders: string[]; files: string[] } {
    return { folders: [], files: [this.#path(name, "cgroup.procs")] };
  }

  limits(name: string, { memoryBytes, pids, cpu }: SandboxLimits): FileValue[] {
    return [
      { kind: "write", path: this.#path(name, "memory.max"), value: String(memoryBytes) },
      ...(existsSync(this.#path("memory.swap.max"))
        ? [{ kind: "write" as const, path: this.#path(name, "memory.swap.max"), value: "0" }]
        : []),
      // An instance of which the killer took a part is no instance.
      { kind: "write", path: this.#path(name, "memory.oom.group"), value: "1" },
      { kind: "write", path: this.#path(name, "pids.max"), value: String(pids) },
      ...this.cpuLimits(name, cpu),
    ];
  }

  cpuLimits(name: string, limits: CpuLimits): FileValue[] {
    const weight = Math.min(10_000, Math.max(1, Math.round(limits.cpu * 100)));
    return [
      { kind: "write", path: this.#path(name, "cpu.weight"), value: String(weight) },
      { kind: "write", path: this.#path(name, "cpu.max"), value: `${quotaUs(limits)} ${periodUs}` },
    ];
  }

  leftovers(name: string): string[] {
    return [this.#path(name)];
  }

  blank(): string[] {
    return [];
  }

  reports(name: string): string[] {
    return [this.#path(name, "memory.events"), this.peakFile(name)];
  }

  memoryReport(name: string, files: Readonly<Record<string, string>>, limitBytes: number): MemoryReport {
    const killed = (fieldOf(files[this.#path(name, "memory.events")], "oom_kill") ?? 0) > 0;
    // memory.peak is of Linux 5.19: before that, what was killed for its limit had reached it.
    return { peakBytes: numberOf(files[this.peakFile(name)]) ?? (killed ? limitBytes : null), killed };
  }

  cpuFile(name: string): string {
    return this.#path(name, "cpu.stat");
  }

  cpuNs(text: string): number | null {
    const us = fieldOf(text, "usage_usec");
    return us === null ? null : us * 1000;
  }

  peakFile(name: string): string {
    return this.#path(name, "memory.peak");
  }

  pidsFile(name: string): string {
    return this.#path(name, "pids.events");
  }

  memoryFile(name: string): string {
    return this.#path(name, "memory.stat");
  }

  heldBytes(text: string): number | null {
    // All of the kernel's own is told since Linux 5.18.
    const kernel = fieldOf(text, "kernel") ?? fieldOf(text, "slab") ?? 0;
    return held([fieldOf(text, "anon"), fieldOf(text, "file"), kernel], fieldOf(text, "inactive_file"));
  }

  freeze(name: string, frozen: boolean): FileValue {
    return { kind: "write", path: this.#path(name, "cgroup.freeze"), value: frozen ? "1" : "0" };
  }
}

function held(parts: ReadonlyArray<number | null>, inactive: number | null): number | null {
  let sum = 0;
  for (const part of parts) {
    if (part === null) return null;
    sum += part;
  }
  return Math.max(0, sum - (inactive ?? 0));
}

function pidsRefused(text: string | undefined): boolean {
  return (fieldOf(text, "max") ?? 0) > 0;
}

function numberOf(text: string | undefined): number | null {
  return text !== undefined && /^[0-9]+\s*$/.test(text) ? Number(text) : null;
}

/** "name 12" among the lines. */
function fieldOf(text: string | undefined, name: string): number | null {
  const match = new RegExp(`^${name} ([0-9]+)$`, "m").exec(text ?? "");
  return match ? Number(match[1]) : null;
}
