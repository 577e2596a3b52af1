// ebb projects create NAME

import type { CommandContext } from "../context.ts";

export async function run({ arguments: [name = ""], output, client }: CommandContext): Promise<void> {
  const project = await (await client()).projects.create(name);
  if (output.json) return output.value(project);
  output.line(`project ${project.name} is made`);
}
