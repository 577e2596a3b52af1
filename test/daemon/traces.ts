// What an ebb daemon has on the machine outside its data directory, found by other means than ebb's own books.

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { bootDir } from "#spawner/allocator.ts";
import { defaultRunRoot } from "#spawner/run-root.ts";
import { eventually } from "./fixture.ts";

const boot = bootDir(defaultRunRoot());

/** One life of a daemon: the names under which its things stand on the machine. */
export interface Life {
  /** Of its run directory, its cgroups, and the mark on its processes. */
  readonly name: string;
  /** Of its interface and its nft table; null: it had none yet. */
  readonly network: string | null;
}

function read(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}

function list(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

/** Lives whose daemon is (or was) this process; one that is just being made counts as well. */
export function livesOf(pid: number): Life[] {
  return list(boot)
    .filter((name) => read(join(boot, name, "owner")).startsWith(`${pid} `))
    .map((name) => ({
      name: name.replace(/^\./, ""),
      network: /"(ebb[0-9a-f]{8})"/.exec(read(join(boot, name, "ledger", "ground.json")))?.[1] ?? null,
    }));
}

/** The spawner of a daemon; null: none yet. */
export function spawnerOf(life: Life): number | null {
  return Number(read(join(boot, life.name, "spawner")).split(" ")[0]) || null;
}

/** The supervisor of its runs; null: none yet. */
export function supervisorOf(life: Life): number | null {
  return Number(read(join(boot, life.name, "supervisor")).split(" ")[0]) || null;
}

export function pids(): number[] {
  return list("/proc").map(Number).filter(Number.isInteger);
}

function processesOf(names: ReadonlySet<string>): string[] {
  const found: string[] = [];
  for (const pid of pids()) {
    const mark = /(?:^|\0)EBB_LAUNCH=([0-9a-f]+)(?:\.kept)?\//.exec(read(`/proc/${pid}/environ`))?.[1];
    const command = read(`/proc/${pid}/cmdline`).replaceAll("\0", " ").trim();
    const named = command.split(/[ /]/).find((word) => names.has(word));
    if ((mark !== undefined && names.has(mark)) || named !== undefined) found.push(`process ${pid}: ${command}`);
  }
  return found;
}

/** The programs (as their processes were started) that carry the mark of these lives. */
export function programsOf(lives: readonly Life[]): string[] {
  const names = new Set(lives.map((life) => life.name));
  return pids()
    .filter((pid) =>
      names.has(/(?:^|\0)EBB_LAUNCH=([0-9a-f]+)(?:\.kept)?\//.exec(read(`/proc/${pid}/environ`))?.[1] ?? ""),
    )
    .map((pid) => read(`/proc/${pid}/cmdline`).split("\0")[0]!);
}

function mountsWith(names: ReadonlySet<string>): string[] {
  // Hundreds of lines, most of them of others, and read again and again while something is waited for.
  return read("/proc/self/mountinfo")
    .split("\n")
    .filter((line) => [...names].some((name) => line.includes(name)))
    .filter((line) => line.split(/[ /,]/).some((word) => names.has(word)))
    .map((line) => `mount ${line.split(" ")[4]}`);
}

/** The mounts of these lives: of all traces the ones that cost nothing to look for. */
export function mountsOf(lives: readonly Life[]): string[] {
  return mountsWith(new Set(lives.map((life) => life.name)));
}

function links(): string[] {
  return list("/sys/class/net").filter((name) => /^ebb[0-9a-f]{8}$/.test(name));
}

function tables(): string[] {
  return [...execFileSync("nft", ["list", "tables"], { encoding: "utf8" }).matchAll(/\b(ebb[0-9a-f]{8})\b/g)].map(
    (match) => match[1]!,
  );
}

function cgroups(): Map<string, string> {
  const found = new Map<string, string>();
  for (const line of read("/proc/self/mountinfo").split("\n")) {
    if (!/ - cgroup2? /.test(line)) continue;
    const root = line.split(" ")[4]!;
    for (const name of list(root))
      if (/^ebb-[0-9a-f]{12}(-kept)?$/.test(name)) found.set(join(root, name), name.slice(4, 16));
  }
  return found;
}

/** Path of each taken number to the run directory that holds it. */
function numbers(): Map<string, string> {
  const found = new Map<string, string>();
  for (const kind of list(join(boot, "alloc")))
    for (const number of list(join(boot, "alloc", kind))) {
      const path = join(boot, "alloc", kind, number);
      found.set(path, read(path));
    }
  return found;
}

/** All that is there of these lives, a line each. */
export function tracesOf(lives: readonly Life[]): string[] {
  const names = new Set(lives.map((life) => life.name));
  const networks = new Set(lives.map((life) => life.network).filter((name) => name !== null));
  return [
    ...processesOf(names),
    ...mountsWith(names),
    ...links()
      .filter((name) => networks.has(name))
      .map((name) => `link ${name}`),
    ...tables()
      .filter((name) => networks.has(name))
      .map((name) => `table ${name}`),
    ...[...cgroups()].filter(([, name]) => names.has(name)).map(([path]) => `cgroup ${path}`),
    ...[...numbers()].filter(([, name]) => names.has(name)).map(([path]) => `number ${path}`),
    ...[...names].flatMap((name) => [join(boot, name), join(boot, `.${name}`)]).filter((path) => existsSync(path)),
  ].toSorted();
}

/** What stands on the machine and belongs to no run directory: whoever made it, nobody will ever take it away. */
export function ownerless(): string[] {
  const living = list(boot).filter((name) => /^[0-9a-f]{12}$/.test(name));
  const networks = new Set(
    living.map((name) => /"(ebb[0-9a-f]{8})"/.exec(read(join(boot, name, "ledger", "ground.json")))?.[1]),
  );
  const marks = pids().flatMap((pid) => {
    const mark = /(?:^|\0)EBB_LAUNCH=([0-9a-f]{12})\//.exec(read(`/proc/${pid}/environ`))?.[1];
    return mark === undefined ? [] : [{ pid, mark }];
  });
  const known = new Set(living);
  return [
    ...links()
      .filter((name) => !networks.has(name))
      .map((name) => `link ${name}`),
    ...tables()
      .filter((name) => !networks.has(name))
      .map((name) => `table ${name}`),
    ...[...cgroups()].filter(([, name]) => !known.has(name)).map(([path]) => `cgroup ${path}`),
    ...[...numbers()].filter(([, name]) => !known.has(name)).map(([path]) => `number ${path}`),
    ...marks.filter(({ mark }) => !known.has(mark)).map(({ pid }) => `process ${pid}`),
    ...list(boot)
      .filter((name) => name.startsWith("."))
      .map((name) => `unfinished ${name}`),
  ].toSorted();
}

/** Waits until nothing of these lives is left, or says what is. */
export async function nothingLeftOf(lives: readonly Life[], withinMs = 10_000): Promise<void> {
  let left: string[] = [];
  await eventually(
    "nothing is left",
    async () => {
      left = tracesOf(lives);
      return left.length === 0;
    },
    withinMs,
  ).catch(() => {
    throw new Error(`left behind:\n${left.join("\n")}`);
  });
}
