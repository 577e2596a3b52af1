// OCI images: where they come from, what is kept of them on the machine, and what must never be in them.

/** What an image says about itself; how it is run is the sandbox's matter. */
export interface ImageConfig {
  readonly entrypoint: readonly string[];
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Absolute, without "." or ".."; "/" where the image says nothing. */
  readonly workingDirectory: string;
  /** As the image says it: "", "1000", "app", "1000:1000". */
  readonly user: string;
  /** The first exposed TCP port. */
  readonly port: number | null;
  /** "SIGQUIT" or a number, as the image says it. */
  readonly stopSignal: string | null;
}

export interface Image {
  /** "sha256:…" of the manifest for this machine's platform: what a revision pins. */
  readonly digest: string;
  /** As the user wrote it. */
  readonly reference: string;
  readonly config: ImageConfig;
  /**
   * Absolute folders of the host, lowest first, to be laid over each other by overlayfs: owners and modes as in the image, whiteouts
   * as overlayfs has them, and none is there twice. All lie in one folder that root alone may enter, and are never written again. No device, set-id file or
   * file capability is in them; /proc, /sys and /dev are empty folders or not there; /etc, /run and /tmp are folders or not there.
   */
  readonly layers: readonly string[];
  /** Of its layers, unpacked; layers may be shared with other images. */
  readonly bytes: number;
}

export type ImageSource =
  /** "debian:12", "ghcr.io/o/app@sha256:…": what is left out is completed as docker does. */
  | { readonly kind: "registry"; readonly reference: string }
  /** A file: `docker save`, or an OCI layout in a tar; plain or gzipped. */
  | { readonly kind: "archive"; readonly path: string }
  /** A folder with index.json and blobs/. */
  | { readonly kind: "layout"; readonly path: string }
  | BuildSource;

/** A folder with a Dockerfile. */
export interface BuildSource {
  readonly kind: "build";
  readonly context: string;
  /** Below the context; null: Containerfile or Dockerfile. */
  readonly file: string | null;
  /** Values of its ARGs: no secret. */
  readonly args?: Readonly<Record<string, string>>;
  /** The stage that is the image; the last one when left out. */
  readonly target?: string;
  /** false: all of it is built and run, whatever is kept of earlier builds. */
  readonly useCache?: boolean;
}

/** Never in an argument, a log or an error: it goes through a file that its one reader may read, and that goes with the fetch. */
export interface RegistryLogin {
  /** "docker.io", "registry.example.com:5000". */
  readonly registry: string;
  readonly username: string;
  readonly password: string;
}

export interface FetchOptions {
  /** Whose it is: what one project fetched is given to another only when that one may fetch it too. */
  readonly project: string;
  readonly login: RegistryLogin | null;
  /** One line a step, for the person who waits; `printed`: what a command of a build has printed. */
  readonly progress: (line: string, printed?: boolean) => void;
  readonly signal?: AbortSignal;
}

export interface Images {
  /** Removes what a fetch left that was killed in its middle. */
  start(): Promise<void>;
  /** Ends the fetches under way. */
  stop(): Promise<void>;
  /**
   * Pulls, loads or builds. EbbError: `image_refused` (what it is or says is at fault), `image_not_found`, `registry_failed` (down,
   * slow, lying), `storage_full`, `stopping`; `conflict` where `signal` ended it. Nothing of a failed fetch stays.
   */
  fetch(source: ImageSource, options: FetchOptions): Promise<Image>;
  /** What is here, from memory; null: it is not (collected, or never fetched): fetch it again. */
  get(digest: string): Image | null;
  /** Removes what no digest in `keep` needs (of revisions, and of what still runs), no fetch under way uses and no fetch of the last minutes brought. The number of images. */
  collect(keep: ReadonlySet<string>): Promise<number>;
  /** Another project of the same name is another tenant: it fetches for itself. What revisions name stays until it is collected. */
  forget(project: string): Promise<void>;
}
