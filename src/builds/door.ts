// Source -> code that runs: received safely, transpiled in a sandbox, kept by its content.

import type { Readable } from "node:stream";
import type { RuntimeName } from "#model/workload.ts";

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

export interface Builds {
  start(): Promise<void>;
  stop(): Promise<void>;
  /** Unpacks a gzipped tar: no link followed, bounds held, EbbError invalid_archive with the entry's name. */
  receive(archive: Readable): Promise<Upload>;
  /** Makes the folder `source` of an upload into code: transpiles TypeScript (EbbError deploy_refused with file and line), stores it. */
  build(upload: Upload, source: string): Promise<BuiltCode>;
  /** Absolute folder of stored code; world-readable, never written again. */
  folderOf(digest: string): string;
  /** Deletes code that no digest names. Code stored in the last minutes stays: its revision may be on its way. */
  collect(named: ReadonlySet<string>): Promise<number>;
}
