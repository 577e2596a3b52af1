// ebb token

import type { CommandContext } from "../context.ts";

export async function run({ output, project, client }: CommandContext): Promise<void> {
  const made = await (await client()).tokens.short(project);
  if (output.json) return output.value(made);
  output.line(made.token);
}
