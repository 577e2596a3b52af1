// ebb rm NAME

import type { CommandContext } from "../context.ts";

export async function run({ arguments: [name = ""], output, project, client }: CommandContext): Promise<void> {
  await (await client()).workloads.remove(project, name);
  if (output.json) return output.value({ removed: name });
  output.line(`${name} is removed`);
}
