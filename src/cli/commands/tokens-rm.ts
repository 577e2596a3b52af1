// ebb tokens rm ID

import type { CommandContext } from "../context.ts";

export async function run({ arguments: [id = ""], options, output, project, client }: CommandContext): Promise<void> {
  await (await client()).tokens.remove(options.flag("all") ? null : project, id);
  if (output.json) return output.value({ removed: id });
  output.line(`${id} is removed; it counts no more`);
}
