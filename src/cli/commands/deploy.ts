// ebb deploy PATH

import type { Collected } from "#app/collect.ts";
import type { Client } from "#client/client.ts";
import { deployLimits } from "#model/limits.ts";
import { defaultProject } from "#model/names.ts";
import type { CommandContext } from "../context.ts";
import { printDeployed, sendDeploy } from "../deploy.ts";
import { Failure, UsageError } from "../failure.ts";
import { confirm } from "../prompt.ts";

export async function run(context: CommandContext): Promise<void> {
  const {
    arguments: [path = "."],
    options,
    output,
    projectSaid,
  } = context;
  if (options.flag("public") && options.flag("private"))
    throw new UsageError("ebb deploy: --public or --private, not both");
  const env = options.many("env");
  for (const pair of env)
    if (!/^[^=]+=/.test(pair)) throw new UsageError(`ebb deploy: --env: expected K=V, found "${pair}"`);
  const api = await context.client();
  const answer = await sendDeploy(api, path, {
    project: projectSaid,
    name: options.text("name"),
    memoryMb: options.number("memory"),
    env,
    public: options.flag("public") ? true : options.flag("private") ? false : null,
    output,
    ...(options.flag("no-cache") && { noCache: true }),
    ...(options.flag("prune") && {
      prune: (collected) => agreeToPrune(context, api, collected),
    }),
  });
  if (output.json) output.value(answer);
  else printDeployed(output, answer);
}

/** Names what will go, and asks; nothing is asked where nothing goes, or with --yes. */
async function agreeToPrune(
  { options, streams, projectSaid }: CommandContext,
  api: Client,
  { app }: Collected,
): Promise<{ project: string; prune: readonly string[] }> {
  if (app === null) throw new Failure("--prune removes what ebb.yaml does not declare; there is no ebb.yaml here");
  const project = projectSaid ?? app.project ?? (await api.identity()).project ?? defaultProject;
  const declared = new Set([...app.functions, ...(app.containers ?? []), ...(app.jobs ?? [])].map(({ name }) => name));
  const known = (await api.projects.list()).some((one) => one.name === project);
  const others = known ? (await api.workloads.list(project)).filter(({ name }) => !declared.has(name)) : [];
  const prune = others.map(({ name }) => name);
  const { prunedAtOnce } = deployLimits;
  if (prune.length > prunedAtOnce)
    throw new Failure(
      `--prune would remove ${prune.length} workloads from project ${project}; a deploy removes at most ${prunedAtOnce}`,
    );
  if (prune.length > 0 && !options.flag("yes"))
    await confirm(`--prune removes ${prune.join(", ")} from project ${project}.`, "Deploy?", streams);
  return { project, prune };
}
