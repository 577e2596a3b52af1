// The spawner: the small process that alone forks, mounts, makes FIFOs, and writes links and rules.
// It keeps a ledger of all it made under /run/ebb/BOOT_ID/…, so that whoever comes after it can undo everything.

export interface ProcessExit {
  /** null where a signal ended it. */
  readonly code: number | null;
  readonly signal: string | null;
  /** The spawner died and took the news with it: how it ended is not known, only that nothing of it is left. */
  readonly lost?: boolean;
  /** What the files of `readAtEnd` said after the end and before the undo; a file that could not be read is left out. */
  readonly files?: Readonly<Record<string, string>>;
  /** How the command of `atEnd` ended; left out: it was not run. */
  readonly atEnd?: ExecResult;
  /** Something of its undo list failed, and is owed still: what it had (ids above all) must be nobody else's. */
  readonly left?: true;
}

export interface LaunchSpec {
  /** Unique among the living; names the process in the ledger. */
  readonly id: string;
  /** argv[0] is an absolute path; never a shell. */
  readonly argv: readonly string[];
  /** It is started from a sealed copy in memory, where that can be: an engine that would make itself one each time. */
  readonly sealed?: true;
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  /** Unix socket path to listen on and pass as fd 3 (made here, mode 0600, unlinked with the process); null: none. */
  readonly listen: string | null;
  /** FIFO paths (made by `fifos`) opened for writing as fds 1, 2 and, where there is a third, 4. */
  readonly output: {
    readonly stdout: string;
    readonly stderr: string;
    readonly frames: string | null;
    /** Not opened here: whoever writes to it does so by its name. */
    readonly result?: string;
  };
  /** What asks it to end, where that is not SIGTERM: an image may say so. */
  readonly endSignal?: NodeJS.Signals;
  /** What to send to which process of the launched tree on `signal`: the process itself, or the pid that a file names (crun --pid-file). */
  readonly signalPidFile: string | null;
  /** The file's number is of a process namespace that the launched process has made, in which what is meant is a child of its first. */
  readonly ownPids?: true;
  /** FIFO path (made in `before`) opened as fd 0; left out: /dev/null. */
  readonly input?: string;
  /** Made in this order before the process is started; one that fails fails the launch, and the rest is undone. */
  readonly before?: readonly Make[];
  /** Files (cgroup counters) to be read between the end of the process and the undo; at most 4 KiB of each. */
  readonly readAtEnd?: readonly string[];
  /** A command of ebb's own, run when it has ended with code 0, while all that is undone afterwards is still there. */
  readonly atEnd?: { readonly argv: readonly string[]; readonly stdin: string; readonly timeoutMs: number };
  /** What is undone when it has ended, in this order, whoever does it: also after the death of daemon or spawner. */
  readonly undo: readonly Undo[];
  /** It lives on when ebb dies: the supervisor alone launches such. */
  readonly kept?: Kept;
}

/** What stays of a process that outlives ebb, for the next one to find. */
export interface Kept {
  /** What the next ebb knows it by: a file's name. */
  readonly name: string;
  /** What whoever adopts it needs to know: JSON. */
  readonly note: unknown;
  /** While no ebb is there it is ended after so long. */
  readonly endsMs: number;
  readonly graceMs: number;
  /** Of what it writes to its result; more is not read. */
  readonly resultBytes: number;
  /** Its engine holds the pipe open for reading: one that writes more would never be told, and would wait for ever. */
  readonly killedAtBound?: true;
}

/** How a kept process ended, also when nobody was there. */
export interface KeptEnd {
  readonly how: ProcessExit;
  /** See Left. */
  readonly begunMs: number | null;
  readonly bootId: string;
  /** Epoch ms, and CLOCK_MONOTONIC of that boot. */
  readonly endedMs: number;
  readonly endedUs: number;
  /** The supervisor ended it, for its time was up. */
  readonly expired: boolean;
  /** Whole bytes at its result file; null: none, or none that is whole. */
  readonly resultBytes: number | null;
  readonly resultTooLarge: boolean;
}

/** What an earlier ebb left. */
export interface Left {
  readonly name: string;
  readonly note: unknown;
  /** Of the process, as it was launched. */
  readonly id: string;
  /** null: it runs. */
  readonly end: KeptEnd | null;
  /** Since when it is at work; null: it was never told what to do, and nothing of it is to be adopted. */
  readonly begunMs: number | null;
}

/** The process that launches what outlives ebb: started with the first of them, gone soon after the last, in a session and cgroup of its own. */
export interface Supervisor extends Pick<Spawner, "make" | "unmake" | "launch" | "exited" | "signal"> {
  /** Where the files of one are: its output, its result, its end. */
  folderOf(name: string): string;
  /** The process is at work from now on: without ebb it goes on. */
  begun(id: string): void;
  /** How it ended, with what has been read of it; after `exited`. */
  endOf(name: string): KeptEnd | null;
  /** As they were when this ebb began. */
  readonly left: readonly Left[];
  /** All has been taken from it: its files go. */
  forget(name: string): Promise<void>;
  readonly bootId: string;
  /** There are some that would live on now. */
  readonly holds: boolean;
}

/** How to make one thing; its undo is in `undo` of the same launch. */
export type Make =
  | { readonly kind: "folder"; readonly path: string; readonly mode: number }
  /** `uid`: who may open it again by name (a sandbox's /dev/stdout); left out: root. */
  | { readonly kind: "fifo"; readonly path: string; readonly uid?: number }
  | { readonly kind: "file"; readonly path: string; readonly text: string; readonly mode: number }
  /** nosuid and nodev always. */
  | { readonly kind: "bind"; readonly source: string; readonly target: string; readonly readOnly: boolean }
  /**
   * A read-only overlay of `lower` (relative to `base`): a file system of its own, whose mountinfo names no path of the host.
   * Where there is no overlayfs: a read-only bind of `source`.
   */
  | {
      readonly kind: "overlay";
      readonly base: string;
      readonly lower: readonly string[];
      readonly target: string;
      readonly source: string;
    }
  /**
   * The root of an image, at `folder`/`root`: its layers with the ids of one sandbox, and above them a tmpfs of `bytes` that is all
   * of `folder`. `folders` are made where they are missing, `files` are written; a link in the place of any is refused.
   */
  | {
      readonly kind: "image";
      /** Absolute, the lowest first. */
      readonly layers: readonly string[];
      readonly ids: { readonly first: number; readonly count: number };
      readonly bytes: number;
      readonly folder: string;
      readonly root: string;
      readonly folders: readonly string[];
      /** Made where it is missing; links in it are the image's own affair, for nothing of ebb's goes there. */
      readonly workingDirectory: string;
      readonly files: ReadonlyArray<{ readonly path: string; readonly text: string }>;
    }
  /** One write to a file that exists: a limit of a cgroup. */
  | { readonly kind: "write"; readonly path: string; readonly value: string };

/** How to get rid of one thing; each is harmless when the thing is already gone. */
export type Undo =
  | { readonly kind: "unmount"; readonly path: string }
  | { readonly kind: "remove"; readonly path: string }
  /**
   * Kills every process in it, then removes it (all controllers' directories on cgroup v1). `blank`: those of them that the next of the
   * same name may find; they may stay while whoever made them lives.
   */
  | { readonly kind: "cgroup"; readonly paths: readonly string[]; readonly blank?: readonly string[] }
  /** Succeeds also where there is nothing to undo; one that fails is owed still. */
  | { readonly kind: "command"; readonly argv: readonly string[] };

/** Changes in one network namespace, in this order. */
export interface NetworkChange {
  /** The file that it is pinned on; null: the host's own. */
  readonly namespace: string | null;
  /** It is made, and pinned there, first. */
  readonly fresh?: true;
  readonly things: readonly NetworkThing[];
}

/** One thing to set in a network namespace. Devices go by their names there; addresses are IPv4 (`10.0.0.1`), hardware addresses `02:eb:…`. */
export type NetworkThing =
  /** Two devices that are one link: one here, and one in the namespace that is pinned on a file. */
  | {
      readonly kind: "pair";
      readonly device: string;
      readonly hardware: string;
      readonly peer: { readonly device: string; readonly hardware: string; readonly namespace: string };
    }
  | { readonly kind: "up"; readonly device: string }
  | { readonly kind: "address"; readonly device: string; readonly address: string }
  /** `to`: an address, or `10.0.0.0/8`; null: everywhere. Without `via` it is at the other end of the link. */
  | {
      readonly kind: "route";
      readonly device: string;
      readonly to: string | null;
      readonly via?: string;
      readonly source?: string;
    }
  | { readonly kind: "neighbour"; readonly device: string; readonly address: string; readonly hardware: string }
  /** A file below /proc/sys/net; one of IPv6 is passed over where the kernel has none. */
  | { readonly kind: "switch"; readonly name: string; readonly value: string };

export interface ExecResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Spawner {
  start(): Promise<void>;
  /** Ends everything it launched, undoes the ledger, and exits. */
  stop(): Promise<void>;
  /**
   * Makes things for a process that is launched later under the id `owner`, or for one that runs; the undo is noted first. Without
   * any undo what is made must be covered by the owner's earlier one: an owner that has none, or has gone, is refused.
   */
  make(options: {
    readonly owner: string;
    readonly things: readonly Make[];
    readonly undo: readonly Undo[];
  }): Promise<void>;
  /**
   * Undoes what was made for an id that is not launched, or not any more, and is still owed. Rejects where something of it is left:
   * what it had must be nobody else's.
   */
  unmake(owner: string): Promise<void>;
  /** Resolves when the process runs (it has been forked; not that it is ready). Throws EbbError internal when it cannot be. */
  launch(spec: LaunchSpec): Promise<void>;
  /** Resolves with the end of a launched process, after its undo list; at once when it has already ended. */
  exited(id: string): Promise<ProcessExit>;
  /** Resolves when it has been sent, or there is nobody any more; never rejects. What is frozen thaws after it, and hears it. */
  signal(id: string, signal: "SIGTERM" | "SIGKILL" | "SIGSTOP" | "SIGCONT"): Promise<void>;
  /** Runs a command to its end: output bounded to 1 MiB, killed after `timeoutMs` (10 s), or by `signal`, whose reason it then rejects with. */
  exec(
    argv: readonly string[],
    options?: { readonly stdin?: string; readonly timeoutMs?: number; readonly signal?: AbortSignal },
  ): Promise<ExecResult>;
  /** Makes FIFOs, mode 0600. */
  fifos(paths: readonly string[]): Promise<void>;
  /** Makes a mount point's propagation shared, as a bind of the folder onto itself: what is mounted below reaches its slaves. */
  share(options: { readonly path: string; readonly owner: string }): Promise<void>;
  /** Bind-mounts a folder or file; the undo belongs to `owner` (a launched id, or "spawner" for the daemon's life). */
  bind(options: {
    readonly source: string;
    readonly target: string;
    readonly readOnly: boolean;
    readonly owner: string;
  }): Promise<void>;
  unmount(path: string): Promise<void>;
  /** A bounded tmpfs: nosuid, nodev. */
  tmpfs(options: {
    readonly target: string;
    readonly bytes: number;
    readonly mode: string;
    readonly owner: string;
  }): Promise<void>;
  /** Makes cgroups and writes their files, in order (`limits`: file name to value), e.g. the parent of all sandboxes. */
  cgroup(options: {
    readonly paths: readonly string[];
    readonly limits: ReadonlyArray<{ readonly path: string; readonly value: string }>;
    readonly owner: string;
  }): Promise<void>;
  /** Makes and sets up network namespaces; rejects at the first thing that cannot be, and leaves what was made. */
  network(changes: readonly NetworkChange[]): Promise<void>;
  /** Takes away pins of network namespaces; one that is not there is passed over. */
  unpin(paths: readonly string[]): Promise<void>;
  /** Whether not one packet has gone through a device of a pinned network namespace, its loopback among them. */
  untouched(path: string): Promise<boolean>;
  /** Feeds lines to one long-lived `nft -i`; rejects with nft's own words. Undo of the table belongs to the ledger. */
  nft(script: string): Promise<void>;
  /**
   * Registers an undo for the daemon's life (e.g. a bridge, an nft table); "ground": what kept processes stand on as well, so that
   * it is undone after the last of them.
   */
  owe(undo: readonly Undo[], owner?: "spawner" | "ground"): Promise<void>;
  /** Nothing has happened for a while: the process gives memory back. Never rejects. */
  rest(): Promise<void>;
  /** Called when the spawner process died by itself and a new one has taken over; everything launched before is gone. */
  onReplaced(listener: () => void): void;
}

/** Allocates numbers machine-wide under /run/ebb/BOOT_ID by O_EXCL files with their owner; freed by anyone once the owner is dead. */
export interface Allocator {
  /** The lowest free number of `kind` ("ids", "subnets", …) below `count`. Throws EbbError capacity when none is free. */
  take(kind: string, count: number): number;
  free(kind: string, number: number): void;
  /** The directory for this daemon's runtime files: /run/ebb/BOOT_ID/<opaque>. */
  readonly runDir: string;
}
