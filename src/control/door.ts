// The commands: the only way to change what exists. Each is one file, control/<noun>/<verb>.ts.

import type { Readable } from "node:stream";
import type { Identity, Scope } from "#model/access.ts";
import type { Run, RunId, RunOverrides } from "#model/run.ts";
import type { Project, ProjectQuotas, Revision, WorkloadKind } from "#model/workload.ts";

/** What a deploy tells while it works, one at a time: what it begins where that may take a while, and what is done. The last is `deployed` or the call throws. */
export type DeployProgress =
  | { readonly step: "received"; readonly files: number; readonly bytes: number }
  /** Something its author should know; no error. */
  | { readonly step: "noted"; readonly workload: string; readonly message: string }
  | { readonly step: "building"; readonly workload: string }
  | { readonly step: "built"; readonly workload: string; readonly files: number; readonly transpiled: number }
  /** `what` its runtime needs is not on this machine yet: "Node 24.21.0". */
  | { readonly step: "fetching"; readonly workload: string; readonly what: string }
  /** How far its image is: a line of the room that fetches it. */
  | { readonly step: "image"; readonly workload: string; readonly message: string }
  /** A line of a build: a step of it, or what a command of it has printed, which is a tenant's. */
  | { readonly step: "printed"; readonly workload: string; readonly message: string }
  | { readonly step: "checking"; readonly workload: string }
  | {
      readonly step: "checked";
      readonly workload: string;
      /** A function's; null with an image. */
      readonly runtime: string | null;
      readonly entry: string | null;
      readonly handler: string | null;
      readonly signature: string | null;
    }
  | {
      readonly step: "deployed";
      readonly results: readonly DeployResult[];
      /** What the app file does not declare: some of it by name, and how many more there are. */
      readonly kept: readonly string[];
      readonly keptMore: number;
      readonly removed: readonly string[];
    };

export interface DeployResult {
  /** As the app file names it: folder or file, relative to it. */
  readonly source: string;
  readonly workload: string;
  readonly project: string;
  readonly revision: number;
  /** null: the first; the same number: nothing changed. */
  readonly before: number | null;
  readonly unchanged: boolean;
  readonly kind: WorkloadKind;
  /** A function's; null with an image. */
  readonly runtime: string | null;
  readonly entry: string | null;
  readonly handler: string | null;
  readonly signature: string | null;
  /** A container's; null with code. */
  readonly image: string | null;
  readonly imageDigest: string | null;
  readonly command: readonly string[] | null;
  readonly public: boolean;
  /** null: it is not called. */
  readonly url: string | null;
  readonly pathUrl: string | null;
}

export interface DeployRequest {
  /** null: what ebb.yaml says, or the token's own, or the default project. */
  readonly project: string | null;
  /** What the function of a plain folder is called; an error where there is an ebb.yaml. */
  readonly name: string | null;
  /** The same where nobody said a name: the folder's own; ignored where there is an ebb.yaml. */
  readonly folderName?: string | null;
  readonly memoryMb: number | null;
  readonly env: Readonly<Record<string, string>>;
  readonly public: boolean | null;
  /** Workloads that are to go with this switch, as whoever asks has seen and agreed: others that appeared since stay. */
  readonly prune: readonly string[];
  /** Images are built anew, whatever is kept of earlier builds. */
  readonly noCache?: boolean;
  readonly gitCommit: string | null;
  readonly archive: Readable;
  /** Whoever asked has gone: what is fetched for it alone is given up, and nothing is switched. */
  readonly signal?: AbortSignal;
}

/** What the operator sets of a project; what is left out stays. */
export interface ProjectSettings extends Partial<ProjectQuotas> {
  /** Networks that are not public and may be reached, as `10.1.0.0/16:5432`; null or empty: none. */
  readonly egressPermit?: readonly string[] | null;
}

export interface Control {
  deploy(identity: Identity, request: DeployRequest, progress: (step: DeployProgress) => void): Promise<void>;
  rollback(identity: Identity, project: string, workload: string, revision: number | null): Promise<Revision>;
  restart(identity: Identity, project: string, workload: string): Promise<void>;
  removeWorkload(identity: Identity, project: string, workload: string): Promise<void>;
  /** Resolves when the run is on the disk: then it is run to its end. */
  runJob(identity: Identity, project: string, workload: string, overrides: RunOverrides): Promise<Run>;
  stopRun(identity: Identity, project: string, run: RunId): Promise<Run>;
  setSecret(
    identity: Identity,
    project: string,
    name: string,
    value: string,
  ): Promise<{ readonly version: number; readonly replaced: readonly string[] }>;
  removeSecret(identity: Identity, project: string, name: string): Promise<void>;
  createToken(
    identity: Identity,
    options: { name: string; project: string | null; scope: Scope; expiresMs: number | null },
  ): Promise<{ readonly id: string; readonly token: string }>;
  /** `project`: where the token is looked for; null: among those of every project. */
  removeToken(identity: Identity, project: string | null, id: string): Promise<void>;
  createProject(identity: Identity, name: string): Promise<Project>;
  setProject(identity: Identity, name: string, settings: ProjectSettings): Promise<Project>;
  /** `everything`: its workloads, secrets and tokens too; without it, one that is not empty is refused (precondition_required). */
  removeProject(identity: Identity, name: string, everything: boolean): Promise<void>;
}
