// What deploy asks of the room app: reading ebb.yaml, recognising a folder, filling in settings.

import type {
  CodeJobDeclaration,
  ContainerDeclaration,
  FunctionDeclaration,
  ImageJobDeclaration,
  ReadApp,
} from "#app/door.ts";
import type { ImageConfig } from "#images/door.ts";
import type {
  CodeJobSettings,
  ContainerSettings,
  FunctionSettings,
  ImageJobSettings,
  Isolation,
  RuntimeName,
  SourcesOf,
} from "#model/workload.ts";

/** What the command line may say over what the app file says. */
export interface DeployFlags {
  readonly memoryMb: number | null;
  readonly env: Readonly<Record<string, string>>;
  readonly public: boolean | null;
}

/** What the files of a folder say by themselves. */
export interface RecognisedFolder {
  readonly runtime: RuntimeName;
  /** File to load, relative to the folder; null: the runtime (or `command`) knows. */
  readonly entry: string | null;
  /** The export that a declared `handler:` names, once its file has been found; undefined: as declared. */
  readonly handler?: string | null;
  /** Runtime custom. */
  readonly command?: readonly string[] | null;
  /** What its author should know of what was chosen. */
  readonly notes?: readonly string[];
}

export interface SettledFunction {
  readonly settings: FunctionSettings;
  readonly sources: SourcesOf<FunctionSettings>;
}

export interface SettledContainer {
  readonly settings: ContainerSettings;
  readonly sources: SourcesOf<ContainerSettings>;
}

export interface SettledJob {
  readonly settings: CodeJobSettings;
  readonly sources: SourcesOf<CodeJobSettings>;
}

export interface SettledImageJob {
  readonly settings: ImageJobSettings;
  readonly sources: SourcesOf<ImageJobSettings>;
}

export interface AppTools {
  readonly readApp: ReadApp;
  /** `source`: absolute path of the folder or file. EbbError deploy_refused, in words for the author, when it cannot tell. */
  readonly recognise: (source: string, declaration: FunctionDeclaration) => Promise<RecognisedFolder>;
  /** Every default filled in. What only loading the code can tell (handler, signature) has no source yet. */
  readonly settle: (options: {
    readonly declaration: FunctionDeclaration;
    readonly flags: DeployFlags;
    readonly recognised: RecognisedFolder;
    readonly isolation: Isolation;
  }) => SettledFunction;
  readonly settleContainer: (options: {
    readonly declaration: ContainerDeclaration;
    readonly flags: DeployFlags;
    readonly config: ImageConfig;
    readonly isolation: Isolation;
  }) => SettledContainer;
  readonly settleJob: (options: {
    readonly declaration: CodeJobDeclaration;
    readonly flags: DeployFlags;
    readonly isolation: Isolation;
  }) => SettledJob;
  readonly settleImageJob: (options: {
    readonly declaration: ImageJobDeclaration;
    readonly flags: DeployFlags;
    readonly config: ImageConfig;
    readonly isolation: Isolation;
  }) => SettledImageJob;
}
