// From a declared job to a revision that may run: settings and code. There is nothing to load: whether it works, its runs tell.

import { lstat } from "node:fs/promises";
import { join } from "node:path";
import type { JobDeclaration } from "#app/door.ts";
import { EbbError } from "#model/errors.ts";
import type { JobRevision } from "#model/workload.ts";
import type { SettledJob } from "../app-tools.ts";
import type { Context } from "../context.ts";
import { jobDigest } from "./digest.ts";
import { checkEgress, checkIsolation, checkName, checkQuota, checkSecrets } from "./plan-checks.ts";
import type { DeployFrame } from "./plan.ts";

export interface SettledJobDeclaration {
  readonly declaration: JobDeclaration;
  readonly settled: SettledJob;
}

export async function settleJob(
  context: Context,
  frame: DeployFrame,
  declaration: JobDeclaration,
): Promise<SettledJobDeclaration> {
  const { project } = frame;
  const { name } = declaration;
  checkName(name, project.name);
  const settled = context.app.settleJob({ declaration, flags: frame.flags, isolation: context.isolation });
  const { secrets, egress, memoryMb, command } = settled.settings;
  checkSecrets(context, project.name, name, secrets);
  checkIsolation(context, name, settled.settings);
  checkEgress(name, egress, project);
  checkQuota(project, { memoryMb, min: 0 });
  await checkProgram(join(frame.upload.folder, declaration.source), command[0] ?? "", name);
  return { declaration, settled };
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

export async function loadJob(
  context: Context,
  frame: DeployFrame,
  { declaration, settled }: SettledJobDeclaration,
): Promise<JobRevision> {
  const project = frame.project.name;
  const workload = declaration.name;
  const { progress } = frame;
  progress({ step: "building", workload });
  const code = await context.builds.build(frame.upload, declaration.source, null);
  progress({ step: "built", workload, files: code.files, transpiled: code.transpiled });
  const { runtime } = settled.settings;
  await context.interpreters.provide(runtime, (what) => progress({ step: "fetching", workload, what }));
  progress({ step: "checked", workload, runtime, entry: null, handler: null, signature: "program" });
  return {
    project,
    workload,
    kind: "job",
    number: (context.mirror.workload(project, workload)?.workload.current ?? 0) + 1,
    codeDigest: code.digest,
    digest: jobDigest(code.digest, settled),
    settings: settled.settings,
    settingSources: settled.sources,
    createdMs: context.clock.wallMs(),
    createdBy: frame.createdBy,
    gitCommit: frame.gitCommit,
  };
}
