// ebb jobs stop RUN

import type { CommandContext } from "../context.ts";
import { sanitized } from "../output.ts";
import { runState } from "../run-words.ts";

export async function run({ arguments: [id = ""], output, project, client }: CommandContext): Promise<void> {
  const row = await (await client()).runs.stop(project, id);
  if (output.json) return output.value(row);
  output.line(sanitized(`run ${row.id} is ${runState(row)}`));
}
