// ebb restart NAME

import type { CommandContext } from "../context.ts";

export async function run({ arguments: [name = ""], output, project, client }: CommandContext): Promise<void> {
  await (await client()).workloads.restart(project, name);
  if (output.json) return output.value({ restarted: name });
  output.line(`${name}: every instance is being replaced`);
}
