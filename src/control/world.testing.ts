// For tests: control and access for real, over doubles of the rooms around them. An "archive" is JSON of file names to texts.

import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { createHash } from "node:crypto";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { createAccess, type AccessRoom } from "#access/access.ts";
import { settleContainer } from "#app/container-settings.ts";
import type { AppFile } from "#app/door.ts";
import type { Upload } from "#builds/door.ts";
import type { FetchOptions, Image, Images, ImageSource } from "#images/door.ts";
import type { AuditEntry, Identity, Scope, Secret, Token } from "#model/access.ts";
import type { Clock } from "#model/clock.ts";
import { accept } from "#jobs/decide.ts";
import { EbbError } from "#model/errors.ts";
import { newInvocationId } from "#model/ids.ts";
import type { Fact, Tell } from "#model/fact.ts";
import type { Failure } from "#model/instance.ts";
import { functionDefaults } from "#model/limits.ts";
import type { Run } from "#model/run.ts";
import {
  keyOf,
  contentDigestOf,
  type FunctionRevision,
  type FunctionSettings,
  type Project,
  type RuntimeName,
  type Revision,
  type Workload,
  type Isolation,
} from "#model/workload.ts";
import type { Change, Mirror, Mutation, RunQuery } from "#store/door.ts";
import type { AppTools, SettledFunction } from "./app-tools.ts";
import { settleImageJob, settleJob } from "#app/settle-job.ts";
import { createControl, type ControlRoom } from "./control.ts";
import type { ControlOptions } from "./context.ts";
import type { DeployProgress, DeployRequest } from "./door.ts";

/** State as the store keeps it, in memory; the mirror reads the same maps. */
export function createMemoryState() {
  const projects = new Map<string, Project>();
  const workloads = new Map<string, Workload>();
  const revisions = new Map<string, Revision[]>();
  const tokens = new Map<string, Token>();
  const secrets = new Map<string, Secret>();
  const runs: Run[] = [];
  const audits: AuditEntry[] = [];
  const listeners: Array<(mutations: readonly Mutation[]) => void> = [];
  const found = (workload: Workload | undefined) => {
    const revision = workload && revisions.get(keyOf(workload))?.find(({ number }) => number === workload.current);
    return workload && revision ? { workload, revision } : null;
  };
  function mutate(mutation: Mutation): void {
    switch (mutation.kind) {
      case "put_project":
        return void projects.set(mutation.project.name, mutation.project);
      case "remove_project":
        return void projects.delete(mutation.project);
      case "put_workload":
        return void workloads.set(keyOf(mutation.workload), mutation.workload);
      case "remove_workload":
        workloads.delete(keyOf(mutation.key));
        return void revisions.delete(keyOf(mutation.key));
      case "put_revision": {
        const key = keyOf(mutation.revision);
        const others = (revisions.get(key) ?? []).filter(({ number }) => number !== mutation.revision.number);
        return void revisions.set(
          key,
          [mutation.revision, ...others].toSorted((a, b) => b.number - a.number),
        );
      }
      case "remove_revision": {
        const key = keyOf(mutation.key);
        const rest = (revisions.get(key) ?? []).filter(({ number }) => number !== mutation.number);
        return void revisions.set(key, rest);
      }
      case "put_run":
        return void runs.push(mutation.run);
      case "put_token":
        return void tokens.set(mutation.token.id, mutation.token);
      case "remove_token":
        return void tokens.delete(mutation.id);
      case "put_secret":
        return void secrets.set(`${mutation.secret.project}/${mutation.secret.name}`, mutation.secret);
      case "remove_secret":
        return void secrets.delete(`${mutation.project}/${mutation.name}`);
    }
  }
  const mirror: Mirror = {
    project: (name) => projects.get(name) ?? null,
    projects: () => projects.values(),
    workload: (project, name) => found(workloads.get(`${project}/${name}`)),
    count: (project) => [...workloads.values()].filter((one) => one.project === project).length,
    workloads: (project) =>
      [...workloads.values()]
        .filter((one) => project === undefined || one.project === project)
        .map(found)
        .filter((one) => one !== null),
    tokenByHash: (hash) => [...tokens.values()].find((token) => token.hash === hash) ?? null,
    tokens: (project) => [...tokens.values()].filter((token) => project === null || token.project === project),
    secret: (project, name) => secrets.get(`${project}/${name}`) ?? null,
    secrets: (project) => [...secrets.values()].filter((secret) => secret.project === project),
    onChange: (listener) => void listeners.push(listener),
  };
  const store = {
    apply: async (change: Change) => {
      await Promise.resolve();
      change.mutations.forEach(mutate);
      audits.push(change.audit);
      for (const listener of listeners) listener(change.mutations);
    },
    audit: async (entry: AuditEntry) => void audits.push(entry),
    audits: async (query: { project: string | null; sinceMs: number; limit: number }) =>
      audits
        .filter(({ project }) => query.project === null || project === query.project)
        .toReversed()
        .slice(0, query.limit),
    revisions: async (key: { project: string; workload: string }) => revisions.get(keyOf(key)) ?? [],
    runs: async ({ project, workload, id, limit }: RunQuery) =>
      runs
        .filter(
          ({ revision, ...run }) =>
            revision.project === project &&
            (workload ?? revision.workload) === revision.workload &&
            (id ?? run.id) === run.id,
        )
        .toReversed()
        .slice(0, limit),
    contentDigests: async () => new Set([...revisions.values()].flat().map(contentDigestOf)),
  };
  return { mirror, store, audits };
}

/** Reads `ebb.yaml` as JSON; a line `!problem` in place of it is a wrong app file. */
const readApp: AppTools["readApp"] = (source, file) => {
  if (source.startsWith("!"))
    return { ok: false, problems: [{ file, line: 3, path: "functions.a.memoryMb", message: source.slice(1) }] };
  const app: unknown = JSON.parse(source);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a double: the test wrote it
  return { ok: true, app: { project: null, ...(app as Partial<AppFile>), functions: (app as AppFile).functions } };
};

/** Reads JSON, takes everything for Node. */
const double: AppTools = {
  readApp,
  settle,
  settleContainer,
  settleJob,
  settleImageJob,
  recognise: async (_source, declaration) => ({ runtime: declaration.runtime ?? "node26", entry: null }),
};

function settle({ declaration, flags, recognised, isolation }: Parameters<AppTools["settle"]>[0]): SettledFunction {
  const { cpuPerMb, ...defaults } = functionDefaults;
  const memoryMb = flags.memoryMb ?? declaration.memoryMb ?? defaults.memoryMb;
  const settings: FunctionSettings = {
    ...defaults,
    runtime: recognised.runtime,
    entry: null,
    handler: declaration.handler ?? null,
    signature: declaration.signature ?? "web",
    command: null,
    memoryMb,
    cpu: memoryMb * cpuPerMb,
    cpuStrict: false,
    min: declaration.min ?? 0,
    public: flags.public ?? declaration.public ?? false,
    env: { ...declaration.env, ...flags.env },
    secrets: declaration.secrets ?? [],
    egress: declaration.egress ?? "internet",
    isolation: declaration.isolation ?? isolation,
  };
  return { settings, sources: declaration.signature ? { signature: "app file" } : {} };
}

/** What serves under this name, which is a function. */
export function functionOf(world: Pick<World, "mirror">, name: string, project = "default"): FunctionRevision {
  const { revision } = world.mirror.workload(project, name)!;
  assert.ok(revision.kind === "function");
  return revision;
}

export interface World {
  /** What is in the registries, by the name it is asked for; "archive", "layout" and "build" by that. */
  readonly images: Map<string, Image>;
  readonly pulls: ReadonlyArray<{ readonly source: ImageSource; readonly options: FetchOptions }>;
  readonly control: ControlRoom;
  readonly access: AccessRoom;
  readonly mirror: Mirror;
  readonly store: ReturnType<typeof createMemoryState>["store"];
  readonly audits: readonly AuditEntry[];
  readonly facts: readonly Fact[];
  readonly tell: Tell;
  /** `changed` and `replaced`, as words. */
  readonly effects: string[];
  readonly clock: Clock & { nowMs: number };
  /** How loading a file with this text fails. */
  readonly loadFailures: Map<string, Failure>;
  /** Runtimes whose interpreter must be fetched first. */
  readonly missing: Set<RuntimeName>;
  /** Workloads that were loaded, in order. */
  readonly loads: string[];
  /** Awaited by each load. */
  gate: Promise<void>;
  readonly uploadsOpen: () => number;
  readonly urlsOf: ControlOptions["urlsOf"];
  readonly admin: Identity;
  mint(
    scope: Scope,
    project: string | null,
    expiresMs?: number | null,
  ): Promise<{ identity: Identity; text: string; id: string }>;
  deploy(
    files: Record<string, string>,
    options?: Partial<DeployRequest>,
    identity?: Identity,
  ): Promise<DeployProgress[]>;
  stop(): Promise<void>;
}

export const urlsOf: ControlOptions["urlsOf"] = ({ project, workload }) => ({
  url: `http://${workload}${project === "default" ? "" : `--${project}`}.localhost:8080`,
  pathUrl: `http://127.0.0.1:8080/run/${project}/${workload}/`,
});

/** `app`: the real room, where reading is what is tested. */
export async function createWorld(
  given: {
    readonly app?: AppTools;
    readonly forget?: (project: string) => Promise<void>;
    readonly images?: null;
    readonly isolation?: Isolation;
    readonly gvisorProblem?: string;
  } = {},
): Promise<World> {
  const folder = await mkdtemp(join(tmpdir(), "ebb-world-"));
  const { mirror, store, audits } = createMemoryState();
  const clock = {
    nowMs: Date.UTC(2026, 10, 24, 12, 30),
    wallMs: () => clock.nowMs,
    monotonicUs: () => 0,
    after: () => () => {},
  };
  const access = createAccess({ mirror, keyFile: join(folder, "secrets.key") });
  access.start();
  const effects: string[] = [];
  const facts: Fact[] = [];
  const tell: Tell = (fact) => void facts.push(fact);
  const loads: string[] = [];
  const loadFailures = new Map<string, Failure>();
  const images = new Map<string, Image>();
  const pulls: Array<World["pulls"][number]> = [];
  const texts = new Map<string, string>();
  const missing = new Set<RuntimeName>();
  const uploads = new Set<string>();
  const world = { gate: Promise.resolve() };

  async function receive(archive: Readable): Promise<Upload> {
    const body = await text(archive);
    if (!body.startsWith("{")) throw new EbbError("invalid_archive", "not a gzipped tar");
    const files: Record<string, string> = JSON.parse(body);
    const into = await mkdtemp(join(folder, "upload-"));
    uploads.add(into);
    for (const [name, content] of Object.entries(files)) {
      await mkdir(dirname(join(into, name)), { recursive: true });
      await writeFile(join(into, name), content);
    }
    const discard = async () => {
      uploads.delete(into);
      await rm(into, { recursive: true });
    };
    return { folder: into, entries: Object.keys(files).length, bytes: body.length, discard };
  }

  const fetch: Images["fetch"] = async (source, options) => {
    pulls.push({ source, options });
    options.progress("asking for it");
    const image = images.get(source.kind === "registry" ? source.reference : source.kind);
    if (image === undefined) throw new EbbError("image_not_found", "there is no such image");
    return image;
  };

  const control = createControl({
    store,
    mirror,
    access,
    clock,
    isolation: given.isolation ?? "container",
    gvisorProblem: async () => given.gvisorProblem ?? null,
    urlsOf,
    tell,
    changed: ({ workload }, revision) =>
      void effects.push(`changed ${workload} ${revision ? `r${revision.number}` : "gone"}`),
    replaced: ({ workload }, revision) => void effects.push(`replaced ${workload} r${revision.number}`),
    app: given.app ?? double,
    builds: {
      loadCaches: { forget: given.forget ?? (async () => {}) },
      receive,
      build: async (upload, source) => {
        const names = (await readdir(join(upload.folder, source))).toSorted();
        const content = await Promise.all(
          names.map((name) =>
            import("node:fs/promises").then((fs) =>
              fs.readFile(join(upload.folder, source, name), "utf8").catch(() => ""),
            ),
          ),
        );
        const digest = createHash("sha256")
          .update(JSON.stringify([names, content]))
          .digest("hex");
        texts.set(digest, content.join("\n"));
        return { digest, files: names.length, bytes: 1, transpiled: 0 };
      },
      collect: async () => 0,
    },
    images:
      given.images === null
        ? null
        : {
            fetch,
            collect: async () => 0,
            forget: async (project) => void effects.push(`images of ${project} forgotten`),
          },
    interpreters: {
      provide: async (runtime, fetching) => {
        if (!missing.delete(runtime)) return;
        fetching(`an interpreter for ${runtime}`);
        await Promise.resolve();
      },
    },
    jobs: {
      make: (request) => {
        const nowMs = clock.wallMs();
        return accept({ id: newInvocationId(nowMs), ...request }, nowMs);
      },
      doubtful: ({ id }) => void effects.push(`doubtful ${id}`),
      accepted: ({ id }) => void effects.push(`accepted ${id}`),
      latest: (run) => run,
      stopRun: async (id) => void effects.push(`stopped ${id}`),
    },
    fleet: {
      contentInUse: () => new Set(),
      prove: async ({ imageDigest }) => loadFailures.get(imageDigest) ?? null,
      check: async (revision) => {
        await world.gate;
        loads.push(revision.workload);
        const content = contentDigestOf(revision);
        const body = texts.get(content) ?? content;
        for (const [part, failure] of loadFailures)
          if (body.includes(part)) return { ok: false as const, failure, output: "printed while loading\n" };
        const ready = { entry: "index.js", handler: "default", signature: "web", done: "told", shares: false } as const;
        return { ok: true, ...ready, phases: {} };
      },
    },
  });

  const mint: World["mint"] = async (scope, project, expiresMs = null) => {
    const name = `${scope} of ${project ?? "all"}`;
    const { text: minted, token } = access.mint({ name, project, scope, expiresMs, nowMs: clock.nowMs });
    await store.apply({
      mutations: [{ kind: "put_token", token }],
      audit: {
        timeMs: 0,
        identity: "test",
        command: "tokens create",
        project,
        target: name,
        outcome: "ok",
        detail: "",
      },
    });
    const identity = access.authenticate(minted, clock.nowMs) ?? { name, project, scope, instance: null };
    return { identity, text: minted, id: token.id };
  };
  await control.bootstrap(null);
  const admin = (await mint("admin", null)).identity;

  return Object.assign(world, {
    control,
    access,
    mirror,
    store,
    audits,
    facts,
    tell,
    effects,
    clock,
    loadFailures,
    images,
    pulls,
    missing,
    loads,
    urlsOf,
    admin,
    mint,
    uploadsOpen: () => uploads.size,
    deploy: async (files: Record<string, string>, options: Partial<DeployRequest> = {}, identity = admin) => {
      const steps: DeployProgress[] = [];
      const request: DeployRequest = {
        project: null,
        name: null,
        memoryMb: null,
        env: {},
        public: null,
        prune: [],
        gitCommit: null,
        archive: Readable.from([JSON.stringify(files)]),
        ...options,
      };
      await control.deploy(identity, request, (step) => void steps.push(step));
      return steps;
    },
    stop: async () => {
      control.stop();
      await rm(folder, { recursive: true });
    },
  });
}
