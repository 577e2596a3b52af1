// Source -> code that runs: received safely, transpiled in a sandbox, kept by its content.

import type { Readable } from "node:stream";
import type { FunctionRevision, Revision, RuntimeName } from "#model/workload.ts";

/** A received upload, unpacked into a folder of its own that nobody else touches. */
export interface Upload {
  readonly folder: string;
  readonly entries: number;
  readonly bytes: number;
  /** Removes it. */
  discard(): Promise<void>;
}

export interface BuiltCode {
  /** sha256 over the sorted tree: paths, modes, contents. Names the folder in the code store. */
  readonly digest: string;
  readonly files: number;
  readonly bytes: number;
  /** Files that were transpiled. */
  readonly transpiled: number;
}

export interface Interpreters {
  /**
   * Makes sure that the interpreter of a runtime is on this machine: a start that had to fetch it first would run out of
   * time. `fetching`: told what comes from outside, where something does. EbbError start_failed when it cannot be had.
   */
  readonly provide: (runtime: RuntimeName, fetching: (what: string) => void) => Promise<void>;
}

/** Compiled code (V8's, Python's) that a load check made; laid over the code that it is of. */
export interface LoadCaches {
  /** Name of what there is for a revision; null: nothing. Without waiting: every start asks. */
  of(revision: Revision): string | null;
  /** Absolute folder of a name; world-readable, never written again. */
  folderOf(name: string): string;
  /**
   * Keeps what a check of the revision told, for its project alone. False: too little to be worth it. RangeError with the reason
   * where it is nothing that a shim sends: it comes from a tenant's process.
   */
  keep(revision: FunctionRevision, entry: string | null, packed: Uint8Array): Promise<boolean>;
  /** Deletes what a project has: another of the same name is another tenant. */
  forget(project: string): Promise<void>;
}

export interface Builds {
  readonly loadCaches: LoadCaches;
  start(): Promise<void>;
  stop(): Promise<void>;
  /** Unpacks a gzipped tar: no link followed, bounds held, EbbError invalid_archive with the entry's name. */
  receive(archive: Readable): Promise<Upload>;
  /**
   * Makes the folder `source` of an upload into code: transpiles TypeScript (EbbError deploy_refused with file and line), stores it.
   * `bundled`: the entry file that becomes one with its dependencies, for Node.
   */
  build(upload: Upload, source: string, bundled?: string | null): Promise<BuiltCode>;
  /** Absolute folder of stored code; world-readable, never written again. */
  folderOf(digest: string): string;
  /** Deletes code that no digest names, and what was compiled of it. Code stored in the last minutes stays: its revision may be on its way. */
  collect(named: ReadonlySet<string>): Promise<number>;
}
