// Numbers and the run directory of one daemon, machine-wide: several daemons on one machine never take the same.
//
// <root>/<boot id>/<opaque>/        a daemon's run directory; `owner` names its process; it exists until all it made is undone
// <root>/<boot id>/alloc/<kind>/<n> a taken number: a hard link to its daemon's `lease`, which holds <opaque>
//
// It is made under another name, which says who makes it, and renamed when it is whole.
// A number is taken by link(2), which fails where it exists, so it carries its owner from its first instant. It is stale
// once that run directory is gone: not at its owner's death, because its sandboxes may outlive that for a moment.

import {
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { EbbError } from "#model/errors.ts";
import { randomHex } from "#model/ids.ts";
import type { Allocator } from "./door.ts";
import { formatOwner, ownerOf, parseOwner, type Owner } from "./owners.ts";
import { defaultRunRoot, openRunRoot } from "./run-root.ts";

/** Entries of a boot directory that are no run directories. */
export const reservedEntries: ReadonlySet<string> = new Set(["alloc", "cache"]);

/** Of a run directory that is being made: it carries its owner from its first instant, so that nobody need guess whether he died in it. */
function unfinishedName(name: string, owner: string): string {
  return `.${name} ${owner.trim()}`;
}

/** null: not the name of one. */
export function makerOf(entry: string): Owner | null {
  const words = /^\.[0-9a-f]+ (.*)$/.exec(entry)?.[1];
  return words === undefined ? null : parseOwner(`${words}\n`);
}

export interface OwnAllocator extends Allocator {
  /** Gives everything back. Only where no spawner was started: the spawner does it when it has undone the rest. */
  close(): void;
}

export function bootDir(root: string): string {
  return join(root, readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim());
}

export interface AllocatorOptions {
  readonly root?: string;
  /** The run directory of an earlier daemon, whose kept processes live on, and the numbers that are theirs. */
  readonly inherited?: {
    readonly runDir: string;
    readonly numbers: Readonly<Record<string, readonly number[]>>;
  } | null;
}

/** Makes this process the owner of a new run directory, or the next owner of an inherited one. */
export function createAllocator(options: AllocatorOptions = {}): OwnAllocator {
  const root = options.root ?? defaultRunRoot();
  const boot = bootDir(root);
  if (options.inherited) return inherit(boot, options.inherited);
  openRunRoot(root);
  mkdirSync(join(boot, "alloc"), { recursive: true, mode: 0o711 });
  mkdirSync(join(boot, "cache"), { recursive: true, mode: 0o700 });
  forgetOtherBoots(root, boot);
  const name = randomHex(6);
  const runDir = join(boot, name);
  const owner = formatOwner(ownerOf(process.pid)!);
  const unfinished = join(boot, unfinishedName(name, owner));
  mkdirSync(unfinished, { mode: 0o711 });
  for (const folder of ["ledger", "kept", "sockets", "output", "engine"])
    mkdirSync(join(unfinished, folder), { mode: 0o700 });
  writeFileSync(join(unfinished, "lease"), name, { mode: 0o600 });
  writeFileSync(join(unfinished, "owner"), owner, { mode: 0o600 });
  renameSync(unfinished, runDir);
  return allocatorOf(boot, runDir);
}

function inherit(boot: string, { runDir, numbers }: NonNullable<AllocatorOptions["inherited"]>): OwnAllocator {
  const owner = join(runDir, "owner");
  writeFileSync(`${owner}.new`, formatOwner(ownerOf(process.pid)!), { mode: 0o600 });
  renameSync(`${owner}.new`, owner);
  // What the dead one had besides went with it.
  freeNumbersOf(boot, basename(runDir), (kind, number) => numbers[kind]?.includes(number) !== true);
  return allocatorOf(boot, runDir);
}

function allocatorOf(boot: string, runDir: string): OwnAllocator {
  return {
    runDir,
    take: (kind, count) => take(boot, runDir, kind, count),
    free: (kind, number) => rmSync(join(boot, "alloc", kind, String(number)), { force: true }),
    close: () => {
      freeNumbersOf(boot, basename(runDir));
      rmSync(runDir, { recursive: true, force: true });
    },
  };
}

function take(boot: string, runDir: string, kind: string, count: number): number {
  const folder = join(boot, "alloc", kind);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  for (const sweep of [false, true]) {
    if (sweep) freeStaleNumbers(boot, kind);
    const taken = new Set(readdirSync(folder));
    for (let number = 0; number < count; number++) {
      if (taken.has(String(number))) continue;
      try {
        linkSync(join(runDir, "lease"), join(folder, String(number)));
        return number;
      } catch (error) {
        if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
      }
    }
  }
  throw new EbbError("capacity", `All ${count} ${kind} of this machine are taken.`);
}

/** The run directory's name that a number belongs to; null: it was freed meanwhile. */
function holderOf(path: string): string | null {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return null;
  }
}

/** Frees the numbers of one kind (all kinds: null) whose daemon has nothing left on this machine. */
export function freeStaleNumbers(boot: string, only: string | null): void {
  eachNumber(boot, only, (path, holder) => {
    if (existsSync(join(boot, holder))) return;
    // Another daemon may sweep and take the same number at this moment: what is removed is looked at again, and put back if it is new.
    const aside = join(boot, "alloc", `.${randomHex(6)}`);
    try {
      renameSync(path, aside);
      const now = holderOf(aside);
      if (now !== null && existsSync(join(boot, now))) linkSync(aside, path);
      unlinkSync(aside);
    } catch {
      // Freed by the other one.
    }
  });
}

/** Frees what one run directory holds; called when nothing else of it is left, or nothing of those numbers. */
export function freeNumbersOf(
  boot: string,
  name: string,
  which: (kind: string, number: number) => boolean = () => true,
): void {
  eachNumber(boot, null, (path, holder) => {
    if (holder === name && which(basename(dirname(path)), Number(basename(path)))) rmSync(path, { force: true });
  });
}

function eachNumber(boot: string, only: string | null, visit: (path: string, holder: string) => void): void {
  const alloc = join(boot, "alloc");
  const kinds =
    only === null ? readdirSync(alloc, { withFileTypes: true }).filter((e) => e.isDirectory()) : [{ name: only }];
  for (const kind of kinds) {
    for (const entry of readdirSync(join(alloc, kind.name))) {
      const path = join(alloc, kind.name, entry);
      const holder = holderOf(path);
      if (holder !== null) visit(path, holder);
    }
  }
}

/** Where /run outlives a boot: nothing of an earlier boot exists any more but its files. */
function forgetOtherBoots(root: string, boot: string): void {
  for (const entry of readdirSync(root)) {
    if (/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(entry) && join(root, entry) !== boot)
      rmSync(join(root, entry), { recursive: true, force: true });
  }
}
