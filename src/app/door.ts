// ebb.yaml and plain folders: what a user wrote, read with line numbers. Used by the command line and by the API.

import type {
  DeclaredSignature,
  Egress,
  HttpProbe,
  Isolation,
  Probe,
  Protocol,
  RuntimeName,
  Scaling,
} from "#model/workload.ts";

/** What any workload may say of itself: only what was written. */
interface WorkloadDeclaration {
  readonly name: string;
  readonly memoryMb?: number;
  readonly cpu?: number;
  readonly cpuStrict?: boolean;
  readonly timeoutSeconds?: number;
  readonly env?: Readonly<Record<string, string>>;
  readonly secrets?: readonly string[];
  readonly egress?: Egress;
  readonly isolation?: Isolation;
}

/** What is called and scales by its calls. */
interface ServingDeclaration extends WorkloadDeclaration {
  readonly concurrency?: number;
  readonly scaling?: Scaling;
  readonly min?: number;
  readonly max?: number;
  readonly idleSeconds?: number;
  readonly public?: boolean;
}

/** One function as written. */
export interface FunctionDeclaration extends ServingDeclaration {
  /** Relative to the app file's folder. */
  readonly source: string;
  readonly runtime?: RuntimeName;
  readonly handler?: string;
  readonly signature?: DeclaredSignature;
  readonly command?: readonly string[];
  /** Node: the entry becomes one file with its dependencies. */
  readonly bundle?: boolean;
}

/** Where an image is to come from. */
export type ImageDeclaration =
  /** A name in a registry. */
  | { readonly kind: "registry"; readonly reference: string }
  /** An archive (`docker save`) or a folder (an OCI layout), relative to the app file's folder, as it begins with "./". */
  | { readonly kind: "path"; readonly path: string }
  | BuildDeclaration;

/** A folder with a Dockerfile or Containerfile. */
export interface BuildDeclaration {
  readonly kind: "build";
  readonly path: string;
  /** Values of its ARGs. */
  readonly args?: Readonly<Record<string, string>>;
  /** The stage that is the image; the last one when left out. */
  readonly target?: string;
}

/** One container as written. */
export interface ContainerDeclaration extends ServingDeclaration {
  readonly from: ImageDeclaration;
  /** Name of the secret that opens the registry, whose value is `username:password`. */
  readonly pullSecret?: string;
  /** In the place of the image's entrypoint, and of its command too. */
  readonly command?: readonly string[];
  /** In the place of the image's command. */
  readonly args?: readonly string[];
  readonly port?: number;
  readonly protocol?: Protocol;
  readonly probe?: Probe;
  readonly liveness?: HttpProbe;
  readonly writableMb?: number;
}

/** What any job may say of itself. */
interface AnyJobDeclaration extends WorkloadDeclaration {
  readonly args?: readonly string[];
  readonly retries?: number;
  readonly parallelism?: number;
  readonly rerunOnInterrupt?: boolean;
}

/** One job of code as written. */
export interface CodeJobDeclaration extends AnyJobDeclaration {
  /** Relative to the app file's folder. */
  readonly source: string;
  readonly runtime?: RuntimeName;
  readonly command: readonly string[];
}

/** One job of an image as written. */
export interface ImageJobDeclaration
  extends AnyJobDeclaration, Pick<ContainerDeclaration, "from" | "pullSecret" | "command" | "writableMb"> {}

export type JobDeclaration = CodeJobDeclaration | ImageJobDeclaration;

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
