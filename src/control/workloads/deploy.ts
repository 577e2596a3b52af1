// workloads deploy: an upload becomes revisions that serve. All its workloads are checked, then switched in one transaction.

import type { Upload } from "#builds/door.ts";
import type { Identity } from "#model/access.ts";
import { EbbError } from "#model/errors.ts";
import { accessLimits, deployLimits } from "#model/limits.ts";
import { defaultProject } from "#model/names.ts";
import { isOfImage, servingOf, type Project, type Revision, type Workload } from "#model/workload.ts";
import type { Mutation } from "#store/door.ts";
import { checkProjectName, checkWorkloadName, command, type Audit } from "../command.ts";
import type { Context } from "../context.ts";
import type { DeployProgress, DeployRequest, DeployResult } from "../door.ts";
import { checkRoomForProject, newProject } from "../projects/create.ts";
import { missingSecrets } from "../secrets/missing.ts";
import { planRevisions } from "./plan.ts";
import { readUpload, type Declared } from "./read-upload.ts";

export async function deploy(
  context: Context,
  identity: Identity,
  request: DeployRequest,
  progress: (step: DeployProgress) => void,
): Promise<void> {
  // The app file may name the project, and it is inside the archive: nobody's bytes are unpacked before they may deploy somewhere.
  const asked = request.project ?? identity.project;
  const target = request.name ?? request.folderName ?? null;
  const head = { command: "workloads deploy", identity, needs: "deploy", target } as const;
  const upload = await command(context, { ...head, project: asked ?? defaultProject }, async () => {
    checkRequest(request, asked);
    return receive(context, identity.project, request);
  });
  try {
    progress({ step: "received", files: upload.entries, bytes: upload.bytes });
    const name = request.name ?? request.folderName ?? null;
    const declared = await command(context, { ...head, project: asked ?? defaultProject }, () =>
      readUpload(upload.folder, name, context.app).then((found) => (checkDeclared(request, found), found)),
    );
    const project = request.project ?? declared.project ?? asked ?? defaultProject;
    await command(context, { ...head, project }, (audit) =>
      context.deploys.run(project, async () => {
        const frame = {
          project: projectFor(context, identity, project),
          flags: { memoryMb: request.memoryMb, env: request.env, public: request.public },
          upload,
          createdBy: identity.name,
          signal: request.signal,
          useCache: request.noCache !== true,
          gitCommit: request.gitCommit,
          progress,
        };
        const revisions = await planRevisions(context, frame, declared);
        const done = await context.changes.run(project, () =>
          switchTo(context, identity, project, revisions, request.prune, audit),
        );
        const sources = sourcesOf(declared);
        const results: DeployResult[] = [];
        for (const result of done.results) results.push({ ...result, source: sources.get(result.workload) ?? "." });
        const { kept, keptMore } = declared.app ? keptIn(context, project, namesOf(declared)) : nothingKept;
        progress({
          ...done,
          kept,
          keptMore,
          results,
        });
      }),
    );
  } finally {
    release(context, identity.project);
    await upload.discard();
  }
}

/** Counted until it is discarded: so many archives at a time, whoever sends them, and so many of those who are bound to one project. */
async function receive(context: Context, bound: string | null, request: DeployRequest): Promise<Upload> {
  const { uploads } = context;
  const own = bound === null ? 0 : (uploads.ofProject.get(bound) ?? 0);
  if (own >= deployLimits.uploadsPerProject) throw tooManyUploads(deployLimits.uploadsPerProject, " of this project");
  if (uploads.open >= deployLimits.uploadsAtOnce) throw tooManyUploads(deployLimits.uploadsAtOnce, "");
  uploads.open += 1;
  if (bound !== null) uploads.ofProject.set(bound, own + 1);
  try {
    return await context.builds.receive(request.archive);
  } catch (error) {
    release(context, bound);
    throw error;
  }
}

function tooManyUploads(count: number, whose: string): EbbError {
  return new EbbError("over_quota", `${count} deploys${whose} are under way; repeat when one has ended`, {
    retryAfterSeconds: 5,
  });
}

function release({ uploads }: Context, bound: string | null): void {
  uploads.open -= 1;
  if (bound === null) return;
  const left = uploads.ofProject.get(bound)! - 1;
  if (left === 0) uploads.ofProject.delete(bound);
  else uploads.ofProject.set(bound, left);
}

function checkRequest(request: DeployRequest, project: string | null): void {
  if (project !== null) checkProjectName(project);
  if (request.name !== null) checkWorkloadName(request.name, project ?? defaultProject);
  if (request.gitCommit !== null && !/^[0-9a-f]{7,64}(-dirty)?$/.test(request.gitCommit))
    throw new EbbError("bad_request", "gitCommit: expected 7 to 64 hexadecimal digits, with -dirty where the tree is");
}

function checkDeclared(request: DeployRequest, declared: Declared): void {
  if (declared.app && request.name !== null)
    throw new EbbError("bad_request", "--name names the function of a plain folder; here ebb.yaml names them");
  if (request.prune.length === 0) return;
  if (!declared.app)
    throw new EbbError("bad_request", "--prune removes what ebb.yaml does not declare; there is no ebb.yaml here");
  const both = namesOf(declared).find((name) => request.prune.includes(name));
  if (both)
    throw new EbbError(
      "bad_request",
      `prune: "${both}" is declared in ebb.yaml; only what it does not declare can be removed`,
    );
}

/** Whoever may create projects need not do it first; for everybody else it must exist. */
function projectFor(context: Context, identity: Identity, name: string): Project {
  checkProjectName(name);
  const project = context.mirror.project(name);
  if (project) return project;
  const mayCreate = name === defaultProject || context.access.authorize(identity, "admin", null) === null;
  if (!mayCreate)
    throw new EbbError("not_found", `there is no project "${name}"; an admin creates it: ebb projects create ${name}`);
  checkRoomForProject(context);
  return newProject(name, context.clock.wallMs());
}

interface Switched extends Omit<Extract<DeployProgress, { step: "deployed" }>, "results" | "kept" | "keptMore"> {
  readonly results: ReadonlyArray<Omit<DeployResult, "source">>;
}

interface Switch {
  readonly workload: Workload;
  readonly revision: Revision;
  readonly before: number | null;
  readonly unchanged: boolean;
}

/** Under the project's change lane: what was read here still holds when it is applied. */
async function switchTo(
  context: Context,
  identity: Identity,
  project: string,
  revisions: readonly Revision[],
  prune: readonly string[],
  audit: Audit,
): Promise<Switched> {
  const mutations: Mutation[] = [];
  if (!context.mirror.project(project))
    mutations.push({ kind: "put_project", project: projectFor(context, identity, project) });
  checkRoom(context, project, revisions);
  const switches: Switch[] = [];
  for (const revision of revisions) switches.push(await plan(context, revision, mutations));
  const removed = prune
    .map((name) => context.mirror.workload(project, name)?.workload)
    .filter((workload) => workload !== undefined);
  for (const key of removed) mutations.push({ kind: "remove_workload", key });
  await context.store.apply({ mutations, audit: audit(words(switches, removed)) });

  for (const { workload, revision, unchanged } of switches) {
    if (unchanged) continue;
    context.changed(workload, revision, `r${revision.number} deployed`);
    const { workload: name, number } = revision;
    context.tell({ kind: "deployed", project, workload: name, revision: number, by: identity.name });
  }
  for (const workload of removed) {
    context.changed(workload, null, `removed by ${identity.name}`);
    context.tell({ kind: "removed", project, workload: workload.workload, by: identity.name });
  }
  return {
    step: "deployed",
    results: switches.map((one) => resultOf(context, one)),
    removed: removed.map(({ workload }) => workload),
  };
}

/** Where in what was sent each of them is; an image of a registry is not in it. */
function sourcesOf({ functions, containers, jobs }: Declared): ReadonlyMap<string, string> {
  const sources = new Map<string, string>();
  for (const one of [...functions, ...containers, ...jobs])
    if ("source" in one) sources.set(one.name, one.source);
    else if (one.from.kind !== "registry") sources.set(one.name, one.from.path);
  return sources;
}

function namesOf({ functions, containers, jobs }: Declared): readonly string[] {
  return [...functions, ...containers, ...jobs].map(({ name }) => name);
}

const nothingKept = { kept: [], keptMore: 0 };

/** What the project has beside the app file: some of it by name, for there may be 100,000 others. */
function keptIn(
  { mirror }: Context,
  project: string,
  names: readonly string[],
): { readonly kept: readonly string[]; readonly keptMore: number } {
  const declared = new Set(names);
  const kept: string[] = [];
  for (const { workload } of mirror.workloads(project)) {
    if (kept.length === deployLimits.prunedAtOnce) break;
    if (!declared.has(workload.workload)) kept.push(workload.workload);
  }
  const there = [...declared].filter((name) => mirror.workload(project, name) !== null).length;
  return { kept, keptMore: mirror.count(project) - there - kept.length };
}

function checkRoom(context: Context, project: string, revisions: readonly Revision[]): void {
  const added = revisions.filter(({ workload }) => context.mirror.workload(project, workload) === null).length;
  if (added > 0 && context.mirror.count(project) + added > accessLimits.workloadsPerProject)
    throw new EbbError(
      "over_quota",
      `project "${project}" would have more than ${accessLimits.workloadsPerProject} workloads`,
    );
  // A secret may have been removed while the code was being checked.
  for (const { workload, settings } of revisions) {
    const [secret] = missingSecrets(context.mirror, project, settings.secrets);
    if (secret !== undefined)
      throw new EbbError("deploy_refused", `${workload} needs the secret ${secret}; set it: ebb secrets set ${secret}`);
  }
}

async function plan(context: Context, revision: Revision, mutations: Mutation[]): Promise<Switch> {
  const found = context.mirror.workload(revision.project, revision.workload);
  const nowMs = context.clock.wallMs();
  if (found && found.revision.digest === revision.digest)
    return { workload: found.workload, revision: found.revision, before: found.workload.current, unchanged: true };
  const { project, workload: name, kind } = revision;
  const older = found ? await context.store.revisions(found.workload) : [];
  const number = Math.max(0, ...older.map((one) => one.number)) + 1;
  const numbered = { ...revision, number, createdMs: nowMs };
  const workload = {
    project,
    workload: name,
    kind,
    current: number,
    createdMs: found?.workload.createdMs ?? nowMs,
    updatedMs: nowMs,
  };
  mutations.push({ kind: "put_revision", revision: numbered }, { kind: "put_workload", workload });
  // The one that has served until now stays, however old: it is what a rollback goes to.
  for (const old of older.slice(deployLimits.revisionsKept - 1))
    if (old.number !== found?.workload.current)
      mutations.push({ kind: "remove_revision", key: { project, workload: name }, number: old.number });
  return { workload, revision: numbered, before: found?.workload.current ?? null, unchanged: false };
}

function words(switches: readonly Switch[], removed: readonly Workload[]): string {
  return [
    ...switches.map(({ revision, before, unchanged }) => {
      const was = unchanged ? " unchanged" : before === null ? "" : ` (was r${before})`;
      return `${revision.workload} r${revision.number}${was}`;
    }),
    ...removed.map(({ workload }) => `${workload} removed`),
  ].join(", ");
}

function resultOf(context: Context, { workload, revision, before, unchanged }: Switch): Omit<DeployResult, "source"> {
  return {
    workload: workload.workload,
    project: workload.project,
    revision: revision.number,
    before,
    unchanged,
    ...whatRuns(revision),
    public: servingOf(revision)?.settings.public ?? false,
    ...(servingOf(revision) ? context.urlsOf(workload) : { url: null, pathUrl: null }),
  };
}

function whatRuns(revision: Revision) {
  const nothing = { runtime: null, entry: null, handler: null, signature: null, image: null, imageDigest: null };
  const { command } = revision.settings;
  if (revision.kind === "container") {
    const { imageDigest, settings, kind } = revision;
    return { ...nothing, kind, image: settings.image, imageDigest, command };
  }
  if (revision.kind === "job") {
    const whole = { kind: revision.kind, command: [...revision.settings.command, ...revision.settings.args] };
    if (!isOfImage(revision)) return { ...nothing, ...whole, runtime: revision.settings.runtime };
    return { ...nothing, ...whole, image: revision.settings.image, imageDigest: revision.imageDigest };
  }
  const { runtime, entry, handler, signature } = revision.settings;
  return { ...nothing, kind: revision.kind, runtime, entry, handler, signature, command };
}
