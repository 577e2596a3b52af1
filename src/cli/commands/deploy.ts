// ebb deploy PATH

import { UsageError } from "../failure.ts";
import type { CommandContext } from "../context.ts";
import { printDeployed, sendDeploy } from "../deploy.ts";

export async function run({
  arguments: [path = "."],
  options,
  output,
  projectSaid,
  client,
}: CommandContext): Promise<void> {
  if (options.flag("public") && options.flag("private"))
    throw new UsageError("ebb deploy: --public or --private, not both");
  const env = options.many("env");
  for (const pair of env)
    if (!/^[^=]+=/.test(pair)) throw new UsageError(`ebb deploy: --env: expected K=V, found "${pair}"`);
  const answer = await sendDeploy(await client(), path, {
    project: projectSaid,
    name: options.text("name"),
    memoryMb: options.number("memory"),
    env,
    public: options.flag("public") ? true : options.flag("private") ? false : null,
    prune: options.flag("prune"),
  });
  if (output.json) output.value(answer);
  else printDeployed(output, answer);
}
