// From a declared job to a revision that may run: settings, and code or an image. Nothing of it is run: whether it works, its runs tell.

import { lstat } from "node:fs/promises";
import { join } from "node:path";
import type { CodeJobDeclaration, ImageJobDeclaration, JobDeclaration } from "#app/door.ts";
import { EbbError } from "#model/errors.ts";
import { jobDefaults } from "#model/limits.ts";
import type { ImageJobRevision, JobRevision, JobSettings } from "#model/workload.ts";
import type { SettledJob } from "../app-tools.ts";
import type { Context } from "../context.ts";
import { imageJobDigest, jobDigest } from "./digest.ts";
import { fetchImage, imagesOf } from "./fetch-image.ts";
import { checkEgress, checkIsolation, checkName, checkQuota, checkSecrets } from "./plan-checks.ts";
import type { DeployFrame } from "./plan.ts";
import { problemOfCheck, type DeployProblem } from "./refusal.ts";

/** What can be said before anything is built or fetched; and then the rest. null: its problem has been noted. */
export async function settleAnyJob(
  context: Context,
  frame: DeployFrame,
  declaration: JobDeclaration,
  problems: DeployProblem[],
): Promise<() => Promise<JobRevision | null>> {
  if ("source" in declaration) return settleJob(context, frame, declaration);
  const { name, memoryMb = jobDefaults.memoryMb, pullSecret, secrets = [], egress = "internet" } = declaration;
  const wanted = pullSecret === undefined ? secrets : [...secrets, pullSecret];
  imagesOf(context, `${name}: a job of an image`);
  const { isolation = context.isolation } = declaration;
  const settings = { isolation, egress, memoryMb: frame.flags.memoryMb ?? memoryMb };
  checkJob(context, frame, name, { secrets: wanted, ...settings });
  await checkIsolation(context, name, settings);
  return () => planImageJob(context, frame, declaration, problems);
}

async function settleJob(
  context: Context,
  frame: DeployFrame,
  declaration: CodeJobDeclaration,
): Promise<() => Promise<JobRevision>> {
  const { name } = declaration;
  const settled = context.app.settleJob({ declaration, flags: frame.flags, isolation: context.isolation });
  const { command } = settled.settings;
  checkJob(context, frame, name, settled.settings);
  await checkIsolation(context, name, settled.settings);
  await checkProgram(join(frame.upload.folder, declaration.source), command[0] ?? "", name);
  return () => loadJob(context, frame, { declaration, settled });
}

function checkJob(
  context: Context,
  { project }: DeployFrame,
  name: string,
  { secrets, egress, memoryMb }: Pick<JobSettings, "secrets" | "egress" | "memoryMb">,
): void {
  checkName(name, project.name);
  checkSecrets(context, project.name, name, secrets);
  checkEgress(name, egress, project);
  checkQuota(project, { memoryMb, min: 0 });
}

/** One that is named by its path in the code; others are looked up where it runs. */
async function checkProgram(folder: string, program: string, name: string): Promise<void> {
  if (!program.includes("/") || program.startsWith("/") || program.split("/").includes("..")) return;
  const found = await lstat(join(folder, program)).catch(() => null);
  if (found === null) throw new EbbError("deploy_refused", `command: there is no ${program} in the source of ${name}`);
  if (found.isDirectory()) throw new EbbError("deploy_refused", `command: ${program} is a folder`);
  if (found.isFile() && (found.mode & 0o111) === 0)
    throw new EbbError("deploy_refused", `command: ${program} is not executable; chmod +x it, or name its interpreter`);
}

async function loadJob(
  context: Context,
  frame: DeployFrame,
  { declaration, settled }: { readonly declaration: CodeJobDeclaration; readonly settled: SettledJob },
): Promise<JobRevision> {
  const workload = declaration.name;
  const { progress } = frame;
  progress({ step: "building", workload });
  const code = await context.builds.build(frame.upload, declaration.source, null);
  progress({ step: "built", workload, files: code.files, transpiled: code.transpiled });
  const { runtime } = settled.settings;
  await context.interpreters.provide(runtime, (what) => progress({ step: "fetching", workload, what }));
  progress({ step: "checked", workload, runtime, entry: null, handler: null, signature: "program" });
  return {
    ...headOf(context, frame, workload),
    codeDigest: code.digest,
    digest: jobDigest(code.digest, settled),
    settings: settled.settings,
    settingSources: settled.sources,
  };
}

async function planImageJob(
  context: Context,
  frame: DeployFrame,
  declaration: ImageJobDeclaration,
  problems: DeployProblem[],
): Promise<JobRevision | null> {
  const workload = declaration.name;
  const { flags, progress, project } = frame;
  const image = await fetchImage(context, frame, declaration);
  const { isolation } = context;
  const settled = context.app.settleImageJob({ declaration, flags, config: image.config, isolation });
  const revision: ImageJobRevision = {
    ...headOf(context, frame, workload),
    imageDigest: image.digest,
    digest: imageJobDigest(image.digest, settled),
    settings: settled.settings,
    settingSources: settled.sources,
  };
  if (context.mirror.workload(project.name, workload)?.revision.digest !== revision.digest) {
    progress({ step: "checking", workload });
    const failure = await context.fleet.prove(revision);
    // Not its author's to mend: the platform's failure is never told as the image's.
    if (failure?.fault === "platform") throw new EbbError("internal", failure.message);
    if (failure !== null) {
      problems.push(problemOfCheck(workload, ".", failure, ""));
      return null;
    }
  }
  progress({ step: "checked", workload, runtime: null, entry: null, handler: null, signature: null });
  return revision;
}

function headOf(
  { mirror, clock }: Context,
  { project: { name: project }, createdBy, gitCommit }: DeployFrame,
  workload: string,
) {
  const number = (mirror.workload(project, workload)?.workload.current ?? 0) + 1;
  return { project, workload, kind: "job", number, createdMs: clock.wallMs(), createdBy, gitCommit } as const;
}
