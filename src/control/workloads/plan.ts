// From what was declared to revisions that may serve: settings, code, the load check. Everything is tried, and every problem told.

import { join } from "node:path";
import type { FunctionDeclaration } from "#app/door.ts";
import type { Upload } from "#builds/door.ts";
import { eachLimited } from "#lib/each-limited.ts";
import { EbbError } from "#model/errors.ts";
import { deployLimits } from "#model/limits.ts";
import type { FunctionRevision, Project, Revision } from "#model/workload.ts";
import type { DeployFlags, SettledFunction } from "../app-tools.ts";
import type { Context } from "../context.ts";
import type { DeployProgress } from "../door.ts";
import { declared as isDeclared, functionDigest } from "./digest.ts";
import { checkContainer, planContainer } from "./plan-container.ts";
import { checkEgress, checkIsolation, checkName, checkQuota, checkSecrets } from "./plan-checks.ts";
import { settleAnyJob } from "./plan-job.ts";
import type { Declared } from "./read-upload.ts";
import { problemOfCheck, problemOfError, refusal, type DeployProblem } from "./refusal.ts";

/** What every revision of one deploy shares. */
export interface DeployFrame {
  readonly project: Project;
  readonly flags: DeployFlags;
  readonly upload: Upload;
  readonly createdBy: string;
  /** Of earlier builds of images. */
  readonly useCache: boolean;
  readonly gitCommit: string | null;
  /** Whoever asked has gone. */
  readonly signal: AbortSignal | undefined;
  readonly progress: (step: DeployProgress) => void;
}

/** One workload: what is cheap to check of it, and then the rest. */
interface Planned {
  readonly name: string;
  readonly settle: () => Promise<Load>;
}

/** null: its problem has been noted. */
type Load = () => Promise<Revision | null>;

interface Settled {
  readonly declaration: FunctionDeclaration;
  readonly settled: SettledFunction;
}

/** Revisions in the order of the declarations; their numbers are given at the switch. Throws with all problems at once. */
export async function planRevisions(
  context: Context,
  frame: DeployFrame,
  declared: Pick<Declared, "functions" | "containers" | "jobs">,
): Promise<readonly Revision[]> {
  const problems: DeployProblem[] = [];
  const planned: Planned[] = [
    ...declared.functions.map((declaration) => ({
      name: declaration.name,
      settle: async () => {
        const settled = await settle(context, frame, declaration);
        return () => load(context, frame, settled, problems);
      },
    })),
    ...declared.containers.map((declaration) => ({
      name: declaration.name,
      settle: async () => {
        await checkContainer(context, frame, declaration);
        return () => planContainer(context, frame, declaration, problems);
      },
    })),
    ...declared.jobs.map((declaration) => ({
      name: declaration.name,
      settle: () => settleAnyJob(context, frame, declaration, problems),
    })),
  ];
  // Cheap checks of all of them before anything is built or fetched.
  const settled: Array<{ readonly name: string; readonly load: Load }> = [];
  for (const { name, settle: cheap } of planned) {
    const one = await collecting(problems, name, cheap);
    if (one) settled.push({ name, load: one });
  }
  if (problems.length > 0) throw refusal(problems);
  const revisions = await eachLimited(settled, deployLimits.functionsAtOnce, (one) =>
    collecting(problems, one.name, one.load),
  );
  if (problems.length > 0) {
    const order = planned.map(({ name }) => name);
    throw refusal(problems.toSorted((a, b) => order.indexOf(a.workload) - order.indexOf(b.workload)));
  }
  return revisions.filter((revision) => revision !== null);
}

/** What is wrong with one workload is noted, so that the others are still tried; a fault of the platform ends it all. */
async function collecting<T>(problems: DeployProblem[], name: string, run: () => Promise<T>): Promise<T | null> {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof EbbError) || error.kind.fault === "platform") throw error;
    problems.push(problemOfError(name, error));
    return null;
  }
}

async function settle(context: Context, frame: DeployFrame, declaration: FunctionDeclaration): Promise<Settled> {
  const project = frame.project.name;
  checkName(declaration.name, project);
  const recognised = await context.app.recognise(join(frame.upload.folder, declaration.source), declaration);
  for (const message of recognised.notes ?? []) frame.progress({ step: "noted", workload: declaration.name, message });
  const settled = context.app.settle({ declaration, flags: frame.flags, recognised, isolation: context.isolation });
  const { settings } = settled;
  checkSecrets(context, project, declaration.name, settings.secrets);
  await checkIsolation(context, declaration.name, settings);
  checkEgress(declaration.name, settings.egress, frame.project);
  checkQuota(frame.project, settings);
  return { declaration, settled };
}

async function load(
  context: Context,
  frame: DeployFrame,
  { declaration, settled }: Settled,
  problems: DeployProblem[],
): Promise<Revision | null> {
  const project = frame.project.name;
  const workload = declaration.name;
  frame.progress({ step: "building", workload });
  const { runtime: language, entry: file } = settled.settings;
  if (declaration.bundle && (!language.startsWith("node") || file === null))
    throw new EbbError("deploy_refused", `bundle: true is for Node, and ${workload} was recognised as ${language}`);
  const bundled = declaration.bundle ? file : null;
  const code = await context.builds.build(frame.upload, declaration.source, bundled);
  frame.progress({ step: "built", workload, files: code.files, transpiled: code.transpiled });
  const revision: FunctionRevision = {
    project,
    workload,
    kind: "function",
    number: (context.mirror.workload(project, workload)?.workload.current ?? 0) + 1,
    codeDigest: code.digest,
    digest: functionDigest(code.digest, settled),
    settings: settled.settings,
    settingSources: settled.sources,
    createdMs: context.clock.wallMs(),
    createdBy: frame.createdBy,
    gitCommit: frame.gitCommit,
  };
  const current = context.mirror.workload(project, workload)?.revision;
  const checked =
    current?.kind === "function" && current.digest === revision.digest
      ? taken(revision, current)
      : await check(context, frame, revision);
  if ("failure" in checked) {
    problems.push(problemOfCheck(workload, declaration.source, checked.failure, checked.output));
    return null;
  }
  const { runtime, entry, handler, signature } = checked.settings;
  frame.progress({ step: "checked", workload, runtime, entry, handler, signature });
  return checked;
}

/** The same code and settings were loaded before: what the runtime recognised then holds. */
function taken(revision: FunctionRevision, from: FunctionRevision): FunctionRevision {
  return { ...revision, settings: from.settings, settingSources: from.settingSources };
}

async function check(
  context: Context,
  { progress }: DeployFrame,
  revision: FunctionRevision,
): Promise<FunctionRevision | { readonly failure: DeployProblemFailure; readonly output: string }> {
  const { workload } = revision;
  await context.interpreters.provide(revision.settings.runtime, (what) =>
    progress({ step: "fetching", workload, what }),
  );
  progress({ step: "checking", workload });
  const found = await context.fleet.check(revision);
  if (!found.ok) {
    // Not its author's to mend: the platform's failure is never told as the function's.
    if (found.failure.fault === "platform") throw new EbbError("internal", found.failure.message);
    return found;
  }
  const entry = found.entry ?? revision.settings.entry;
  const { handler, signature } = found;
  const sources = { ...revision.settingSources };
  for (const key of ["entry", "handler", "signature"] as const)
    if (!isDeclared(sources, key)) sources[key] = "recognised";
  return { ...revision, settings: { ...revision.settings, entry, handler, signature }, settingSources: sources };
}

type DeployProblemFailure = Parameters<typeof problemOfCheck>[2];
