// ebb.yaml and plain folders: what a user wrote, read with line numbers. Used by the command line and by the API.

import type { DeclaredSignature, Egress, HttpProbe, Isolation, Probe, RuntimeName } from "#model/workload.ts";

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

/** Where an image is to come from. */
export type ImageDeclaration =
  /** A name in a registry. */
  | { readonly kind: "registry"; readonly reference: string }
  /** An archive (`docker save`) or a folder (an OCI layout), relative to the app file's folder, as it begins with "./". */
  | { readonly kind: "path"; readonly path: string }
  /** A folder with a Dockerfile or Containerfile. */
  | { readonly kind: "build"; readonly path: string };

/** One container as written: only what was written. */
export interface ContainerDeclaration {
  readonly name: string;
  readonly from: ImageDeclaration;
  /** Name of the secret that opens the registry, whose value is `username:password`. */
  readonly pullSecret?: string;
  /** In the place of the image's entrypoint, and of its command too. */
  readonly command?: readonly string[];
  /** In the place of the image's command. */
  readonly args?: readonly string[];
  readonly port?: number;
  readonly probe?: Probe;
  readonly liveness?: HttpProbe;
  readonly writableMb?: number;
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

/** One job as written. */
export interface JobDeclaration {
  readonly name: string;
  /** Relative to the app file's folder. */
  readonly source: string;
  readonly runtime?: RuntimeName;
  readonly command: readonly string[];
  readonly args?: readonly string[];
  readonly memoryMb?: number;
  readonly cpu?: number;
  readonly cpuStrict?: boolean;
  readonly timeoutSeconds?: number;
  readonly retries?: number;
  readonly parallelism?: number;
  readonly rerunOnInterrupt?: boolean;
  readonly env?: Readonly<Record<string, string>>;
  readonly secrets?: readonly string[];
  readonly egress?: Egress;
  readonly isolation?: Isolation;
}

export interface AppFile {
  readonly project: string | null;
  readonly functions: readonly FunctionDeclaration[];
  /** Left out where the file has none. */
  readonly containers?: readonly ContainerDeclaration[];
  readonly jobs?: readonly JobDeclaration[];
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
