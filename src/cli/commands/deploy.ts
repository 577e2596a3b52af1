// ebb deploy PATH

import type { Collected } from "#app/collect.ts";
import type { Client } from "#client/client.ts";
import { defaultProject } from "#model/names.ts";
import type { CommandContext } from "../context.ts";
import { printDeployed, sendDeploy } from "../deploy.ts";
import { Failure, UsageError } from "../failure.ts";
import { sanitized } from "../output.ts";
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
  const prune = options.flag("prune");
  const answer = await sendDeploy(api, path, {
    project: projectSaid,
    name: options.text("name"),
    memoryMb: options.number("memory"),
    env,
    public: options.flag("public") ? true : options.flag("private") ? false : null,
    prune,
    noted: (note) => output.note(sanitized(note)),
    agreed: async (collected) => {
      if (prune && !options.flag("yes")) await agreeToPrune(api, projectSaid, collected);
    },
  });
  if (output.json) output.value(answer);
  else printDeployed(output, answer);
}

/** Asks, naming what will go; nothing is asked where nothing goes. */
async function agreeToPrune(api: Client, projectSaid: string | null, { app }: Collected): Promise<void> {
  if (app === null) throw new Failure("--prune removes what ebb.yaml does not declare; there is no ebb.yaml here");
  const project = projectSaid ?? app.project ?? defaultProject;
  const declared = new Set(app.functions.map(({ name }) => name));
  const known = (await api.projects.list()).some(({ name }) => name === project);
  const doomed = known ? (await api.workloads.list(project)).filter(({ name }) => !declared.has(name)) : [];
  if (doomed.length > 0)
    await confirm(`--prune removes ${doomed.map(({ name }) => name).join(", ")} from project ${project}.`, "Deploy?");
}
