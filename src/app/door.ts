// ebb.yaml and plain folders: what a user wrote, read with line numbers. Used by the command line and by the API.

import type { DeclaredSignature, Egress, Isolation, RuntimeName } from "#model/workload.ts";

/** One function as written: only what was written. */
export interface FunctionDeclaration {
  readonly name: string;
  /** Relative to the app file's folder. */
  readonly source: string;
  readonly runtime?: RuntimeName;
  readonly handler?: string;
  readonly signature?: DeclaredSignature;
  readonly command?: readonly string[];
  /** Node: the entry becomes one file with its dependencies. */
  readonly bundle?: boolean;
  readonly memoryMb?: number;
  readonly cpu?: number;
  readonly cpuStrict?: boolean;
  readonly timeoutSeconds?: number;
  readonly concurrency?: number;
  readonly min?: number;
  readonly max?: number;
  readonly idleSeconds?: number;
  readonly public?: boolean;
  readonly env?: Readonly<Record<string, string>>;
  readonly secrets?: readonly string[];
  readonly egress?: Egress;
  readonly isolation?: Isolation;
}

export interface AppFile {
  readonly project: string | null;
  readonly functions: readonly FunctionDeclaration[];
}

/** `ebb.yaml:12: functions.thumbnail.memoryMb: expected a whole number from 32 to 65536, found "lots"` */
export interface AppProblem {
  readonly file: string;
  /** Counts from 1. */
  readonly line: number;
  readonly path: string;
  readonly message: string;
}

export type ReadApp = (
  text: string,
  file: string,
) => { readonly ok: true; readonly app: AppFile } | { readonly ok: false; readonly problems: readonly AppProblem[] };
