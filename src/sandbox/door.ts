// What isolates an instance. Every driver passes suite.ts. No pid, host path or Unix-only endpoint in these types:
// Kubernetes and micro-VMs stand behind the same door.

import type { Duplex } from "node:stream";
import type { Image } from "#images/door.ts";
import type { InstanceId, InvocationId, SandboxId } from "#model/ids.ts";
import type { Failure, StartPhases } from "#model/instance.ts";
import type { Egress, EgressClass, Probe, RuntimeName, Signature } from "#model/workload.ts";

/** What cannot be changed after a start; anything else is a pool miss and works. */
export type PoolKey = RuntimePool | ImagePool;

/** A root that ebb assembles for a runtime. */
export interface RuntimePool extends PoolBounds {
  readonly runtime: RuntimeName;
}

/** The root of an image. */
export interface ImagePool extends PoolBounds {
  /** Its digest in the store of images; the driver knows how to get at it. */
  readonly image: string;
}

interface PoolBounds {
  readonly memoryMb: number;
  /** What may be written: below /tmp, or with an image anywhere. */
  readonly tmpBytes: number;
  readonly egress: EgressClass;
  /** Left out: the driver's own class (its capabilities). */
  readonly isolation?: "gvisor";
  /** For a program that is run to its end: any that the root has, and what it leaves as its result can be read. */
  readonly toEnd?: true;
}

/** What makes a sandbox an instance of one revision, once and for ever. */
export interface Assignment {
  readonly instance: InstanceId;
  readonly project: string;
  readonly workload: string;
  /** Digest of the code in the code store; the driver knows how to get it in. null: an image brings its own. */
  readonly codeDigest: string | null;
  readonly entry: string | null;
  readonly handler: string | null;
  /** null: recognise it. */
  readonly signature: Signature | null;
  /** Runtime custom and images: program and arguments. */
  readonly command: readonly string[] | null;
  /** Where such a program listens itself, and how it is known that it serves; null: it runs to its end, and is ready as it begins. */
  readonly port: number;
  readonly probe: Probe | null;
  readonly concurrency: number;
  /** Environment with the secrets in it. Never in an argument, a file of the host, or a log. */
  readonly env: Readonly<Record<string, string>>;
  readonly cpu: number;
  readonly cpuStrict: boolean;
  readonly timeoutMs: number;
  /** A list is opened to it, and what the project's permit adds; it lies within the class of its pool key. */
  readonly egress: Egress;
  /** What this instance shows to ebb.internal where the driver has no link; dead when the instance is. */
  readonly credential: string;
  /** What marks in the output begin with; unguessable outside this instance. */
  readonly nonce: string;
  /** Only load it and say what it is: nothing is served. */
  readonly check: boolean;
  /** Name of compiled code of an earlier check, which belongs over the code; null: there is none. */
  readonly loadCache: string | null;
  /** A check that also tells the compiled code, where driver and runtime can. */
  readonly makeLoadCache: boolean;
  /** How long one that was started ahead has to take this, before any code is loaded; null: as long as a start may take. */
  readonly takeWithinMs: number | null;
}

export interface Ready {
  readonly ok: true;
  readonly entry: string | null;
  readonly handler: string | null;
  readonly signature: Signature;
  /** response: the invocation ends with the response. told: the runtime says so, in the head (`ebb-done`) or by `done`. */
  readonly done: "response" | "told";
  /** Many invocations may share one connection (runtimes/CONTRACT.md, 10). */
  readonly shares: boolean;
  readonly phases: StartPhases;
  /** What a check was asked to make: packed, and a tenant's bytes. */
  readonly loadCache?: Uint8Array;
}

export interface Failed {
  readonly ok: false;
  readonly failure: Failure;
  /** It ended, or its time was up, before it took the assignment: no code was touched, and another sandbox may do. */
  readonly untouched?: boolean;
}

export interface Exit {
  readonly reason: "stopped" | "exited" | "memory" | "killed" | "lost";
  readonly code: number | null;
  /** For the author of the function: `out of memory: 256 MiB, peak 256; raise memoryMb.` */
  readonly message: string;
  /** What a program that was run to its end has used in all, where that is known. */
  readonly usage?: SandboxUsage;
  /** Of one that was to live on: its result, read already, and when it ended. */
  readonly kept?: KeptExit;
}

export interface KeptExit {
  /** A file, to be moved; null: none, or none that is whole. */
  readonly result: string | null;
  readonly resultBytes: number | null;
  readonly resultTooLarge: boolean;
  /** CLOCK_MONOTONIC; null: of another boot. */
  readonly endedUs: number | null;
  /** Its time was up while no ebb was there. */
  readonly expired: boolean;
}

export interface SandboxUsage {
  /** CPU time so far; null: unknown. */
  readonly cpuNs: number | null;
  readonly memoryPeakBytes: number | null;
  /** What it holds now and could not give back at once; left out: not known. */
  readonly memoryBytes?: number | null;
}

/** Where the output can be read, in the words of telemetry's reader of that kind; cloneable. */
export type OutputSource =
  | {
      readonly kind: "fifo";
      readonly stdout: string;
      readonly stderr: string;
      readonly frames: string | null;
      readonly result?: string;
    }
  /** Read already, into files (lib/kept-output.ts) of this folder. */
  | { readonly kind: "kept"; readonly folder: string }
  | { readonly kind: "none" };

export interface Capabilities {
  readonly isolation: "none" | "container" | "gvisor" | "microvm" | "pod";
  readonly listener: "fd" | "tcp";
  readonly pause: boolean;
  readonly snapshot: boolean;
  readonly egress: ReadonlyArray<EgressClass | "list">;
  readonly cpuStrict: boolean;
  readonly usage: "exact" | "sampled" | "none";
}

/** What a living sandbox tells by itself. Called on the main thread; must not throw. */
export interface SandboxListener {
  /** The runtime says that the invocation is over (only where `done` is "told"). */
  done(invocation: InvocationId): void;
  /** Exactly once, when nothing of it is left. */
  exited(exit: Exit): void;
}

/** One program run to its end in a sandbox of its own: transpiling, and later builds and job runs. Unbilled. */
export interface OneOff {
  readonly pool: RuntimePool;
  /** argv inside; programs of ebb's own toolbox root, not a tenant's. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Host folders that appear read-only inside. */
  readonly mounts: ReadonlyArray<{ readonly source: string; readonly target: string }>;
  readonly timeoutMs: number;
  /** Bytes of stdout that are kept; more fails it. */
  readonly outputBytes: number;
}

export type OneOffResult =
  | { readonly ok: true; readonly stdout: Uint8Array; readonly stderr: string }
  | { readonly ok: false; readonly failure: Failure; readonly stderr: string };

/** One command of a build, run to its end in the files of an image that is being made. Unbilled, and hostile. */
export interface BuildStep {
  /** Whose permit its egress goes by. */
  readonly project: string;
  /** The image so far: its files, user, folder and environment. */
  readonly image: Image;
  readonly command: readonly string[];
  /** Over the image's own. */
  readonly env: Readonly<Record<string, string>>;
  readonly egress: EgressClass;
  readonly memoryMb: number;
  /** Of what it may write; counts to its memory. */
  readonly writableBytes: number;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** What it prints, piece by piece. */
  readonly output: (piece: Uint8Array) => void;
  /**
   * A command of ebb's own that is run when it has ended well, with all that it changed still in the folder `changes`, as overlayfs has
   * it; owners are the image's own and `firstId`.
   */
  readonly keep: (
    changes: string,
    firstId: number,
  ) => {
    readonly argv: readonly string[];
    readonly stdin: string;
    readonly timeoutMs: number;
  };
}

export type BuildStepEnd =
  /** What `keep` has printed. */
  | { readonly ok: true; readonly kept: string }
  | { readonly ok: false; readonly reason: "exited" | "memory" | "timeout"; readonly message: string };

/** Takes bytes out of one buffer, which the next read overwrites: no memory is made for each read (`onread` of `net.connect`). */
export interface SocketReader {
  readonly buffer: Buffer;
  /** `buffer`: where the bytes are, this one or another. False: the connection pauses. */
  callback(bytes: number, buffer: Buffer): boolean;
}

/** A program that is run to its end is to live on when ebb dies; where the driver cannot do that, it ends with ebb. */
export interface Lasting {
  readonly instance: InstanceId;
  /** Of which job and revision: what one of them leaves as new the next may have. */
  readonly of: string;
  /** Once begun it is ended after so long, also where no ebb is there. */
  readonly timeoutMs: number;
  readonly graceMs: number;
  readonly resultBytes: number;
}

/** One that an earlier ebb left, which lives or has ended meanwhile. */
export interface LeftInstance {
  readonly instance: InstanceId;
  /** Epoch ms of its begin; null: its program was never told to begin. */
  readonly begunMs: number | null;
  readonly alive: boolean;
}

export interface SandboxDriver {
  readonly name: string;
  capabilities(): Capabilities;
  start(): Promise<void>;
  stop(): Promise<void>;
  /** Makes a sandbox without code. Resolves as soon as it is under way: `assign` may follow at once and waits for the rest. */
  prepare(pool: PoolKey, listener: SandboxListener, lasting?: Lasting): Promise<SandboxId>;
  /** The function's failure is a value; only the platform's throws. After a failure the sandbox is on its way out. */
  assign(sandbox: SandboxId, assignment: Assignment): Promise<Ready | Failed>;
  /**
   * A new connection that speaks HTTP/1.1 to the instance. May emit error, and does for a sandbox that is gone; it never throws. With a
   * `reader` a driver may give it what comes instead of emitting it as data; one that cannot emits.
   */
  connect(sandbox: SandboxId, reader?: SocketReader): Duplex;
  output(sandbox: SandboxId): OutputSource;
  /** One that was prepared to last is at work, and all that must be known of it is written down: from here on it does. Never rejects. */
  keep(sandbox: SandboxId): Promise<void>;
  /** What earlier ebbs left that was to live on. */
  left(): readonly LeftInstance[];
  /** Takes one of them over, with what makes it whose it is; its end is told as of any other, also where it has ended already. */
  adopt(
    instance: InstanceId,
    assignment: Pick<Assignment, "project" | "workload" | "egress" | "credential">,
    listener: SandboxListener,
  ): Promise<SandboxId>;
  /** Nothing is needed of it any more: what is kept goes, and one that is left and nobody has taken over is ended. */
  forget(instance: InstanceId): Promise<void>;
  /** SIGTERM, then SIGKILL after `graceMs` (0: at once). Resolves when nothing is left. */
  stopSandbox(sandbox: SandboxId, graceMs: number): Promise<void>;
  /**
   * Holds all of it still: it uses no CPU, and what comes waits, until it is resumed or stopped. In the order in which they are
   * called; nobody needs to wait for one before he calls the other, connects or sends.
   */
  pause(sandbox: SandboxId): Promise<void>;
  resume(sandbox: SandboxId): Promise<void>;
  /** The latest known, without waiting: exact drivers read the counter (microseconds of work), sampled ones answer the last sample. */
  usage(sandbox: SandboxId): SandboxUsage;
  run(spec: OneOff): Promise<OneOffResult>;
  /** Left out: this driver runs no images, or has no links for them. */
  readonly build?: (step: BuildStep) => Promise<BuildStepEnd>;
  /**
   * The credential of the instance whose link has this address, as the peer of a connection to ebb.internal; null: none. A link's
   * address cannot be forged, so a caller behind one shows nothing. Drivers without links answer null always.
   */
  credentialAt(address: string): string | null;
}
