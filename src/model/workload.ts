// What users deploy: projects, workloads, and the immutable revisions of them.

export type WorkloadKind = "function" | "container" | "job";
export type RuntimeName = "node22" | "node24" | "node26" | "python3" | "custom";

/** What a user may write in `signature:`. */
export type DeclaredSignature = "web" | "event" | "node";
/** What a runtime answers that it recognised; `server`: the code listens itself; `program`: runtime custom. */
export type Signature = DeclaredSignature | "server" | "wsgi" | "asgi" | "program";

/** What a sandbox is made with: a list begins as none, and is opened to the instance that it becomes. */
export type EgressClass = "none" | "internet";
/** A list holds entries as `db.example.com:5432`, in the one way of writing them (egress.ts). */
export type Egress = EgressClass | readonly string[];
/** container: an OCI sandbox; gvisor: one with a kernel of its own; process: nothing is isolated (development only). */
export type Isolation = "container" | "gvisor" | "process";

/** What every workload has. Settings have every default filled in: what runs is what is written here. */
export interface WorkloadSettings {
  readonly memoryMb: number;
  /** vCPU: a weight; the ceiling is max(1, cpu), or cpu itself where cpuStrict. */
  readonly cpu: number;
  readonly cpuStrict: boolean;
  readonly timeoutSeconds: number;
  readonly env: Readonly<Record<string, string>>;
  /** Names of the project's secrets that the instance gets as environment variables. */
  readonly secrets: readonly string[];
  readonly egress: Egress;
  readonly isolation: Isolation;
}

/** What another instance is added for before all slots are taken: requests in flight, or what an instance may use, on average. */
export type Scaling =
  | { readonly requests: number }
  | { readonly cpuPercent: number }
  | { readonly memoryPercent: number };

/** What is called and scales by its calls: functions and containers. */
export interface ServingSettings {
  /** Never more at a time in one instance, by whatever it scales. */
  readonly concurrency: number;
  /** Left out: by its slots alone, which is what `concurrency` says. */
  readonly scaling?: Scaling;
  readonly min: number;
  readonly max: number;
  readonly idleSeconds: number;
  readonly public: boolean;
}

export interface FunctionSettings extends WorkloadSettings, ServingSettings {
  readonly runtime: RuntimeName;
  /** File that is loaded, relative to the code; null for runtime custom. Recognised at deploy when left out. */
  readonly entry: string | null;
  /** Export (or dotted path) that handles; null where the code listens itself. */
  readonly handler: string | null;
  readonly signature: Signature;
  /** Runtime custom only: program and arguments, relative to the code. */
  readonly command: readonly string[] | null;
}

export interface HttpProbe {
  /** A path, which answers with a status of 2xx or 3xx where all is well. */
  readonly http: string;
}

/** What an instance speaks to ebb: HTTP/1.1, or HTTP/2 without TLS from the first byte ("prior knowledge"), as gRPC does. */
export type Protocol = "http1" | "h2c";

/** How it is known that an instance serves: its port takes connections, or a path of it answers. */
export type Probe = { readonly tcp: true } | HttpProbe;

export interface ContainerSettings extends WorkloadSettings, ServingSettings {
  /** The image as it was asked for; which one that was is the revision's `imageDigest`. */
  readonly image: string;
  /** What is run, whole: the image's entrypoint and command, with what the app file says in their place. */
  readonly command: readonly string[];
  /** Where it listens, which it is told as PORT. */
  readonly port: number;
  /** Left out in what was deployed before there was a choice: http1. */
  readonly protocol?: Protocol;
  readonly probe: Probe;
  /** Asked while an instance serves and is not paused: one that does not answer well is replaced. null: nothing is asked. */
  readonly liveness: HttpProbe | null;
  /** What it may write to its files, which count to its memory. */
  readonly writableMb: number;
}

/** What a run of it is. */
export interface JobSettings extends WorkloadSettings {
  /** Program and arguments: relative to the code; or the image's entrypoint, or what is said in its place. */
  readonly command: readonly string[];
  /** Behind the command; a run may have others. With an image: its command, or what is said in its place. */
  readonly args: readonly string[];
  /** Attempts after the first that failed, of each task. */
  readonly retries: number;
  /** Tasks of a run, all at the same time; each is told its index. */
  readonly parallelism: number;
  /** What the platform interrupted is started again, without using a retry. */
  readonly rerunOnInterrupt: boolean;
}

/** Its root is that of a runtime, with the code in it. */
export interface CodeJobSettings extends JobSettings {
  /** Which interpreters are there; the command says which one it wants. */
  readonly runtime: RuntimeName;
}

/** Its root is an image's. */
export interface ImageJobSettings extends JobSettings {
  /** As a container's. */
  readonly image: string;
  readonly writableMb: number;
}

/** Where an effective setting comes from, for `ebb show`. */
export type SettingSource = "app file" | "flag" | "image" | "recognised" | "default";

export interface WorkloadKey {
  readonly project: string;
  readonly workload: string;
}

/** What every revision has: one immutable deployed version of a workload. */
interface RevisionOf<Kind extends WorkloadKind, Settings> extends WorkloadKey {
  readonly kind: Kind;
  /** Counts up from 1 within the workload; shown as rN. */
  readonly number: number;
  /** sha256 over what runs and its settings: the same twice is no new revision. */
  readonly digest: string;
  readonly settings: Settings;
  readonly settingSources: SourcesOf<Settings>;
  readonly createdMs: number;
  /** Name of the token that deployed it. */
  readonly createdBy: string;
  readonly gitCommit: string | null;
}

export type SourcesOf<Settings> = Readonly<Partial<Record<keyof Settings, SettingSource>>>;

export interface FunctionRevision extends RevisionOf<"function", FunctionSettings> {
  /** sha256 of the code tree as it runs (after transpiling); names it in the code store. */
  readonly codeDigest: string;
}

export interface ContainerRevision extends RevisionOf<"container", ContainerSettings> {
  /** "sha256:…" of the image's manifest; names it in the store of images. */
  readonly imageDigest: string;
}

export interface CodeJobRevision extends RevisionOf<"job", CodeJobSettings> {
  /** As a function's, and built the same way. */
  readonly codeDigest: string;
}

export interface ImageJobRevision extends RevisionOf<"job", ImageJobSettings> {
  /** As a container's. */
  readonly imageDigest: string;
}

export type JobRevision = CodeJobRevision | ImageJobRevision;

/** What is called, and scales by its calls. */
export type ServingRevision = FunctionRevision | ContainerRevision;

export type Revision = ServingRevision | JobRevision;

/** null: it is no workload that is called. */
export function servingOf(revision: Revision): ServingRevision | null {
  return revision.kind === "job" ? null : revision;
}

/** Requests in flight that one instance is for. */
export function requestsEach({ concurrency, scaling }: Pick<ServingSettings, "concurrency" | "scaling">): number {
  return scaling !== undefined && "requests" in scaling ? Math.min(scaling.requests, concurrency) : concurrency;
}

/** Only the driver knows by how much it is used; else the activator does. */
export function scalesByUse(scaling: Scaling | undefined): scaling is Exclude<Scaling, { readonly requests: number }> {
  return scaling !== undefined && !("requests" in scaling);
}

export function protocolOf(revision: Revision): Protocol {
  return revision.kind === "container" ? (revision.settings.protocol ?? "http1") : "http1";
}

/** What it is made of, by its content: code or image. What some revision names is kept. */
export function contentDigestOf(revision: Revision): string {
  return isOfImage(revision) ? revision.imageDigest : revision.codeDigest;
}

/** A run may have other memory than its job. */
export function withMemory(revision: JobRevision, memoryMb: number): JobRevision {
  return isOfImage(revision)
    ? { ...revision, settings: { ...revision.settings, memoryMb } }
    : { ...revision, settings: { ...revision.settings, memoryMb } };
}

/** Its root is an image's, and no code of ours is in it. */
export function isOfImage(revision: Revision): revision is ContainerRevision | ImageJobRevision {
  return "imageDigest" in revision;
}

export interface Workload extends WorkloadKey {
  readonly kind: WorkloadKind;
  /** Number of the revision that serves. */
  readonly current: number;
  readonly createdMs: number;
  readonly updatedMs: number;
}

export interface ProjectQuotas {
  /** Of all instances of the project together; null: the machine's. */
  readonly memoryMb: number | null;
  readonly instances: number | null;
  /** Invocations a second, with a burst of the same size; null: no rate. */
  readonly ratePerSecond: number | null;
}

export interface Project {
  readonly name: string;
  readonly quotas: ProjectQuotas;
  /** Networks that are not public and may be reached, as `10.1.0.0/16:5432` (egress.ts); left out: none. */
  readonly egressPermit?: readonly string[];
  readonly createdMs: number;
}

/** "project/workload": the key of maps; neither name can hold a slash. */
export function keyOf(of: WorkloadKey): string {
  return `${of.project}/${of.workload}`;
}

/** Things by workload: asked several times for each request, so no key is made of the two names. */
export class WorkloadMap<T> {
  readonly #projects = new Map<string, Map<string, T>>();

  get({ project, workload }: WorkloadKey): T | undefined {
    return this.#projects.get(project)?.get(workload);
  }

  set({ project, workload }: WorkloadKey, value: T): void {
    const ofProject = this.#projects.get(project);
    if (ofProject === undefined) this.#projects.set(project, new Map([[workload, value]]));
    else ofProject.set(workload, value);
  }

  delete({ project, workload }: WorkloadKey): void {
    const ofProject = this.#projects.get(project);
    if (ofProject?.delete(workload) && ofProject.size === 0) this.#projects.delete(project);
  }

  *values(): Generator<T> {
    for (const ofProject of this.#projects.values()) yield* ofProject.values();
  }

  clear(): void {
    this.#projects.clear();
  }
}

/** "project/workload@rN": names one revision. */
export function revisionKeyOf(revision: Revision): string {
  return `${revision.project}/${revision.workload}@r${revision.number}`;
}
