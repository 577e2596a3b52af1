// ebb projects rm NAME

import type { CommandContext } from "../context.ts";
import { confirm } from "../prompt.ts";

export async function run({ arguments: [name = ""], options, output, streams, client }: CommandContext): Promise<void> {
  const api = await client();
  if (!options.flag("yes")) {
    const workloads = await api.workloads.list(name);
    await confirm(
      `Project ${name} goes with its ${workloads.length} workloads, its secrets and its tokens.`,
      "Remove it?",
      streams,
    );
  }
  await api.projects.remove(name, true);
  if (output.json) return output.value({ removed: name });
  output.line(`project ${name} is removed`);
}
